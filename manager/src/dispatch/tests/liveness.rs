use std::time::Duration;

use skep_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::dispatch::testkit::*;
use crate::seam::Follow;

/// Long enough for a busy machine, short enough for a test.
const PERIOD: Duration = Duration::from_millis(150);

async fn manager() -> Manager {
    let changes = [put(cluster_beating(PERIOD)), put_node("n1"), put_node("n2")];
    Manager::start(Swarm::leading(changes)).await
}

#[tokio::test]
async fn a_broken_session_is_suspect_then_down_and_ready_when_it_is_back() {
    let manager = manager().await;
    let (worker, _) = Worker::open(&manager, "n1").await;
    drop(worker);
    manager.swarm.until_state("n1", NodeState::Suspect).await;
    manager.swarm.until_state("n1", NodeState::Down).await;
    let status = manager
        .swarm
        .world()
        .node("n1")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(status.state(), NodeState::Down);
    let (_worker, _) = Worker::open(&manager, "n1").await;
    assert_eq!(manager.swarm.state("n1"), NodeState::Ready);
}

#[tokio::test]
async fn heartbeats_keep_a_node_and_their_end_loses_it() {
    let manager = manager().await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let (beats, heartbeats) = mpsc::channel(1);
    let mut beating = manager.dial("n1").await;
    let heartbeats = ReceiverStream::new(heartbeats);
    let mut replies = beating.heartbeats(heartbeats).await.unwrap().into_inner();
    let started = std::time::Instant::now();
    for sequence in 1.. {
        beats.send(Heartbeat { sequence }).await.unwrap();
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!((reply.sequence, reply.term), (sequence, 1));
        assert_eq!(reply.period_ns, PERIOD.as_nanos() as i64);
        assert_eq!(manager.swarm.state("n1"), NodeState::Ready);
        if started.elapsed() > PERIOD * 8 {
            break;
        }
        tokio::time::sleep(PERIOD / 3).await;
    }
    // The session stays open, but nothing is heard any more.
    assert_eq!(worker.end().await.code(), tonic::Code::Unavailable);
    assert_eq!(manager.swarm.state("n1"), NodeState::Down);
}

#[tokio::test]
async fn a_new_leader_waits_for_the_nodes_before_it_calls_them_down() {
    let swarm = Swarm::leading([put(cluster_beating(PERIOD)), put_node("n1")]);
    let mut ready = node("n1");
    ready.status = Some(NodeStatus {
        state: NodeState::Ready.into(),
        ..NodeStatus::default()
    });
    swarm.change([put(ready)]);
    let began = std::time::Instant::now();
    let manager = Manager::start(swarm.clone()).await;
    manager.swarm.until_state("n1", NodeState::Suspect).await;
    assert!(began.elapsed() >= PERIOD * 4);
    manager.swarm.until_state("n1", NodeState::Down).await;
    assert!(began.elapsed() >= PERIOD * 8);
}

#[tokio::test]
async fn a_node_that_leaves_is_down_at_once() {
    let manager = manager().await;
    let (worker, _) = Worker::open(&manager, "n1").await;
    worker
        .say(worker_message::Message::Goodbye(Goodbye {}))
        .await;
    manager.swarm.until_state("n1", NodeState::Down).await;
    let suspected = |verb: &write_request::Verb| matches!(verb, write_request::Verb::NodeLost(lost) if lost.state() == NodeState::Suspect);
    assert!(!manager.swarm.verbs().iter().any(suspected));
}

#[tokio::test]
async fn a_state_that_somebody_else_got_wrong_is_put_right() {
    let manager = manager().await;
    let (_worker, _) = Worker::open(&manager, "n1").await;
    let mut down = node("n1");
    down.status = Some(NodeStatus::default());
    manager.swarm.change([put(down)]);
    manager.swarm.until_state("n1", NodeState::Ready).await;
}
