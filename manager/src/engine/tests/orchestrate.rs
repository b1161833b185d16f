use skep_proto::objects::Identified;
use skep_proto::v1::{Availability, Kind, NodeState, TaskState};

use crate::engine::testing::{Lab, global, placement};

#[test]
fn a_new_service_is_created_and_placed_in_one_decision() {
    let mut lab = Lab::new(3);
    lab.service("web", 5, |_| {});
    lab.decide();
    assert_eq!(lab.spread("web"), [2, 2, 1]);
    assert!(
        lab.live("web")
            .iter()
            .all(|t| t.state() == TaskState::Assigned)
    );
    assert_eq!(lab.last.changes.len(), 5, "one change per task");
}

#[test]
fn scaling_up_fills_the_lowest_free_slots() {
    let mut lab = Lab::new(2);
    lab.service("web", 4, |_| {});
    lab.obey();
    lab.scale("web", 2);
    lab.obey();
    let slots: Vec<u64> = lab.live("web").iter().map(|t| t.slot).collect();
    assert_eq!(slots.len(), 2);
    lab.scale("web", 5);
    lab.obey();
    let slots: Vec<u64> = lab.live("web").iter().map(|t| t.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4, 5]);
}

#[test]
fn scaling_down_takes_from_the_fullest_nodes_and_keeps_no_record() {
    let mut lab = Lab::new(2);
    lab.service("web", 4, |_| {});
    lab.obey();
    lab.scale("web", 2);
    lab.decide();
    assert_eq!(lab.spread("web"), [1, 1]);
    lab.obey();
    assert_eq!(lab.tasks("web").len(), 2);
}

#[test]
fn scaling_down_gives_up_what_does_not_run_first() {
    let mut lab = Lab::new(2);
    lab.service("web", 2, |_| {});
    lab.obey();
    lab.scale("web", 4);
    lab.decide();
    lab.scale("web", 2);
    lab.decide();
    let slots: Vec<u64> = lab.live("web").iter().map(|t| t.slot).collect();
    assert_eq!(slots, [1, 2]);
}

#[test]
fn tasks_that_were_never_placed_are_deleted_at_once() {
    let mut lab = Lab::new(0);
    lab.service("web", 3, |_| {});
    lab.decide();
    assert_eq!(lab.tasks("web").len(), 3);
    lab.remove(Kind::Service, "web");
    lab.decide();
    assert_eq!(lab.world.task_count(), 0);
}

#[test]
fn tasks_of_a_removed_service_are_forgotten_once_they_stopped() {
    let mut lab = Lab::new(1);
    lab.service("web", 2, |_| {});
    lab.obey();
    lab.remove(Kind::Service, "web");
    lab.decide();
    assert_eq!(lab.show("web"), "1 n1 remove/running\n2 n1 remove/running");
    lab.obey();
    assert_eq!(lab.world.task_count(), 0);
}

#[test]
fn a_global_service_has_a_task_on_each_node_that_may_have_one() {
    let mut lab = Lab::new(3);
    lab.node_spec("n3", |s| drop(s.labels.insert("zone".into(), "eu".into())));
    lab.availability("n2", Availability::Pause);
    lab.service("agent", 0, |s| {
        global(s);
        placement(s).constraints = vec!["node.labels.zone!=eu".into()];
    });
    lab.obey();
    assert_eq!(lab.show("agent"), "0 n1 running/running");
    lab.availability("n2", Availability::Active);
    lab.obey();
    assert_eq!(
        lab.show("agent"),
        "0 n1 running/running\n0 n2 running/running"
    );
    lab.node_spec("n1", |s| drop(s.labels.insert("zone".into(), "eu".into())));
    lab.obey();
    assert_eq!(
        lab.show("agent"),
        "0 n1 shutdown/shutdown\n0 n2 running/running"
    );
}

#[test]
fn a_global_task_of_a_drained_node_stops_and_comes_back_with_it() {
    let mut lab = Lab::new(1);
    lab.service("agent", 0, global);
    lab.obey();
    lab.availability("n1", Availability::Drain);
    lab.obey();
    assert_eq!(lab.show("agent"), "0 n1 shutdown/shutdown");
    lab.availability("n1", Availability::Active);
    lab.obey();
    assert_eq!(
        lab.show("agent"),
        "0 n1 shutdown/shutdown\n0 n1 running/running"
    );
}

#[test]
fn records_of_a_global_service_go_with_their_node() {
    let mut lab = Lab::new(2);
    lab.service("agent", 0, global);
    lab.obey();
    lab.remove(Kind::Node, "n1");
    lab.decide();
    assert_eq!(lab.show("agent"), "0 n2 running/running");
}

#[test]
fn nothing_on_a_suspect_node_is_touched_and_nothing_new_comes_to_it() {
    for state in [NodeState::Suspect, NodeState::Unknown] {
        let mut lab = Lab::new(2);
        lab.service("web", 2, |_| {});
        lab.service("agent", 0, global);
        lab.obey();
        lab.node_state("n1", state);
        assert_eq!(lab.decide(), "");
        lab.scale("web", 6);
        lab.decide();
        assert_eq!(lab.spread("web"), [5, 1]);
        assert!(
            lab.world
                .tasks_on_node("n1")
                .all(|t| t.desired() == TaskState::Running)
        );
        assert!(
            lab.tasks("agent")
                .iter()
                .all(|t| t.state() == TaskState::Running),
            "{}",
            lab.world.node("n1").unwrap().id()
        );
    }
}
