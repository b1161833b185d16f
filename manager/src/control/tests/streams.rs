//! Watches and followed logs.

use super::*;

async fn next(events: &mut tonic::Streaming<Event>) -> Event {
    tokio::time::timeout(WAIT, events.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_watcher_sees_what_is_committed_after_its_call_in_order() {
    let lab = lab().await;
    let mut client = lab.local().await;
    client.write(create("before")).await.unwrap();
    let mut events = client
        .watch(WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    client.write(create("one")).await.unwrap();
    client.write(create("two")).await.unwrap();
    for name in ["one", "two"] {
        let event = next(&mut events).await;
        assert_eq!(event.attributes["name"], name);
    }
    lab.memory
        .leadership
        .send_replace(leads("nobody-known", false));
    let event = next(&mut events).await;
    assert_eq!(
        (event.id.as_str(), event.attributes["leader.new"].as_str()),
        (lab.founding.node_id.as_str(), "false")
    );
    lab.shutdown.cancel();
    let end = tokio::time::timeout(WAIT, events.message()).await.unwrap();
    assert_eq!(code(end), Code::Unavailable);
}

#[tokio::test]
async fn a_watcher_that_was_too_slow_is_told_so() {
    let lab = lab().await;
    let watcher = watch::Watcher::new(lab.memory.clone(), "", &WatchRequest::default()).unwrap();
    for i in 0..10 {
        lab.memory.commit(&create(&format!("s{i}"))).unwrap();
    }
    let events: Vec<Event> = watcher
        .into_stream()
        .map(|e| e.unwrap())
        .take(5)
        .collect()
        .await;
    let [gap, rest @ ..] = events.as_slice() else {
        panic!()
    };
    assert_eq!((gap.missed, gap.version), (6, lab.memory.world().version()));
    let names: Vec<&str> = rest.iter().map(|e| e.attributes["name"].as_str()).collect();
    assert_eq!(names, ["s6", "s7", "s8", "s9"]);
}

#[tokio::test]
async fn followed_logs_break_off_when_the_manager_stops() {
    let lab = lab().await;
    let mut client = lab.local().await;
    client.write(create("web")).await.unwrap();
    let asked = LogsRequest {
        reference: "web".to_owned(),
        follow: true,
        ..LogsRequest::default()
    };
    let mut lines = client.logs(asked).await.unwrap().into_inner();
    assert!(
        tokio::time::timeout(WAIT, lines.message())
            .await
            .unwrap()
            .unwrap()
            .is_some()
    );
    lab.shutdown.cancel();
    let end = tokio::time::timeout(WAIT, lines.message()).await.unwrap();
    assert_eq!(
        code(end),
        Code::Unavailable,
        "there may be more lines elsewhere"
    );
}

#[tokio::test]
async fn streams_end_for_whoever_was_removed() {
    let lab = lab().await;
    lab.node("manager2", Role::Manager);
    lab.memory.commit(&create("web")).unwrap();
    let mut manager = lab.as_node("manager2", PeerRole::Manager).await;
    let only_tasks = WatchRequest {
        filters: vec![FilterTerm {
            key: "type".to_owned(),
            value: "task".to_owned(),
        }],
        tasks: true,
    };
    let mut events = manager.watch(only_tasks).await.unwrap().into_inner();
    let mut own = lab
        .local()
        .await
        .watch(WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let node = lab.memory.world().node("manager2").unwrap().clone();
    let demote = UpdateNode {
        node: "manager2".to_owned(),
        version: node.meta().version,
        spec: Some(NodeSpec::default()),
    };
    lab.memory.commit(&write(Verb::UpdateNode(demote))).unwrap();
    let end = tokio::time::timeout(WAIT, events.message()).await.unwrap();
    assert_eq!(code(end), Code::Permission);
    assert_eq!(next(&mut own).await.id, "manager2", "others go on");
}
