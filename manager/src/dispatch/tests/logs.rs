use std::time::Duration;

use futures_util::StreamExt;
use skep_proto::v1::logs_response::Item;
use skep_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::dispatch::logs::LogStream;
use crate::dispatch::testkit::*;

fn swarm() -> Vec<Change> {
    vec![
        put(cluster()),
        put_node("n1"),
        put_node("n2"),
        put_service("s1", "web", 1),
        put_task("t1", "s1", "n1", 1),
        put_task("t2", "s1", "n2", 1),
    ]
}

fn request(reference: &str, follow: bool) -> LogsRequest {
    LogsRequest {
        reference: reference.to_owned(),
        follow,
        tail: None,
        since_ns: 0,
        stdout: true,
        stderr: true,
    }
}

fn line(task_id: &str, at_ns: i64, data: &str) -> LogLine {
    LogLine {
        task_id: task_id.to_owned(),
        at_ns,
        data: data.as_bytes().to_vec().into(),
        ..LogLine::default()
    }
}

fn published(id: &str, lines: Vec<LogLine>) -> LogsPublished {
    LogsPublished {
        subscription_id: id.to_owned(),
        lines,
        ..LogsPublished::default()
    }
}

async fn next(stream: &mut LogStream) -> Option<Item> {
    let wait = tokio::time::timeout(Duration::from_secs(10), stream.next());
    wait.await
        .expect("in time")
        .map(|r| r.unwrap().item.unwrap())
}

async fn subscription(worker: &mut Worker) -> LogSubscription {
    match worker.next().await {
        Message::Logs(subscription) => subscription,
        other => panic!("no subscription: {other:?}"),
    }
}

#[tokio::test]
async fn lines_come_with_their_source_and_missing_nodes_are_named() {
    let manager = Manager::start(Swarm::leading(swarm())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let mut logs = manager
        .dispatcher
        .stream_logs(request("s1", false), false)
        .await
        .unwrap();
    let asked = subscription(&mut worker).await;
    assert_eq!(asked.task_ids, ["t1"]);
    let Some(Item::Gap(gap)) = next(&mut logs).await else {
        panic!("no gap");
    };
    assert_eq!(
        (gap.node_id.as_str(), gap.hostname.as_str()),
        ("n2", "host-n2")
    );
    let lines = vec![line("t1", 1, "hello"), line("t2", 1, "of another node")];
    let end = LogsPublished {
        end: true,
        ..LogsPublished::default()
    };
    let messages = tokio_stream::iter([published(&asked.id, lines), end]);
    worker.client.publish_logs(messages).await.unwrap();
    let Some(Item::Source(source)) = next(&mut logs).await else {
        panic!("no source");
    };
    assert_eq!(
        (source.service_name.as_str(), source.hostname.as_str()),
        ("web", "host-n1")
    );
    let Some(Item::Batch(batch)) = next(&mut logs).await else {
        panic!("no lines");
    };
    assert_eq!(batch.lines, [line("t1", 1, "hello")]);
    assert_eq!(next(&mut logs).await, None);
}

#[tokio::test]
async fn tasks_join_while_logs_are_followed_and_leave_when_nobody_reads() {
    let manager = Manager::start(Swarm::leading(swarm())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let logs = manager
        .dispatcher
        .stream_logs(request("s1", true), false)
        .await
        .unwrap();
    let first = subscription(&mut worker).await;
    manager.swarm.change([put_task("t3", "s1", "n1", 1)]);
    let (mut joined, mut told) = (None, false);
    while joined.is_none() || !told {
        match worker.next().await {
            Message::Logs(subscription) => joined = Some(subscription),
            Message::Assignments(delta) => told = delta.put.iter().any(|a| a.task_id == "t3"),
            other => panic!("{other:?}"),
        }
    }
    let joined = joined.unwrap();
    assert_eq!(joined.task_ids, ["t3"]);
    assert!(joined.follow);
    drop(logs);
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match worker.next().await {
            Message::StopLogs(stop) => ended.push(stop.id),
            other => panic!("{other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, [first.id, joined.id]);
}

#[tokio::test]
async fn a_slow_reader_stops_the_node_instead_of_filling_memory() {
    let manager = Manager::start(Swarm::leading(swarm())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let mut logs = manager
        .dispatcher
        .stream_logs(request("t1", true), false)
        .await
        .unwrap();
    let asked = subscription(&mut worker).await;
    let (lines, messages) = mpsc::channel(1);
    let mut client = worker.client.clone();
    let publishing =
        tokio::spawn(async move { client.publish_logs(ReceiverStream::new(messages)).await });
    // Nobody reads: at some point the node can send no more.
    let (block, total) = ("x".repeat(64 << 10), 1_000);
    let mut sent = 0;
    while sent < total {
        let message = published(&asked.id, vec![line("t1", sent, &block)]);
        let send = tokio::time::timeout(Duration::from_millis(500), lines.send(message));
        if send.await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(
        (8..200).contains(&sent),
        "{sent} blocks of 64 KiB went somewhere"
    );
    // The session is not held up.
    manager.swarm.change([desire("t1", TaskState::Shutdown)]);
    assert_eq!(worker.assignments().await.put.len(), 1);
    // Everything that was sent arrives, in order, once it is read.
    let mut seen = 0;
    while seen < sent {
        if let Some(Item::Batch(batch)) = next(&mut logs).await {
            for line in batch.lines {
                assert_eq!(line.at_ns, seen);
                seen += 1;
            }
        }
    }
    drop(logs);
    publishing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_follower_hears_of_a_node_that_goes_and_gets_it_back() {
    let manager = Manager::start(Swarm::leading(swarm())).await;
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let mut logs = manager
        .dispatcher
        .stream_logs(request("t1", true), false)
        .await
        .unwrap();
    let asked = subscription(&mut worker).await;
    let (lines, messages) = mpsc::channel(4);
    let mut client = worker.client.clone();
    tokio::spawn(async move { client.publish_logs(ReceiverStream::new(messages)).await });
    lines
        .send(published(&asked.id, vec![line("t1", 5, "a")]))
        .await
        .unwrap();
    assert!(matches!(next(&mut logs).await, Some(Item::Source(_))));
    assert!(matches!(next(&mut logs).await, Some(Item::Batch(_))));
    drop(worker);
    let Some(Item::Gap(gap)) = next(&mut logs).await else {
        panic!("no gap");
    };
    assert_eq!(gap.node_id, "n1");
    let (mut worker, _) = Worker::open(&manager, "n1").await;
    let again = subscription(&mut worker).await;
    assert_eq!(again.since_ns, 5);
    let twice = vec![line("t1", 5, "a"), line("t1", 6, "b")];
    let messages = tokio_stream::once(published(&again.id, twice));
    worker.client.publish_logs(messages).await.unwrap();
    let Some(Item::Batch(batch)) = next(&mut logs).await else {
        panic!("no lines");
    };
    assert_eq!(batch.lines, [line("t1", 6, "b")]);
}

#[tokio::test]
async fn what_cannot_be_read_is_said_at_once() {
    let manager = Manager::start(Swarm::leading(swarm())).await;
    let refused = async |request| {
        manager
            .dispatcher
            .stream_logs(request, false)
            .await
            .unwrap_err()
    };
    use skep_proto::Code;
    assert_eq!(
        refused(request("nothing", false)).await.code(),
        Code::NotFound
    );
    let mut neither = request("s1", false);
    (neither.stdout, neither.stderr) = (false, false);
    assert_eq!(refused(neither).await.code(), Code::Invalid);
    manager.swarm.lead(2, Some("127.0.0.1:1"));
    let forwarded = manager
        .dispatcher
        .stream_logs(request("s1", false), true)
        .await;
    assert_eq!(forwarded.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn any_manager_relays_the_leaders_lines_and_goes_on_with_the_next_leader() {
    let authority = std::sync::Arc::new(Authority::new());
    let mut world = swarm();
    world.extend(["m1", "m2"].map(|id| {
        let mut manager = node(id);
        manager.spec.as_mut().unwrap().role = Role::Manager.into();
        put(manager)
    }));
    let (first, second) = (Swarm::leading(world.clone()), Swarm::leading(world));
    let old = Manager::start_as("m1", first.clone(), authority.clone()).await;
    let new = Manager::start_as("m2", second.clone(), authority).await;
    second.lead(1, Some(&old.addr));
    until("m2 does not lead", || {
        new.dispatcher.reigns.borrow().is_none()
    })
    .await;
    let (mut worker, _) = Worker::open(&old, "n1").await;
    let mut logs = new
        .dispatcher
        .stream_logs(request("t1", true), false)
        .await
        .unwrap();
    let asked = subscription(&mut worker).await;
    let messages = tokio_stream::once(published(&asked.id, vec![line("t1", 5, "a")]));
    worker.client.publish_logs(messages).await.unwrap();
    assert!(matches!(next(&mut logs).await, Some(Item::Source(_))));
    assert!(matches!(next(&mut logs).await, Some(Item::Batch(_))));

    first.lead(2, Some(&new.addr));
    second.lead(2, None);
    let (mut worker, _) = Worker::open(&new, "n1").await;
    let asked = subscription(&mut worker).await;
    let twice = vec![line("t1", 5, "a"), line("t1", 6, "b")];
    let messages = tokio_stream::once(published(&asked.id, twice));
    worker.client.publish_logs(messages).await.unwrap();
    let batch = loop {
        match next(&mut logs).await {
            Some(Item::Batch(batch)) => break batch,
            Some(Item::Gap(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(batch.lines, [line("t1", 6, "b")]);
}
