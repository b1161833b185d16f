//! Real workers on simulated engines with a real dispatcher, over real TLS: a
//! session, its loss, its return, and the lines in between. The log and the
//! engine's decisions are left out: tasks are put where the test wants them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use skep_manager::control::execute;
use skep_manager::dispatch::Dispatcher;
use skep_manager::identity::{FoundOptions, IdentityOptions, IdentityService, found};
use skep_manager::seam::{Follow, Leadership, Write};
use skep_manager::state::{Applied, Seed, World};
use skep_proto::transport::{Credentials, accept};
use skep_proto::v1::*;
use skep_proto::{Error, Result};
use skep_worker::identity::{CertificateFiles, join};
use skep_worker::runtime::simulated::{Behaviour, Simulated};
use skep_worker::{Heartbeats, Worker, WorkerConfig};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

const LIMIT: Duration = Duration::from_secs(20);

/// A World that is written without a log, and those who lead it.
struct Single {
    world: Mutex<Arc<World>>,
    applied: broadcast::Sender<Arc<Applied>>,
    leadership: watch::Sender<Leadership>,
}

impl Single {
    fn apply(&self, changes: Vec<Change>) -> Arc<World> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let transaction = Transaction {
            at_ns: i64::try_from(now.as_nanos()).unwrap(),
            changes,
            outcomes: Vec::new(),
        };
        let mut held = self.world.lock().unwrap();
        let mut world = World::clone(&held);
        let applied = world.apply(&transaction);
        *held = Arc::new(world);
        let _ = self.applied.send(Arc::new(applied));
        held.clone()
    }

    fn commit(&self, request: &WriteRequest) -> Result<WriteResponse> {
        let term = self.leadership.borrow().term;
        if request.term != 0 && request.term != term {
            return Err(Error::unavailable("meant for another leader"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now_ns = i64::try_from(now.as_nanos()).unwrap();
        let world = self.world();
        let done = execute(&world, request, now_ns, Seed(world.version()))?;
        let mut response = done.response;
        response.version = self.apply(done.changes).version();
        Ok(response)
    }

    fn node_state(&self, id: &str) -> NodeState {
        self.world().node(id).unwrap().state()
    }

    fn has_ended(&self, task_id: &str) -> bool {
        self.world().task(task_id).unwrap().is_terminal()
    }

    fn running(&self) -> usize {
        let world = self.world();
        let running = |task: &&Arc<Task>| task.state() == TaskState::Running;
        world.tasks().filter(running).count()
    }
}

impl Follow for Single {
    fn world(&self) -> Arc<World> {
        self.world.lock().unwrap().clone()
    }

    fn applied(&self) -> broadcast::Receiver<Arc<Applied>> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fresh_world(&self, _: Instant) -> BoxFuture<'_, Result<Arc<World>>> {
        Box::pin(async { Ok(self.world()) })
    }
}

impl Write for Single {
    fn write(&self, request: WriteRequest, _: Instant) -> BoxFuture<'_, Result<WriteResponse>> {
        Box::pin(async move { self.commit(&request) })
    }
}

struct Swarm {
    single: Arc<Single>,
    addr: String,
    dispatcher: Dispatcher,
    _ends: DropGuard,
}

struct Host {
    node_id: String,
    engine: Arc<Simulated>,
    credentials: Credentials,
    folder: tempfile::TempDir,
}

impl Swarm {
    async fn found() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let founding = found(FoundOptions {
            manager: ManagerStatus {
                raft_id: 1,
                addr: addr.clone(),
                ..ManagerStatus::default()
            },
            ..FoundOptions::default()
        })
        .unwrap();
        let leads = Leadership {
            term: 1,
            leader: None,
            is_self: true,
        };
        let single = Arc::new(Single {
            world: Mutex::default(),
            applied: broadcast::channel(64).0,
            leadership: watch::channel(leads).0,
        });
        single.commit(&founding.request).unwrap();
        let files = CertificateFiles {
            cert_pem: founding.cert_pem,
            key_pem: founding.key_pem,
            root_pem: founding.root_pem,
        };
        let credentials = files.credentials().unwrap();
        let shutdown = CancellationToken::new();
        let dispatcher = Dispatcher::new(
            single.clone(),
            single.clone(),
            credentials.clone(),
            shutdown.clone(),
        );
        let identity =
            IdentityService::new(single.clone(), single.clone(), IdentityOptions::default());
        let server = tonic::transport::Server::builder()
            .add_service(dispatcher.service())
            .add_service(identity.into_server());
        tokio::spawn(server.serve_with_incoming_shutdown(
            accept(listener, credentials),
            shutdown.clone().cancelled_owned(),
        ));
        Self {
            single,
            addr,
            dispatcher,
            _ends: shutdown.drop_guard(),
        }
    }

    async fn join(&self) -> Host {
        let tokens = self.single.world().cluster().unwrap().join_tokens.clone();
        let joined = join(
            std::slice::from_ref(&self.addr),
            &tokens.unwrap().worker,
            Availability::Active,
            NodeDescription::default(),
            Instant::now() + LIMIT,
        )
        .await
        .unwrap();
        Host {
            node_id: joined.node_id,
            engine: Arc::new(Simulated::new(Behaviour::default())),
            credentials: joined.files.credentials().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn start(&self, host: &Host) -> Worker {
        let mut config = WorkerConfig::new(
            host.folder.path(),
            "host",
            "",
            host.credentials.clone(),
            vec![self.addr.clone()],
        );
        config.heartbeats = Heartbeats::SharedRuntime;
        Worker::start_on(config, host.engine.clone()).await.unwrap()
    }

    fn stop(&self, task_id: &str) {
        self.single.apply(vec![Change {
            change: Some(change::Change::Task(TaskPatch {
                id: task_id.to_owned(),
                desired: Some(TaskState::Shutdown.into()),
                ..TaskPatch::default()
            })),
        }]);
    }

    /// Puts a service with `each` tasks per host, and returns its id.
    fn place(&self, hosts: &[Host], each: usize) -> String {
        let meta = |id: String| {
            Some(Meta {
                id,
                ..Meta::default()
            })
        };
        let task = TaskSpec {
            container: Some(ContainerSpec {
                image: "web:1".to_owned(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        };
        let mut objects = vec![Object::from(Service {
            meta: meta("s1".to_owned()),
            spec: Some(ServiceSpec {
                name: "web".to_owned(),
                task: Some(task.clone()),
                ..ServiceSpec::default()
            }),
            template_version: 1,
            templates: vec![Template {
                version: 1,
                task: Some(task),
                endpoint: None,
            }],
            ..Service::default()
        })];
        for (at, host) in hosts.iter().enumerate() {
            for n in 0..each {
                objects.push(Object::from(Task {
                    meta: meta(format!("t{at}x{n}")),
                    service_id: "s1".to_owned(),
                    service_name: "web".to_owned(),
                    slot: (at * each + n + 1) as u64,
                    node_id: host.node_id.clone(),
                    template_version: 1,
                    desired: TaskState::Running.into(),
                    status: Some(TaskStatus {
                        state: TaskState::Assigned.into(),
                        ..TaskStatus::default()
                    }),
                    ..Task::default()
                }));
            }
        }
        let changes = objects.into_iter().map(|object| Change {
            change: Some(change::Change::Put(object)),
        });
        self.single.apply(changes.collect());
        "s1".to_owned()
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn workers_run_what_they_are_told_and_say_so() {
    let swarm = Swarm::found().await;
    let hosts = [swarm.join().await, swarm.join().await];
    let workers = [swarm.start(&hosts[0]).await, swarm.start(&hosts[1]).await];
    for host in &hosts {
        until("ready", || {
            swarm.single.node_state(&host.node_id) == NodeState::Ready
        })
        .await;
    }
    let service = swarm.place(&hosts, 10);
    until("all run", || swarm.single.running() == 20).await;

    let mut lines = swarm
        .dispatcher
        .stream_logs(
            LogsRequest {
                reference: service,
                stdout: true,
                ..LogsRequest::default()
            },
            false,
        )
        .await
        .unwrap();
    let mut told = BTreeSet::new();
    while let Some(response) = tokio::time::timeout(LIMIT, lines.next()).await.unwrap() {
        match response.unwrap().item.unwrap() {
            logs_response::Item::Batch(batch) => {
                told.extend(batch.lines.into_iter().map(|line| line.task_id));
            }
            logs_response::Item::Source(_) => {}
            logs_response::Item::Gap(gap) => panic!("{gap:?}"),
        }
    }
    assert_eq!(told.len(), 20);

    swarm.stop("t0x0");
    until("it is stopped", || swarm.single.has_ended("t0x0")).await;
    drop(workers);
}

#[tokio::test]
async fn a_worker_that_restarts_is_suspect_for_a_moment_and_keeps_its_tasks() {
    let swarm = Swarm::found().await;
    let hosts = [swarm.join().await];
    let worker = swarm.start(&hosts[0]).await;
    swarm.place(&hosts, 5);
    until("all run", || swarm.single.running() == 5).await;
    worker.stop(LIMIT).await.unwrap();
    let state = || swarm.single.node_state(&hosts[0].node_id);
    until("suspect", || state() == NodeState::Suspect).await;
    let worker = swarm.start(&hosts[0]).await;
    until("ready", || state() == NodeState::Ready).await;
    assert_eq!(swarm.single.running(), 5);
    assert_eq!(hosts[0].engine.created(), 5, "no container was made again");
    // Another term: the session begins anew, and nothing is touched.
    swarm.single.leadership.send_modify(|now| now.term = 2);
    swarm.stop("t0x0");
    until("it is stopped", || swarm.single.has_ended("t0x0")).await;
    assert_eq!(state(), NodeState::Ready);
    assert_eq!(swarm.single.running(), 4);
    assert_eq!(hosts[0].engine.created(), 5);
    drop(worker);
}

#[tokio::test]
async fn a_removed_worker_is_told() {
    let swarm = Swarm::found().await;
    let host = swarm.join().await;
    let worker = swarm.start(&host).await;
    let mut notices = worker.notices().unwrap();
    until("ready", || {
        swarm.single.node_state(&host.node_id) == NodeState::Ready
    })
    .await;
    let remove = WriteRequest {
        verb: Some(write_request::Verb::RemoveNode(RemoveNode {
            node: host.node_id.clone(),
            force: true,
        })),
        ..WriteRequest::default()
    };
    swarm.single.commit(&remove).unwrap();
    let notice = tokio::time::timeout(LIMIT, notices.recv()).await.unwrap();
    assert_eq!(notice.unwrap().kind(), notice::Kind::Removed);
}
