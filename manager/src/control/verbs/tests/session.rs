use super::*;

fn seen(id: &str, hostname: &str, running: Vec<TaskReport>) -> Verb {
    Verb::NodeSeen(NodeSeen {
        node_id: id.to_owned(),
        addr: "10.0.0.9".to_owned(),
        description: Some(NodeDescription {
            hostname: hostname.to_owned(),
            ..NodeDescription::default()
        }),
        running,
    })
}

fn lost(id: &str, state: i32) -> Verb {
    Verb::NodeLost(NodeLost {
        node_ids: vec![id.to_owned(), "unknown".to_owned()],
        state,
        message: "silent".to_owned(),
    })
}

fn report(id: &str, state: TaskState, message: &str) -> TaskReport {
    TaskReport {
        task_id: id.to_owned(),
        status: Some(TaskStatus {
            state: state.into(),
            message: message.to_owned(),
            applied_at_ns: 77,
            ..TaskStatus::default()
        }),
    }
}

fn reports(node: &str, reports: Vec<TaskReport>) -> Verb {
    Verb::ReportStatuses(ReportStatuses {
        node_id: node.to_owned(),
        reports,
    })
}

fn with_task(state: TaskState) -> Swarm {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    swarm.place("t1", "web", 1, NODE, state);
    swarm
}

#[test]
fn a_node_that_is_seen_is_ready_and_seeing_it_again_says_nothing_new() {
    let mut swarm = Swarm::founded();
    swarm.ok(seen(NODE, "alpha", vec![]));
    let node = swarm.node(NODE);
    assert_eq!((node.state(), node.hostname()), (NodeState::Ready, "alpha"));
    assert_eq!(node.status.unwrap().addr, "10.0.0.9");
    let version = swarm.world.version();
    swarm.ok(seen(NODE, "alpha", vec![]));
    assert_eq!(swarm.world.version(), version);
    swarm.ok(seen(NODE, "beta", vec![]));
    assert_eq!(swarm.node(NODE).hostname(), "beta");
}

#[test]
fn a_node_goes_from_suspect_to_down_and_stays_down_until_it_is_seen() {
    let mut swarm = Swarm::founded();
    swarm.ok(seen(NODE, "alpha", vec![]));
    swarm.ok(lost(NODE, NodeState::Suspect.into()));
    assert_eq!(swarm.node(NODE).state(), NodeState::Suspect);
    swarm.ok(lost(NODE, NodeState::Down.into()));
    let down = swarm.node(NODE).status.unwrap();
    assert_eq!(
        (down.state(), down.message.as_str(), down.addr.as_str()),
        (NodeState::Down, "silent", "10.0.0.9")
    );
    swarm.ok(lost(NODE, NodeState::Unknown.into()));
    swarm.ok(lost(NODE, NodeState::Suspect.into()));
    assert_eq!(swarm.node(NODE).status.unwrap(), down);
    swarm.ok(seen(NODE, "alpha", vec![]));
    assert_eq!(swarm.node(NODE).state(), NodeState::Ready);
    for state in [NodeState::Ready.into(), 9] {
        assert_eq!(swarm.err(lost(NODE, state)).field, "state");
    }
}

#[test]
fn what_a_returning_node_runs_is_taken_as_a_report() {
    let mut swarm = with_task(TaskState::Assigned);
    swarm.ok(seen(
        NODE,
        "alpha",
        vec![report("t1", TaskState::Running, "started")],
    ));
    assert_eq!(swarm.task("t1").state(), TaskState::Running);
}

#[test]
fn observed_states_move_only_forward_and_an_end_is_an_end() {
    use TaskState::{
        Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Rejected, Remove, Running,
        Shutdown,
    };
    for (from, to, moves) in [
        (Assigned, Preparing, true),
        (Preparing, Running, true),
        (Running, Preparing, false),
        (Running, Failed, true),
        (Assigned, Rejected, true),
        (Complete, Failed, false),
        (Failed, Running, false),
        (Orphaned, Running, false),
        (Shutdown, Failed, false),
        (New, Pending, false),
        (Assigned, Remove, false),
        (Assigned, Orphaned, false),
    ] {
        let mut swarm = with_task(from);
        swarm.ok(reports(NODE, vec![report("t1", to, "")]));
        let expected = if moves { to } else { from };
        assert_eq!(swarm.task("t1").state(), expected, "{from:?} to {to:?}");
    }
}

#[test]
fn a_report_is_stamped_by_the_leader_and_repeated_ones_change_nothing() {
    let mut swarm = with_task(TaskState::Assigned);
    swarm.ok(reports(
        NODE,
        vec![report("t1", TaskState::Running, "started")],
    ));
    assert_eq!(swarm.task("t1").status.unwrap().applied_at_ns, swarm.now);
    let version = swarm.world.version();
    swarm.ok(reports(
        NODE,
        vec![report("t1", TaskState::Running, "started")],
    ));
    assert_eq!(swarm.world.version(), version);
    swarm.ok(reports(
        NODE,
        vec![report("t1", TaskState::Running, "healthy")],
    ));
    assert_eq!(swarm.task("t1").status.unwrap().message, "healthy");
}

#[test]
fn of_a_batch_the_furthest_state_counts_and_makes_one_patch() {
    let mut swarm = with_task(TaskState::Assigned);
    let request = WriteRequest {
        verb: Some(reports(
            NODE,
            vec![
                report("t1", TaskState::Preparing, ""),
                report("t1", TaskState::Running, ""),
                report("t1", TaskState::Ready, ""),
                report("gone", TaskState::Running, ""),
            ],
        )),
        ..WriteRequest::default()
    };
    let execution = execute(&swarm.world, &request, NOW, Seed(1)).unwrap();
    assert_eq!(execution.changes.len(), 1);
    swarm.ok(request.verb.unwrap());
    assert_eq!(swarm.task("t1").state(), TaskState::Running);
}

#[test]
fn a_node_speaks_of_its_own_tasks_only() {
    let mut swarm = with_task(TaskState::Running);
    swarm.join("n2", Role::Worker);
    let response = swarm.ok(reports("n2", vec![report("t1", TaskState::Failed, "")]));
    assert_eq!(swarm.task("t1").state(), TaskState::Running);
    assert_eq!(response.warnings.len(), 1);
}

#[test]
fn a_status_is_bounded() {
    let mut swarm = with_task(TaskState::Assigned);
    swarm.ok(reports(
        NODE,
        vec![report("t1", TaskState::Failed, &"ä".repeat(100_000))],
    ));
    assert!(swarm.task("t1").status.unwrap().message.len() <= 1_100);
}
