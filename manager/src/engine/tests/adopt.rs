use skep_proto::objects::Identified;
use skep_proto::v1::{Availability, NodeState, TaskState};

use crate::engine::testing::{Lab, SECOND, global};

fn one_down() -> (Lab, skep_proto::v1::Task) {
    let mut lab = Lab::new(2);
    lab.service("web", 1, |_| {});
    lab.obey();
    let old = lab.task("web", 1);
    lab.node_state(&old.node_id, NodeState::Down);
    lab.decide();
    (lab, old)
}

#[test]
fn a_node_that_is_back_keeps_its_task_while_the_replacement_does_not_run() {
    let (mut lab, old) = one_down();
    let new = lab.task("web", 1);
    lab.report(&new, TaskState::Ready);
    lab.decide();
    lab.node_state(&old.node_id, NodeState::Ready);
    lab.decide();
    assert_eq!(lab.task("web", 1).id(), old.id());
    assert_eq!(lab.task("web", 1).desired(), TaskState::Running);
    lab.obey();
    assert_eq!(lab.tasks("web").len(), 1, "the replacement is forgotten");
    assert_eq!(lab.last.wake_at, None);
}

#[test]
fn a_replacement_that_runs_keeps_the_slot() {
    let (mut lab, old) = one_down();
    lab.pass(5 * SECOND);
    lab.report(&lab.task("web", 1), TaskState::Running);
    lab.decide();
    lab.node_state(&old.node_id, NodeState::Ready);
    lab.decide();
    assert_ne!(lab.task("web", 1).id(), old.id());
    assert_eq!(
        lab.world.task(old.id()).unwrap().desired(),
        TaskState::Shutdown
    );
}

#[test]
fn a_task_of_an_older_template_is_not_adopted() {
    let (mut lab, old) = one_down();
    lab.change("web", true, |s| s.task.as_mut().unwrap().force_update = 1);
    lab.decide();
    lab.node_state(&old.node_id, NodeState::Ready);
    lab.decide();
    assert_ne!(lab.task("web", 1).id(), old.id());
}

#[test]
fn a_task_of_a_node_that_is_drained_meanwhile_is_not_adopted() {
    let (mut lab, old) = one_down();
    lab.availability(&old.node_id, Availability::Drain);
    lab.node_state(&old.node_id, NodeState::Ready);
    lab.decide();
    assert_ne!(lab.task("web", 1).id(), old.id());
}

#[test]
fn a_global_task_outlives_its_node_s_absence() {
    let mut lab = Lab::new(2);
    lab.service("agent", 0, global);
    lab.obey();
    let before = lab.show("agent");
    lab.node_state("n1", NodeState::Down);
    lab.decide();
    assert_eq!(
        lab.show("agent"),
        "0 n1 shutdown/running\n0 n2 running/running"
    );
    lab.node_state("n1", NodeState::Ready);
    lab.decide();
    assert_eq!(lab.show("agent"), before);
}
