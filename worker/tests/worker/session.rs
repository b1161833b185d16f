//! Finding the leader and staying with it, on a simulated engine.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use skep_proto::v1::leader_message::Message as Down;
use skep_worker::runtime::Simulated;
use skep_worker::runtime::simulated::Behaviour;

struct Swarm {
    pki: Pki,
    engine: Simulated,
    folder: tempfile::TempDir,
}

impl Swarm {
    fn new() -> Self {
        Self {
            pki: Pki::new(),
            engine: Simulated::new(Behaviour::default()),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn leader(&self, name: &str, addr: &str, term: u64) -> Leader {
        Leader::start(self.pki.credentials(name, PeerRole::Manager), addr, term)
    }

    async fn worker(&self, managers: &[&Leader]) -> Worker {
        let config = WorkerConfig::new(
            self.folder.path(),
            "host-a",
            "/nowhere",
            self.pki.credentials(NODE, PeerRole::Worker),
            managers.iter().map(|m| m.addr.clone()).collect(),
        );
        Worker::start_on(config, Arc::new(self.engine.clone()))
            .await
            .unwrap()
    }
}

fn peers(managers: &[&Leader]) -> Vec<ManagerPeer> {
    let peer = |leader: &&Leader| ManagerPeer {
        node_id: String::new(),
        addr: leader.addr.clone(),
    };
    managers.iter().map(peer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_some_tens_of_milliseconds_and_no_container() {
    let swarm = Swarm::new();
    let mut a = swarm.leader("a", "127.0.0.1:0", 1);
    let b = swarm.leader("b", "127.0.0.1:0", 1);
    b.seen(|seen| seen.leads = false);
    let managers = peers(&[&a, &b]);
    a.seen(|seen| seen.managers = managers);
    let worker = swarm.worker(&[&a]).await;
    a.put(task("t1", ""));
    a.until_state("t1", TaskState::Running).await;
    b.seen(|seen| seen.assignments.insert("t1".into(), task("t1", "")));
    a.kill();
    until("the loss is seen", || async {
        worker.status().connected_to.is_none()
    })
    .await;
    // Another leader is there only after a while.
    tokio::time::sleep(Duration::from_millis(200)).await;
    b.seen(|seen| {
        seen.leads = true;
        seen.term = 2;
    });
    let elected = Instant::now();
    b.until_state("t1", TaskState::Running).await;
    let taken = elected.elapsed();
    eprintln!("session with the new leader after {taken:?}");
    assert!(taken < Duration::from_millis(500), "{taken:?}");
    until("the status is up to date", || async {
        worker.status().connected_to.as_deref() == Some(&b.addr)
    })
    .await;
    assert_eq!(swarm.engine.created(), 1);
    assert_eq!(worker.status().term, 2);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_names_the_leader_is_followed() {
    let swarm = Swarm::new();
    let a = swarm.leader("a", "127.0.0.1:0", 1);
    let b = swarm.leader("b", "127.0.0.1:0", 1);
    a.seen(|seen| {
        seen.leads = false;
        seen.hint = b.addr.clone();
    });
    let worker = swarm.worker(&[&a]).await;
    b.until("a session", |seen| seen.sessions == 1).await;
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_an_older_term_is_not_listened_to() {
    let swarm = Swarm::new();
    let a = swarm.leader("a", "127.0.0.1:0", 5);
    let managers = peers(&[&a]);
    a.seen(|seen| seen.managers = managers);
    let worker = swarm.worker(&[&a]).await;
    a.put(task("t1", ""));
    a.until_state("t1", TaskState::Running).await;
    // The same address speaks of an older term: it was cut off and came back.
    a.seen(|seen| {
        seen.term = 4;
        seen.assignments.clear();
    });
    a.send(Down::Assignments(Assignments {
        full: true,
        ..Assignments::default()
    }));
    until("the session ended", || async {
        worker.status().connected_to.is_none()
    })
    .await;
    assert!(
        worker.status().session_error.contains("term 4"),
        "{:?}",
        worker.status()
    );
    assert_eq!(worker.status().tasks_running, 1);
    // A restart does not make it forget the term.
    worker.stop(Duration::from_secs(5)).await.unwrap();
    let worker = swarm.worker(&[&a]).await;
    until("the old term is refused", || async {
        worker.status().session_error.contains("term 4")
    })
    .await;
    a.seen(|seen| seen.term = 6);
    until("the new term is not", || async {
        worker.status().connected_to.is_some()
    })
    .await;
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_reaches_the_next_leader() {
    let swarm = Swarm::new();
    let mut a = swarm.leader("a", "127.0.0.1:0", 1);
    let b = swarm.leader("b", "127.0.0.1:0", 2);
    let managers = peers(&[&a, &b]);
    b.seen(|seen| seen.leads = false);
    a.seen(|seen| {
        seen.managers = managers;
        seen.withhold_acks = true;
    });
    let worker = swarm.worker(&[&a]).await;
    a.put(task("t1", ""));
    a.until_state("t1", TaskState::Running).await;
    b.seen(|seen| {
        seen.leads = true;
        seen.assignments.insert("t1".into(), task("t1", ""));
    });
    a.kill();
    // Once in the hello, once as a batch.
    b.until("told twice", |seen| {
        seen.history
            .iter()
            .filter(|(_, s)| *s == TaskState::Running)
            .count()
            >= 2
    })
    .await;
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_on_while_the_runtime_is_stuck() {
    let swarm = Swarm::new();
    let a = swarm.leader("a", "127.0.0.1:0", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = WorkerConfig::new(
        swarm.folder.path(),
        "host-a",
        "/nowhere",
        swarm.pki.credentials(NODE, PeerRole::Worker),
        vec![a.addr.clone()],
    );
    let engine = Arc::new(swarm.engine.clone());
    let worker = runtime.spawn(async { Worker::start_on(config, engine).await.unwrap() });
    let worker = worker.await.unwrap();
    a.until("heartbeats", |seen| seen.heartbeats > 3).await;
    let (release, wait) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move {
        let _ = wait.recv_timeout(Duration::from_secs(30));
    });
    let before = a.seen(|seen| seen.heartbeats);
    a.until("more heartbeats", |seen| seen.heartbeats > before + 10)
        .await;
    release.send(()).unwrap();
    drop(worker);
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_late_is_welcome() {
    let swarm = Swarm::new();
    swarm.engine.behave(|b| b.is_down = true);
    let a = swarm.leader("a", "127.0.0.1:0", 1);
    let worker = swarm.worker(&[&a]).await;
    a.put(task("t1", ""));
    a.until("a node without resources that says why", |seen| {
        seen.description.as_ref().is_some_and(|d| {
            d.resources.is_none()
                && d.engine
                    .as_ref()
                    .is_some_and(|e| e.error.contains("does not answer"))
        })
    })
    .await;
    assert!(worker.status().engine_error.contains("does not answer"));
    swarm.engine.behave(|b| b.is_down = false);
    a.until_state("t1", TaskState::Running).await;
    a.until("a node with resources", |seen| {
        seen.description.as_ref().is_some_and(|d| {
            d.resources.is_some() && d.engine.as_ref().is_some_and(|e| e.error.is_empty())
        })
    })
    .await;
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_told_so() {
    let swarm = Swarm::new();
    let a = swarm.leader("a", "127.0.0.1:0", 1);
    let worker = swarm.worker(&[&a]).await;
    let mut notices = worker.notices().unwrap();
    assert!(worker.notices().is_none(), "there is one receiver");
    a.until("a session", |seen| seen.sessions == 1).await;
    a.send(Down::Notice(Notice {
        kind: notice::Kind::Removed.into(),
        ..Notice::default()
    }));
    let notice = tokio::time::timeout(Duration::from_secs(10), notices.recv()).await;
    assert_eq!(notice.unwrap().unwrap().kind(), notice::Kind::Removed);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_simulated_workers_share_a_process() {
    let pki = Pki::new();
    let credentials = pki.credentials("a", PeerRole::Manager);
    let leader = Leader::start(credentials, "127.0.0.1:0", 1);
    leader.seen(|seen| seen.assignments.insert("t1".into(), task("t1", "")));
    let folder = tempfile::tempdir().unwrap();
    let mut workers = Vec::new();
    for n in 0..50 {
        let name = format!("node{n}");
        let config = WorkerConfig {
            heartbeats: skep_worker::Heartbeats::SharedRuntime,
            ..WorkerConfig::new(
                folder.path().join(&name),
                name.clone(),
                "/nowhere",
                pki.credentials(&name, PeerRole::Worker),
                vec![leader.addr.clone()],
            )
        };
        let engine = Arc::new(Simulated::new(Behaviour::default()));
        workers.push(Worker::start_on(config, engine).await.unwrap());
    }
    until("all run", || async {
        workers.iter().all(|w| w.status().tasks_running == 1)
    })
    .await;
    for worker in workers {
        worker.stop(Duration::from_secs(5)).await.unwrap();
    }
}
