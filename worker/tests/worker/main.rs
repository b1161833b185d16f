//! A worker between a real Docker Engine and a leader that does as the test says.

// A test ends where it finds something else than it expects.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

mod containers;
mod dockerd;
mod leader;
mod pki;
mod recovery;
mod session;

use std::path::Path;
use std::time::Duration;

use skep_proto::transport::PeerRole;
use skep_proto::v1::*;
use skep_worker::{Worker, WorkerConfig};
use tokio::sync::{Mutex, MutexGuard};

use dockerd::{Dockerd, IMAGE};
use leader::Leader;
use pki::Pki;

/// One engine at a time: they are heavy, and they share the kernel.
static TURN: Mutex<()> = Mutex::const_new(());

const NODE: &str = "node1";

/// An engine, a leader and the folder of a worker.
struct Host {
    engine: Dockerd,
    leader: Leader,
    pki: Pki,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Host {
    async fn new() -> Self {
        Self::with(false, false).await
    }

    async fn with(live_restore: bool, with_network: bool) -> Self {
        let turn = TURN.lock().await;
        let pki = Pki::new();
        let leader = Leader::start(
            pki.credentials("manager1", PeerRole::Manager),
            "127.0.0.1:0",
            1,
        );
        Self {
            engine: Dockerd::start(live_restore, with_network).await,
            leader,
            pki,
            folder: tempfile::tempdir().unwrap(),
            _turn: turn,
        }
    }

    fn config(&self, folder: &Path) -> WorkerConfig {
        WorkerConfig {
            reconcile_interval: Duration::from_millis(500),
            ..WorkerConfig::new(
                folder,
                "host-a",
                self.engine.socket(),
                self.pki.credentials(NODE, PeerRole::Worker),
                vec![self.leader.addr.clone()],
            )
        }
    }

    async fn worker(&self) -> Worker {
        Worker::start(self.config(self.folder.path()))
            .await
            .unwrap()
    }
}

/// A task that runs `script` in a shell.
fn task(task_id: &str, script: &str) -> Assignment {
    Assignment {
        task_id: task_id.into(),
        generation: 1,
        desired: TaskState::Running.into(),
        service_id: "service1".into(),
        service_name: "web".into(),
        slot: 1,
        node_id: NODE.into(),
        spec: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: IMAGE.into(),
                command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                stop_grace_period_ns: Some(1_000_000_000),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        }),
        ..Assignment::default()
    }
}

/// A script that ends when it is asked to.
const SERVE: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn container(assignment: &mut Assignment) -> &mut ContainerSpec {
    assignment
        .spec
        .as_mut()
        .unwrap()
        .container
        .as_mut()
        .unwrap()
}

/// The same task with something else wanted of it.
fn wanted(mut assignment: Assignment, desired: TaskState) -> Assignment {
    assignment.generation += 1;
    assignment.desired = desired.into();
    assignment
}

/// Polls until `check` holds.
async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let start = std::time::Instant::now();
    while !check().await {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}: not within 60 s"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
