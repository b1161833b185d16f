use skep_proto::v1::{Cluster, ClusterSpec, TaskState};

use crate::engine::testing::{Lab, meta, policy};

fn records_after_ten_failures(limit: Option<i64>) -> usize {
    let mut lab = Lab::new(1);
    lab.put(Cluster {
        meta: Some(meta("cluster")),
        spec: Some(ClusterSpec {
            task_history_limit: limit,
            ..ClusterSpec::default()
        }),
        ..Cluster::default()
    });
    lab.service("web", 1, |s| policy(s).delay_ns = Some(0));
    lab.obey();
    for _ in 0..10 {
        lab.now += 1;
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.obey();
    }
    lab.tasks("web").len()
}

#[test]
fn a_slot_keeps_as_many_records_as_the_cluster_says() {
    assert_eq!(records_after_ten_failures(None), 5);
    assert_eq!(records_after_ten_failures(Some(2)), 2);
    assert_eq!(records_after_ten_failures(Some(0)), 1);
    assert_eq!(records_after_ten_failures(Some(-1)), 11);
}

#[test]
fn a_lower_limit_applies_at_once() {
    let mut lab = Lab::new(1);
    lab.service("web", 1, |s| policy(s).delay_ns = Some(0));
    lab.obey();
    for _ in 0..10 {
        lab.now += 1;
        lab.report(&lab.task("web", 1), TaskState::Failed);
        lab.obey();
    }
    lab.put(Cluster {
        meta: Some(meta("cluster")),
        spec: Some(ClusterSpec {
            task_history_limit: Some(1),
            ..ClusterSpec::default()
        }),
        ..Cluster::default()
    });
    lab.decide();
    assert_eq!(lab.tasks("web").len(), 1);
}

#[test]
fn templates_that_no_record_has_are_dropped() {
    let mut lab = Lab::new(1);
    lab.put(Cluster {
        meta: Some(meta("cluster")),
        spec: Some(ClusterSpec {
            task_history_limit: Some(1),
            ..ClusterSpec::default()
        }),
        ..Cluster::default()
    });
    lab.service("web", 2, |_| {});
    lab.obey();
    lab.change("web", true, |s| s.task.as_mut().unwrap().force_update = 1);
    lab.decide();
    assert_eq!(lab.world.service("web").unwrap().templates.len(), 2);
    lab.obey();
    assert_eq!(lab.world.service("web").unwrap().templates.len(), 1);
}
