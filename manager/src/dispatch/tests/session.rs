use std::time::Duration;

use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;
use tonic::Code;

use crate::dispatch::LEADER_METADATA;
use crate::dispatch::testkit::*;
use crate::seam::Follow;

fn swarm_of_two() -> Vec<Change> {
    vec![
        put(cluster()),
        put_node("n1"),
        put_node("n2"),
        put_service("s1", "web", 1),
        put_task("t1", "s1", "n1", 1),
        put_task("t2", "s1", "n2", 1),
    ]
}

fn ids(put: &[Assignment]) -> Vec<&str> {
    put.iter().map(|a| a.task_id.as_str()).collect()
}

#[tokio::test]
async fn a_session_begins_with_the_full_set_and_goes_on_with_what_changed() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let swarm = &manager.swarm;
    let (mut worker, full) = Worker::open(&manager, "n1").await;
    assert_eq!(ids(&full.put), ["t1"]);
    assert_eq!(full.revision, swarm.world().version());
    assert_eq!(swarm.state("n1"), NodeState::Ready);
    let status = swarm.world().node("n1").unwrap().status.clone().unwrap();
    assert_eq!(status.addr, "127.0.0.1");

    // Of these only two concern the node: a status is not echoed.
    swarm.change([report("t1", TaskState::Running)]);
    swarm.change([put_task("t3", "s1", "n2", 1)]);
    let version = swarm.change([
        put_task("t4", "s1", "n1", 1),
        desire("t1", TaskState::Shutdown),
    ]);
    let delta = worker.assignments().await;
    assert!(!delta.full && delta.remove.is_empty());
    assert_eq!(ids(&delta.put), ["t1", "t4"]);
    assert_eq!(delta.put[0].desired(), TaskState::Shutdown);
    assert!(delta.put[0].generation > full.put[0].generation);
    assert_eq!(delta.revision, version);

    swarm.change([remove(Kind::Task, "t1")]);
    assert_eq!(worker.assignments().await.remove, ["t1"]);
}

#[tokio::test]
async fn a_feed_that_was_missed_ends_in_a_full_set() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    // Within one turn of the scheduler, more than the feed holds.
    for n in 0..64 {
        manager
            .swarm
            .change([put_task(&format!("t9{n:02}"), "s1", "n1", 1)]);
    }
    let mut known = std::collections::BTreeSet::new();
    let mut full = false;
    while known.len() < 65 {
        let told = worker.assignments().await;
        full |= told.full;
        known.extend(told.put.into_iter().map(|a| a.task_id));
    }
    assert!(full);
}

#[tokio::test]
async fn a_status_is_acknowledged_once_it_is_committed() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let swarm = &manager.swarm;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    swarm.held.send_replace(true);
    for (sequence, state) in [(1, TaskState::Preparing), (2, TaskState::Running)] {
        worker
            .say(worker_message::Message::Statuses(StatusBatch {
                sequence,
                reports: vec![task_report("t1", state), task_report("t2", state)],
            }))
            .await;
    }
    let silence = tokio::time::timeout(Duration::from_millis(100), worker.down.message());
    assert!(silence.await.is_err(), "acknowledged before the commit");
    swarm.held.send_replace(false);
    for sequence in [1, 2] {
        assert_eq!(
            worker.next().await,
            Message::StatusAck(StatusAck { sequence })
        );
    }
    assert_eq!(
        swarm.world().task("t1").unwrap().state(),
        TaskState::Running
    );
    assert_eq!(
        swarm.world().task("t2").unwrap().state(),
        TaskState::New,
        "it is another node's"
    );
}

#[tokio::test]
async fn a_hello_says_what_runs_and_what_ended() {
    let mut changes = swarm_of_two();
    changes.push(put_task("t3", "s1", "n1", 1));
    let manager = Manager::start(Swarm::leading(changes)).await;
    let reports = vec![
        task_report("t1", TaskState::Running),
        task_report("t3", TaskState::Failed),
        task_report("gone", TaskState::Running),
    ];
    let mut worker = Worker::hello(&manager, "n1", reports).await;
    assert!(matches!(worker.next().await, Message::Welcome(_)));
    let verbs = manager.swarm.verbs();
    let Verb::ReportStatuses(ended) = &verbs[0] else {
        panic!("{verbs:?}");
    };
    assert_eq!(ended.reports, [task_report("t3", TaskState::Failed)]);
    let Verb::NodeSeen(seen) = &verbs[1] else {
        panic!("{verbs:?}");
    };
    assert_eq!(seen.running, [task_report("t1", TaskState::Running)]);
}

#[tokio::test]
async fn a_second_session_replaces_the_first() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let (mut first, _) = Worker::open(&manager, "n1").await;
    let (mut second, _) = Worker::open(&manager, "n1").await;
    assert_eq!(first.end().await.code(), Code::Aborted);
    manager.swarm.change([desire("t1", TaskState::Shutdown)]);
    assert_eq!(ids(&second.assignments().await.put), ["t1"]);
    assert_eq!(
        manager.swarm.state("n1"),
        NodeState::Ready,
        "no loss was told"
    );
    let lost = |verb: &Verb| matches!(verb, Verb::NodeLost(_));
    assert!(!manager.swarm.verbs().iter().any(lost));
}

#[tokio::test]
async fn a_manager_that_does_not_lead_names_the_leader() {
    let swarm = Swarm::leading(swarm_of_two());
    let manager = Manager::start(swarm.clone()).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    swarm.lead(2, Some("10.0.0.2:2377"));
    let status = worker.end().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.metadata().get(LEADER_METADATA).unwrap(),
        "10.0.0.2:2377"
    );

    let refused = worker
        .client
        .session(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(
        refused.metadata().get(LEADER_METADATA).unwrap(),
        "10.0.0.2:2377"
    );
    let refused = worker
        .client
        .heartbeats(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    swarm.lead(3, None);
    let (worker, _) = Worker::open(&manager, "n1").await;
    drop(worker);
}

#[tokio::test]
async fn a_leader_without_a_quorum_sends_its_workers_away() {
    let mut changes = swarm_of_two();
    changes.push(put(cluster_beating(Duration::from_millis(50))));
    let swarm = Swarm::leading(changes);
    let manager = Manager::start(swarm.clone()).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    swarm.cut.send_replace(true);
    assert_eq!(worker.end().await.code(), Code::Unavailable);
    swarm.cut.send_replace(false);
    until("it dispatches again", || {
        manager.dispatcher.reigns.borrow().is_some()
    })
    .await;
    Worker::open(&manager, "n1").await;
}

#[tokio::test]
async fn a_removed_node_is_told_so_and_refused_from_then_on() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let (_beats, heartbeats) = tokio::sync::mpsc::channel(1);
    let heartbeats = tokio_stream::wrappers::ReceiverStream::new(heartbeats);
    let mut replies = worker
        .client
        .heartbeats(heartbeats)
        .await
        .unwrap()
        .into_inner();
    manager.swarm.change(remove_node("n1"));
    let Message::Notice(notice) = worker.next().await else {
        panic!("no notice");
    };
    assert_eq!(notice.kind(), notice::Kind::Removed);
    assert_eq!(worker.end().await.code(), Code::PermissionDenied);
    assert_eq!(
        replies.message().await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let refused = worker
        .client
        .session(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn workers_hear_of_managers_and_of_certificates_to_renew() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let mut other = node("n2");
    other.manager = Some(ManagerStatus {
        addr: "10.0.0.2:2377".to_owned(),
        ..ManagerStatus::default()
    });
    manager.swarm.change([put(other)]);
    let Message::Managers(managers) = worker.next().await else {
        panic!("no managers");
    };
    assert_eq!(managers.managers[0].addr, "10.0.0.2:2377");
    let mut promoted = node("n1");
    promoted.spec.as_mut().unwrap().role = Role::Manager.into();
    manager.swarm.change([put(promoted)]);
    let Message::Notice(notice) = worker.next().await else {
        panic!("no notice");
    };
    assert_eq!(notice.kind(), notice::Kind::RenewCertificate);
    assert_eq!(notice.role(), Role::Manager);
}

#[tokio::test]
async fn a_session_that_does_not_begin_with_a_hello_is_refused() {
    let manager = Manager::start(Swarm::leading(swarm_of_two())).await;
    let mut client = manager.dial("n1").await;
    let message = worker(worker_message::Message::Statuses(StatusBatch::default()));
    let messages = tokio_stream::once(message);
    let mut down = client.session(messages).await.unwrap().into_inner();
    assert_eq!(
        down.message().await.unwrap_err().code(),
        Code::InvalidArgument
    );
}
