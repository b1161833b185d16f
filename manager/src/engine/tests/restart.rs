use skep_proto::objects::Identified;
use skep_proto::v1::{Availability, Kind, NodeState, RestartCondition, TaskState};

use crate::engine::testing::{Lab, SECOND, placement, policy};

fn running(nodes: usize, with: impl FnOnce(&mut skep_proto::v1::ServiceSpec)) -> Lab {
    let mut lab = Lab::new(nodes);
    lab.service("web", 1, with);
    lab.obey();
    lab
}

#[test]
fn a_task_that_fails_is_followed_by_one_that_starts_after_the_delay() {
    let mut lab = running(1, |_| {});
    lab.report(&lab.task("web", 1), TaskState::Failed);
    lab.decide();
    assert_eq!(lab.show("web"), "1 n1 shutdown/failed\n1 n1 ready/assigned");
    assert_eq!(
        lab.last.wake_at,
        Some(lab.now + 5 * SECOND),
        "Swarm's default is 5 s"
    );
    lab.obey();
    assert_eq!(
        lab.show("web"),
        "1 n1 shutdown/failed\n1 n1 ready/ready",
        "prepared meanwhile"
    );
    assert_eq!(lab.pass(5 * SECOND - 1), "");
    lab.pass(1);
    assert_eq!(lab.task("web", 1).desired(), TaskState::Running);
    assert_eq!(lab.last.wake_at, None);
}

#[test]
fn without_a_delay_the_next_task_may_start_at_once() {
    let mut lab = running(1, |s| policy(s).delay_ns = Some(0));
    lab.report(&lab.task("web", 1), TaskState::Failed);
    lab.decide();
    assert_eq!(
        lab.show("web"),
        "1 n1 shutdown/failed\n1 n1 running/assigned"
    );
}

#[test]
fn a_task_rejected_while_it_waits_does_not_shorten_the_wait() {
    let mut lab = running(1, |s| policy(s).delay_ns = Some(10 * SECOND));
    lab.report(&lab.task("web", 1), TaskState::Failed);
    lab.decide();
    let start = lab.task("web", 1).start_at_ns;
    lab.change("web", false, |s| policy(s).delay_ns = Some(0));
    lab.report(&lab.task("web", 1), TaskState::Rejected);
    lab.decide();
    assert_eq!(lab.task("web", 1).start_at_ns, start);
}

#[test]
fn a_condition_says_which_ends_are_followed() {
    for (condition, end, follows) in [
        (RestartCondition::Any, TaskState::Complete, true),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::None, TaskState::Failed, false),
        (RestartCondition::None, TaskState::Complete, false),
    ] {
        let mut lab = running(1, |s| policy(s).condition = condition.into());
        lab.report(&lab.task("web", 1), end);
        lab.decide();
        assert_eq!(lab.live("web").len() == 1, follows, "{condition:?} {end:?}");
        lab.scale("web", 2);
        lab.decide();
        assert_eq!(
            lab.live("web").len(),
            1 + usize::from(follows),
            "a finished slot stays taken"
        );
    }
}

#[test]
fn attempts_are_limited_and_survive_a_trimmed_history() {
    let mut lab = running(1, |s| {
        policy(s).max_attempts = 7;
        policy(s).delay_ns = Some(0);
    });
    for left in (0..8).rev() {
        lab.now += 1;
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.decide();
        assert_eq!(lab.live("web").len(), usize::from(left > 0), "{left} left");
    }
}

#[test]
fn attempts_out_of_the_window_are_forgotten() {
    let mut lab = running(1, |s| {
        policy(s).max_attempts = 2;
        policy(s).delay_ns = Some(0);
        policy(s).window_ns = 60 * SECOND;
    });
    for _ in 0..10 {
        lab.now += 31 * SECOND;
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.decide();
        assert_eq!(lab.live("web").len(), 1);
    }
    for _ in 0..2 {
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.decide();
        lab.now += SECOND;
        if lab.live("web").is_empty() {
            return;
        }
    }
    panic!("three failures within the window, and it is restarted still");
}

#[test]
fn a_down_node_s_tasks_are_replaced_elsewhere_without_waiting_for_them() {
    let mut lab = running(2, |s| policy(s).delay_ns = Some(0));
    let home = lab.task("web", 1).node_id;
    lab.node_state(&home, NodeState::Down);
    lab.decide();
    let moved = lab.task("web", 1);
    assert_ne!(moved.node_id, home);
    assert_eq!(moved.desired(), TaskState::Running);
    assert_eq!(moved.state(), TaskState::Assigned);
}

#[test]
fn a_down_node_s_tasks_wait_for_the_restart_delay() {
    let mut lab = running(2, |_| {});
    let home = lab.task("web", 1).node_id;
    lab.node_state(&home, NodeState::Down);
    lab.decide();
    assert_eq!(lab.task("web", 1).start_at_ns, lab.now + 5 * SECOND);
}

#[test]
fn a_drained_node_s_tasks_move_without_delay_once_they_stopped() {
    let mut lab = running(2, |_| {});
    let old = lab.task("web", 1);
    lab.availability(&old.node_id, Availability::Drain);
    lab.decide();
    let new = lab.task("web", 1);
    assert_ne!(new.node_id, old.node_id);
    assert_eq!(new.desired(), TaskState::Ready, "the old one still runs");
    lab.report(&old, TaskState::Shutdown);
    lab.decide();
    assert_eq!(lab.task("web", 1).desired(), TaskState::Running);
}

#[test]
fn a_task_that_does_not_stop_holds_up_its_successor_for_a_minute() {
    let mut lab = running(2, |_| {});
    let old = lab.task("web", 1);
    lab.availability(&old.node_id, Availability::Drain);
    lab.decide();
    lab.pass(60 * SECOND - 1);
    assert_eq!(lab.task("web", 1).desired(), TaskState::Ready);
    lab.pass(1);
    assert_eq!(lab.task("web", 1).desired(), TaskState::Running);
}

#[test]
fn a_removed_node_s_tasks_are_orphaned_and_replaced() {
    let mut lab = running(2, |s| policy(s).delay_ns = Some(0));
    let old = lab.task("web", 1);
    lab.remove(Kind::Node, &old.node_id);
    lab.decide();
    assert_ne!(lab.task("web", 1).node_id, old.node_id);
    assert_eq!(
        lab.world.task(old.id()).unwrap().state(),
        TaskState::Orphaned
    );
}

#[test]
fn a_node_that_is_down_for_a_day_loses_its_tasks() {
    let mut lab = running(2, |_| {});
    let old = lab.task("web", 1);
    lab.node_state(&old.node_id, NodeState::Down);
    lab.obey();
    lab.pass(10 * SECOND);
    lab.obey();
    lab.pass(24 * 3_600 * SECOND - 10 * SECOND);
    assert_eq!(
        lab.world.task(old.id()).unwrap().state(),
        TaskState::Orphaned
    );
    assert_eq!(lab.last.wake_at, None);
}

#[test]
fn a_node_that_no_longer_meets_the_constraints_is_left() {
    let mut lab = Lab::new(2);
    for id in ["n1", "n2"] {
        lab.node_spec(id, |s| drop(s.labels.insert("zone".into(), "eu".into())));
    }
    lab.service("web", 1, |s| {
        placement(s).constraints = vec!["node.labels.zone==eu".into()]
    });
    lab.obey();
    let old = lab.task("web", 1);
    lab.node_spec(&old.node_id, |s| s.labels.clear());
    lab.decide();
    assert_ne!(lab.task("web", 1).node_id, old.node_id);
    let error = lab
        .world
        .task(old.id())
        .unwrap()
        .status
        .clone()
        .unwrap()
        .error;
    assert_eq!(error, "assigned node no longer meets constraints");
    lab.obey();
    assert_eq!(lab.task("web", 1).state(), TaskState::Running);
}

#[test]
fn a_paused_node_keeps_what_it_has() {
    let mut lab = running(2, |_| {});
    let old = lab.task("web", 1);
    lab.availability(&old.node_id, Availability::Pause);
    assert_eq!(lab.decide(), "");
}
