//! A swarm in memory for this room's tests: a real World, verbs that change it
//! as the real ones do, and real connections over loopback.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair};
use skep_proto::transport::{Credentials, DialOptions, PeerRole, Trust, accept, dial};
use skep_proto::v1::dispatch_client::DispatchClient;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;
use skep_proto::{Error, Result};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

use super::Dispatcher;
use crate::control;
use crate::identity::{Csr, RootAuthority, Subject};
use crate::seam::{Follow, Leader, Leadership, Write};
use crate::state::{Applied, World};

pub const CLUSTER: &str = "c1";
const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;

// ---- Worlds --------------------------------------------------------------

pub fn put(object: impl Into<Object>) -> Change {
    Change {
        change: Some(change::Change::Put(object.into())),
    }
}

pub fn remove(kind: Kind, id: &str) -> Change {
    let removal = Removal {
        kind: kind.into(),
        id: id.to_owned(),
    };
    Change {
        change: Some(change::Change::Remove(removal)),
    }
}

/// As the verb that removes a node does it.
pub fn remove_node(id: &str) -> [Change; 2] {
    let mut cluster = cluster();
    cluster.removed_nodes.push(RemovedNode {
        node_id: id.to_owned(),
        until_ns: i64::MAX,
    });
    [put(cluster), remove(Kind::Node, id)]
}

fn meta(id: &str) -> Option<Meta> {
    Some(Meta {
        id: id.to_owned(),
        ..Meta::default()
    })
}

pub fn cluster() -> Cluster {
    Cluster {
        meta: meta(CLUSTER),
        ..Cluster::default()
    }
}

/// A cluster whose workers are to be heard every `period`.
pub fn cluster_beating(period: Duration) -> Cluster {
    Cluster {
        spec: Some(ClusterSpec {
            heartbeat_period_ns: Some(period.as_nanos() as i64),
            ..ClusterSpec::default()
        }),
        ..cluster()
    }
}

pub fn node(id: &str) -> Node {
    Node {
        meta: meta(id),
        spec: Some(NodeSpec::default()),
        description: Some(NodeDescription {
            hostname: format!("host-{id}"),
            ..NodeDescription::default()
        }),
        cert_trust: crate::identity::trust_digest(&cluster()),
        ..Node::default()
    }
}

pub fn put_node(id: &str) -> Change {
    put(node(id))
}

pub fn put_service(id: &str, name: &str, version: u64) -> Change {
    put(Service {
        meta: meta(id),
        spec: Some(ServiceSpec {
            name: name.to_owned(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..ServiceSpec::default()
        }),
        template_version: version,
        templates: vec![Template {
            version,
            task: Some(TaskSpec {
                force_update: version,
                ..TaskSpec::default()
            }),
            endpoint: Some(EndpointSpec::default()),
        }],
        ..Service::default()
    })
}

pub fn put_task(id: &str, service_id: &str, node_id: &str, version: u64) -> Change {
    put(Task {
        meta: meta(id),
        service_id: service_id.to_owned(),
        service_name: "web".to_owned(),
        slot: 1,
        node_id: node_id.to_owned(),
        template_version: version,
        desired: TaskState::Running.into(),
        ..Task::default()
    })
}

fn patch(task: TaskPatch) -> Change {
    Change {
        change: Some(change::Change::Task(task)),
    }
}

pub fn desire(id: &str, desired: TaskState) -> Change {
    patch(TaskPatch {
        id: id.to_owned(),
        desired: Some(desired.into()),
        ..TaskPatch::default()
    })
}

pub fn place(id: &str, node_id: &str) -> Change {
    patch(TaskPatch {
        id: id.to_owned(),
        node_id: Some(node_id.to_owned()),
        ..TaskPatch::default()
    })
}

pub fn report(id: &str, state: TaskState) -> Change {
    patch(TaskPatch {
        id: id.to_owned(),
        status: Some(status(state)),
        ..TaskPatch::default()
    })
}

pub fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state: state.into(),
        ..TaskStatus::default()
    }
}

pub fn apply(world: &mut World, changes: impl IntoIterator<Item = Change>) -> Applied {
    world.apply(&Transaction {
        at_ns: 1,
        changes: changes.into_iter().collect(),
        outcomes: Vec::new(),
    })
}

pub fn world_of(changes: impl IntoIterator<Item = Change>) -> World {
    let mut world = World::default();
    apply(&mut world, changes);
    world
}

// ---- A manager -----------------------------------------------------------

/// Follows and writes to one World.
pub struct Swarm {
    world: Mutex<Arc<World>>,
    feed: broadcast::Sender<Arc<Applied>>,
    leadership: watch::Sender<Leadership>,
    verbs: Mutex<Vec<Verb>>,
    /// While true, writes wait.
    pub held: watch::Sender<bool>,
    /// While true, there is no quorum.
    pub cut: watch::Sender<bool>,
}

impl Swarm {
    /// Leads in term 1.
    pub fn leading(changes: impl IntoIterator<Item = Change>) -> Arc<Self> {
        let leadership = Leadership {
            term: 1,
            leader: None,
            is_self: true,
        };
        Arc::new(Self {
            world: Mutex::new(Arc::new(world_of(changes))),
            feed: broadcast::channel(16).0,
            leadership: watch::channel(leadership).0,
            verbs: Mutex::default(),
            held: watch::channel(false).0,
            cut: watch::channel(false).0,
        })
    }

    pub fn change(&self, changes: impl IntoIterator<Item = Change>) -> u64 {
        let mut world = self.world.lock().unwrap();
        let mut next = (**world).clone();
        let applied = apply(&mut next, changes);
        *world = Arc::new(next);
        let version = applied.version;
        let _ = self.feed.send(Arc::new(applied));
        version
    }

    pub fn lead(&self, term: u64, addr: Option<&str>) {
        self.leadership.send_replace(Leadership {
            term,
            leader: addr.map(|addr| Leader {
                addr: addr.to_owned(),
                node_id: "another".to_owned(),
                raft_id: 2,
            }),
            is_self: addr.is_none(),
        });
    }

    pub fn verbs(&self) -> Vec<Verb> {
        self.verbs.lock().unwrap().clone()
    }

    pub fn state(&self, node_id: &str) -> NodeState {
        self.world().node(node_id).unwrap().state()
    }

    /// Waits until a node is in this state.
    pub async fn until_state(&self, node_id: &str, state: NodeState) {
        let what = format!("{node_id} is {state:?}");
        until(&what, || self.state(node_id) == state).await;
    }

    fn changes_of(&self, verb: &Verb) -> Vec<Change> {
        let set = |id: &str, state: i32, addr: &str, description: Option<NodeDescription>| Change {
            change: Some(change::Change::Node(NodePatch {
                id: id.to_owned(),
                status: Some(NodeStatus {
                    state,
                    addr: addr.to_owned(),
                    ..NodeStatus::default()
                }),
                description,
                ..NodePatch::default()
            })),
        };
        let told = |reports: &[TaskReport]| {
            let changes = reports.iter().map(|r| {
                patch(TaskPatch {
                    id: r.task_id.clone(),
                    status: r.status.clone(),
                    ..TaskPatch::default()
                })
            });
            changes.collect::<Vec<_>>()
        };
        match verb {
            Verb::NodeSeen(seen) => {
                let ready = NodeState::Ready.into();
                let mut changes = told(&seen.running);
                changes.push(set(
                    &seen.node_id,
                    ready,
                    &seen.addr,
                    seen.description.clone(),
                ));
                changes
            }
            Verb::NodeLost(lost) => {
                let ids = lost.node_ids.iter();
                ids.map(|id| set(id, lost.state, "", None)).collect()
            }
            Verb::ReportStatuses(reports) => told(&reports.reports),
            _ => Vec::new(),
        }
    }
}

impl Follow for Swarm {
    fn world(&self) -> Arc<World> {
        self.world.lock().unwrap().clone()
    }

    fn applied(&self) -> broadcast::Receiver<Arc<Applied>> {
        self.feed.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fresh_world(&self, _: Instant) -> BoxFuture<'_, Result<Arc<World>>> {
        let answer = if *self.cut.borrow() {
            Err(Error::unavailable("no quorum"))
        } else {
            Ok(self.world())
        };
        Box::pin(async { answer })
    }
}

impl Write for Swarm {
    fn write(&self, request: WriteRequest, _: Instant) -> BoxFuture<'_, Result<WriteResponse>> {
        Box::pin(async move {
            let mut held = self.held.subscribe();
            let _ = held.wait_for(|held| !*held).await;
            let verb = request.verb.unwrap();
            self.verbs.lock().unwrap().push(verb.clone());
            let version = self.change(self.changes_of(&verb));
            Ok(WriteResponse {
                version,
                ..WriteResponse::default()
            })
        })
    }
}

/// Waits until something is so, 10 s at most.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ---- Connections ---------------------------------------------------------

/// Who signs for everybody in one test.
pub struct Authority(RootAuthority);

impl Authority {
    pub fn new() -> Self {
        Self(RootAuthority::generate(crate::identity::now_ns()).unwrap())
    }

    pub fn credentials(&self, node_id: &str, role: PeerRole) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let csr = Csr::parse(csr.pem().unwrap().as_bytes()).unwrap();
        let subject = Subject {
            name: node_id.to_owned(),
            role,
            cluster_id: CLUSTER.to_owned(),
        };
        let now_ns = crate::identity::now_ns();
        let cert = self
            .0
            .sign(&csr, &subject, now_ns, now_ns + DAY_NS)
            .unwrap();
        let root = &self.0.root_ca().cert_pem;
        Credentials::from_pem(&cert, key.serialize_pem().as_bytes(), root).unwrap()
    }
}

/// Stands for rooms that these tests do not ask.
struct Nobody;

impl control::Members for Nobody {
    fn reachability(&self) -> std::collections::BTreeMap<u64, Reachability> {
        Default::default()
    }
}

impl control::EndManager for Nobody {
    fn end(&self, _: &EndManagerRequest) -> Result<()> {
        Err(Error::internal("nobody asks"))
    }
}

/// A manager that listens on loopback.
pub struct Manager {
    pub swarm: Arc<Swarm>,
    pub dispatcher: Dispatcher,
    pub authority: Arc<Authority>,
    pub addr: String,
    shutdown: CancellationToken,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Manager {
    pub async fn start(swarm: Arc<Swarm>) -> Self {
        Self::start_as("m1", swarm, Arc::new(Authority::new())).await
    }

    pub async fn start_as(node_id: &str, swarm: Arc<Swarm>, authority: Arc<Authority>) -> Self {
        let credentials = authority.credentials(node_id, PeerRole::Manager);
        let shutdown = CancellationToken::new();
        let dispatcher = Dispatcher::new(
            swarm.clone(),
            swarm.clone(),
            credentials.clone(),
            shutdown.clone(),
        );
        let control = control::ControlService::new(control::Parts {
            node_id: node_id.to_owned(),
            follow: swarm.clone(),
            write: swarm.clone(),
            members: Arc::new(Nobody),
            logs: Arc::new(dispatcher.clone()),
            ender: Arc::new(Nobody),
            explain: |_, _, _| Err(Error::internal("nobody asks")),
            shutdown: shutdown.clone(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let router = Server::builder()
            .add_service(dispatcher.service())
            .add_service(control.server());
        let ended = shutdown.clone().cancelled_owned();
        tokio::spawn(router.serve_with_incoming_shutdown(accept(listener, credentials), ended));
        Self {
            swarm,
            dispatcher,
            authority,
            addr,
            shutdown,
        }
    }

    /// A connection of its own for a node.
    pub async fn dial(&self, node_id: &str) -> DispatchClient<Channel> {
        let credentials = self.authority.credentials(node_id, PeerRole::Worker);
        let trust = Trust::Credentials(credentials);
        let channel = dial(&self.addr, &trust, &DialOptions::default())
            .await
            .unwrap();
        DispatchClient::new(channel)
    }
}

/// A node's side of a session.
pub struct Worker {
    pub up: tokio::sync::mpsc::Sender<WorkerMessage>,
    pub down: tonic::Streaming<LeaderMessage>,
    pub client: DispatchClient<Channel>,
}

pub type Message = leader_message::Message;

impl Worker {
    /// Begins a session and says hello.
    pub async fn hello(manager: &Manager, node_id: &str, tasks: Vec<TaskReport>) -> Self {
        let mut client = manager.dial(node_id).await;
        let (up, messages) = tokio::sync::mpsc::channel(64);
        let hello = Hello {
            description: node(node_id).description,
            tasks,
            version: "test".to_owned(),
        };
        up.send(worker(worker_message::Message::Hello(hello)))
            .await
            .unwrap();
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let down = client.session(messages).await.unwrap().into_inner();
        Self { up, down, client }
    }

    /// The same, and takes the welcome and the full set.
    pub async fn open(manager: &Manager, node_id: &str) -> (Self, Assignments) {
        let mut worker = Self::hello(manager, node_id, Vec::new()).await;
        let Message::Welcome(_) = worker.next().await else {
            panic!("no welcome");
        };
        let full = worker.assignments().await;
        assert!(full.full);
        (worker, full)
    }

    pub async fn say(&self, message: worker_message::Message) {
        self.up.send(worker(message)).await.unwrap();
    }

    pub async fn next(&mut self) -> Message {
        match self.next_or_end().await {
            Ok(message) => message,
            Err(status) => panic!("ended: {status:?}"),
        }
    }

    pub async fn next_or_end(&mut self) -> std::result::Result<Message, tonic::Status> {
        let wait = tokio::time::timeout(Duration::from_secs(10), self.down.message());
        let message = wait.await.expect("a message in time")?;
        let message = message.ok_or_else(|| tonic::Status::ok("ended"))?;
        assert!(message.term > 0);
        Ok(message.message.unwrap())
    }

    pub async fn assignments(&mut self) -> Assignments {
        match self.next().await {
            Message::Assignments(assignments) => assignments,
            other => panic!("not assignments: {other:?}"),
        }
    }

    /// Why the session ended, after whatever was sent before.
    pub async fn end(&mut self) -> tonic::Status {
        loop {
            if let Err(status) = self.next_or_end().await {
                return status;
            }
        }
    }
}

pub fn worker(message: worker_message::Message) -> WorkerMessage {
    WorkerMessage {
        message: Some(message),
    }
}

pub fn task_report(task_id: &str, state: TaskState) -> TaskReport {
    TaskReport {
        task_id: task_id.to_owned(),
        status: Some(status(state)),
    }
}
