use skep_proto::objects::Identified;
use skep_proto::v1::{NodeState, RestartCondition, TaskState};

use crate::engine::explain;
use crate::engine::testing::{Lab, SECOND, placement, policy};

#[test]
fn pending_tasks_are_explained_with_a_remedy() {
    let mut lab = Lab::new(2);
    lab.service("web", 3, |s| {
        placement(s).max_replicas = 1;
        policy(s).delay_ns = Some(0);
    });
    lab.obey();
    let explanation = explain(&lab.world, "web", lab.now).unwrap();
    assert_eq!(
        explanation.headline,
        "web: 2 of 3 running; 1 waits for a node"
    );
    assert_eq!(
        explanation.notes,
        [
            "web.3: no suitable node: 2 nodes have their max replicas per node (1)",
            "try: skep service update --replicas-max-per-node MORE web",
        ]
    );
}

#[test]
fn a_restart_that_is_waited_for_is_named_with_its_time() {
    let mut lab = Lab::new(1);
    lab.service("web", 1, |_| {});
    lab.obey();
    lab.report(&lab.task("web", 1), TaskState::Failed);
    lab.obey();
    lab.now += SECOND;
    let explanation = explain(&lab.world, "web", lab.now).unwrap();
    assert_eq!(
        explanation.headline,
        "web: 0 of 1 running; 1 waits to start again"
    );
    assert_eq!(
        explanation.notes,
        ["web.1: starts in 4.0 s: the task before it is failed"]
    );
    let task = explain(&lab.world, lab.task("web", 1).id(), lab.now).unwrap();
    assert_eq!(task.headline, "web.1 is ready on n1");
}

#[test]
fn tasks_that_are_over_and_nodes_that_are_silent_are_told() {
    let mut lab = Lab::new(2);
    lab.service("job", 2, |s| {
        policy(s).condition = RestartCondition::None.into()
    });
    lab.obey();
    lab.report(&lab.task("job", 1), TaskState::Complete);
    lab.decide();
    let node = lab.task("job", 2).node_id;
    lab.node_state(&node, NodeState::Suspect);
    lab.decide();
    lab.now += 2 * SECOND;
    let notes = explain(&lab.world, "job", lab.now).unwrap().notes;
    assert_eq!(
        notes,
        [
            "job.1: is complete and not started again: restart condition none".to_owned(),
            format!(
                "{node} lost its connection 2.0 s ago: its tasks are left alone until it is back or down"
            ),
        ]
    );
}

#[test]
fn what_is_neither_service_nor_task_is_not_found() {
    let lab = Lab::new(0);
    assert!(
        explain(&lab.world, "x", 0)
            .unwrap_err()
            .message
            .contains("not found")
    );
}
