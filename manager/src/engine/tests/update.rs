use skep_proto::v1::{
    FailureAction, RestartCondition, ServiceSpec, TaskState, UpdateConfig, UpdateOrder,
    update_status::State,
};

use crate::engine::testing::{Lab, SECOND, placement, policy};

fn with_update(replicas: u64, config: UpdateConfig) -> Lab {
    let mut lab = Lab::new(3);
    lab.service("web", replicas, |s| {
        s.update = Some(config);
        policy(s).delay_ns = Some(0);
    });
    lab.obey();
    lab
}

fn force(spec: &mut ServiceSpec) {
    spec.task.as_mut().unwrap().force_update += 1;
}

fn new_tasks(lab: &Lab) -> usize {
    let version = lab.world.service("web").unwrap().template_version;
    lab.live("web")
        .iter()
        .filter(|t| t.template_version == version)
        .count()
}

fn status(lab: &Lab) -> (State, String) {
    let status = lab
        .world
        .service("web")
        .unwrap()
        .update_status
        .clone()
        .expect("a status");
    (status.state(), status.message)
}

#[test]
fn a_change_of_nothing_that_tasks_have_restarts_nothing() {
    let mut lab = with_update(3, UpdateConfig::default());
    let before = lab.show("web");
    lab.change("web", false, |s| {
        drop(s.labels.insert("a".into(), "b".into()))
    });
    assert_eq!(lab.decide(), "");
    assert_eq!(lab.show("web"), before);
    assert_eq!(lab.world.service("web").unwrap().update_status, None);
}

#[test]
fn slots_are_replaced_so_many_at_a_time() {
    let mut lab = with_update(
        5,
        UpdateConfig {
            parallelism: 2,
            ..UpdateConfig::default()
        },
    );
    lab.change("web", true, force);
    lab.decide();
    assert_eq!(new_tasks(&lab), 2);
    assert_eq!(status(&lab).0, State::Updating);
    lab.obey();
    assert_eq!(new_tasks(&lab), 5);
    assert_eq!(status(&lab).0, State::Updating, "it is watched for a while");
    lab.pass(5 * SECOND);
    assert_eq!(status(&lab), (State::Completed, "update completed".into()));
    assert_eq!(lab.last.wake_at, None);
}

#[test]
fn stop_first_starts_the_new_task_when_the_old_one_has_stopped() {
    let mut lab = with_update(
        1,
        UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        },
    );
    let old = lab.task("web", 1);
    lab.change("web", true, force);
    lab.decide();
    let new = lab.task("web", 1);
    assert_eq!(new.desired(), TaskState::Ready);
    lab.report(&new, TaskState::Ready);
    lab.decide();
    assert_eq!(lab.task("web", 1).desired(), TaskState::Ready);
    lab.report(&old, TaskState::Shutdown);
    lab.decide();
    assert_eq!(lab.task("web", 1).desired(), TaskState::Running);
}

#[test]
fn start_first_stops_the_old_task_when_the_new_one_runs() {
    let config = UpdateConfig {
        parallelism: 1,
        order: UpdateOrder::StartFirst.into(),
        ..UpdateConfig::default()
    };
    let mut lab = with_update(1, config);
    lab.change("web", true, force);
    lab.decide();
    assert_eq!(lab.live("web").len(), 2);
    let new = lab.live("web")[1].clone();
    lab.report(&new, TaskState::Running);
    lab.decide();
    assert_eq!(lab.live("web").len(), 1);
    lab.obey();
    assert_eq!(lab.tasks("web").len(), 2, "one record of the old");
}

#[test]
fn the_delay_passes_between_slots() {
    let config = UpdateConfig {
        parallelism: 1,
        delay_ns: 10 * SECOND,
        ..UpdateConfig::default()
    };
    let mut lab = with_update(3, config);
    lab.change("web", true, force);
    for expected in 1..=3 {
        lab.obey();
        assert_eq!(new_tasks(&lab), expected);
        assert!(lab.last.wake_at.is_some());
        lab.pass(10 * SECOND - 1);
        assert_eq!(new_tasks(&lab), expected);
        lab.pass(1);
    }
    lab.pass(SECOND);
    assert_eq!(
        status(&lab).0,
        State::Completed,
        "monitored a second longer than the delay"
    );
}

#[test]
fn a_failing_task_pauses_the_update() {
    let mut lab = with_update(
        3,
        UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        },
    );
    lab.change("web", true, force);
    lab.decide();
    let version = lab.world.service("web").unwrap().template_version;
    let new = lab
        .live("web")
        .into_iter()
        .find(|t| t.template_version == version)
        .unwrap();
    lab.report(&new, TaskState::Running);
    lab.decide();
    lab.now += 4 * SECOND;
    lab.report(&new, TaskState::Failed);
    lab.obey();
    let id = skep_proto::objects::Identified::id(&new).to_owned();
    assert_eq!(
        status(&lab),
        (
            State::Paused,
            format!("update paused due to failure or early termination of task {id}")
        )
    );
    lab.pass(3_600 * SECOND);
    assert!(new_tasks(&lab) <= 2, "nothing more is replaced");
    lab.change("web", true, force);
    lab.obey();
    assert_eq!(new_tasks(&lab), 3, "the next update goes on");
}

#[test]
fn a_task_that_ends_while_the_update_is_paused_is_followed_by_its_like() {
    let mut lab = with_update(
        2,
        UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        },
    );
    lab.change("web", true, force);
    lab.decide();
    let version = lab.world.service("web").unwrap().template_version;
    let (new, old): (Vec<_>, Vec<_>) = lab
        .live("web")
        .into_iter()
        .partition(|t| t.template_version == version);
    lab.report(&new[0], TaskState::Rejected);
    lab.decide();
    assert_eq!(status(&lab).0, State::Paused);
    lab.report(&old[0], TaskState::Failed);
    lab.decide();
    assert_eq!(
        lab.task("web", old[0].slot).template_version,
        old[0].template_version
    );
}

#[test]
fn a_failure_after_the_monitor_period_does_not_count() {
    let config = UpdateConfig {
        parallelism: 1,
        delay_ns: 60 * SECOND,
        ..UpdateConfig::default()
    };
    let mut lab = with_update(2, config);
    lab.change("web", true, force);
    lab.obey();
    let version = lab.world.service("web").unwrap().template_version;
    let new = lab
        .live("web")
        .into_iter()
        .find(|t| t.template_version == version)
        .unwrap();
    lab.now += 6 * SECOND;
    lab.report(&new, TaskState::Failed);
    lab.obey();
    assert_eq!(status(&lab).0, State::Updating);
}

#[test]
fn failures_within_the_ratio_are_borne() {
    let config = UpdateConfig {
        parallelism: 4,
        max_failure_ratio: 0.25,
        ..UpdateConfig::default()
    };
    let mut lab = with_update(4, config);
    lab.change("web", true, force);
    lab.decide();
    for (failed, state) in [(0, State::Updating), (1, State::Paused)] {
        lab.report(&lab.live("web")[failed].clone(), TaskState::Rejected);
        lab.decide();
        assert_eq!(status(&lab).0, state);
    }
}

#[test]
fn a_failed_update_is_rolled_back_where_that_is_asked_for() {
    let config = UpdateConfig {
        parallelism: 1,
        failure_action: FailureAction::Rollback.into(),
        ..UpdateConfig::default()
    };
    let mut lab = with_update(3, config);
    let before: Vec<u64> = lab.live("web").iter().map(|t| t.template_version).collect();
    lab.change("web", true, force);
    lab.decide();
    let version = lab.world.service("web").unwrap().template_version;
    let new = lab
        .live("web")
        .into_iter()
        .find(|t| t.template_version == version)
        .unwrap();
    lab.report(&new, TaskState::Rejected);
    lab.decide();
    assert_eq!(status(&lab).0, State::RollbackStarted);
    lab.obey();
    let after: Vec<u64> = lab.live("web").iter().map(|t| t.template_version).collect();
    assert_eq!(after, before, "those that never left stay");
    lab.pass(5 * SECOND);
    assert_eq!(
        status(&lab),
        (State::RollbackCompleted, "rollback completed".into())
    );
    assert_eq!(lab.world.service("web").unwrap().previous_spec, None);
}

#[test]
fn a_placement_that_rules_out_a_node_moves_tasks_slot_by_slot() {
    let mut lab = with_update(
        3,
        UpdateConfig {
            parallelism: 1,
            ..UpdateConfig::default()
        },
    );
    let kept = lab
        .live("web")
        .into_iter()
        .find(|t| t.node_id == "n1")
        .unwrap();
    lab.change("web", false, |s| {
        placement(s).constraints = vec!["node.hostname==n1".into()]
    });
    lab.decide();
    assert_eq!(
        lab.live("web")
            .iter()
            .filter(|t| t.state() == TaskState::Running)
            .count(),
        2
    );
    lab.obey();
    assert!(lab.live("web").iter().all(|t| t.node_id == "n1"));
    assert!(lab.live("web").contains(&lab.task("web", kept.slot)));
}

#[test]
fn a_finished_slot_runs_again_with_the_next_template() {
    let mut lab = Lab::new(1);
    lab.service("job", 1, |s| {
        policy(s).condition = RestartCondition::None.into()
    });
    lab.obey();
    lab.report(&lab.task("job", 1), TaskState::Complete);
    lab.obey();
    assert!(lab.live("job").is_empty());
    lab.change("job", true, force);
    lab.obey();
    assert_eq!(lab.task("job", 1).state(), TaskState::Running);
}

#[test]
fn scaling_does_not_count_as_an_update() {
    let mut lab = with_update(2, UpdateConfig::default());
    lab.scale("web", 4);
    lab.obey();
    assert_eq!(lab.world.service("web").unwrap().update_status, None);
}

#[test]
fn an_update_waits_for_a_node_that_is_not_heard_of() {
    let mut lab = with_update(3, UpdateConfig::default());
    let silent = lab.task("web", 1).node_id;
    lab.node_state(&silent, skep_proto::v1::NodeState::Suspect);
    lab.change("web", true, force);
    lab.obey();
    assert_eq!(new_tasks(&lab), 2);
    lab.pass(60 * SECOND);
    assert_eq!(status(&lab).0, State::Updating);
    lab.node_state(&silent, skep_proto::v1::NodeState::Ready);
    lab.obey();
    assert_eq!(new_tasks(&lab), 3);
}
