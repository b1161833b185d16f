//! The gRPC face on real listeners (a local socket and mutual TLS), over a swarm
//! in memory that the real verbs change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use rcgen::{CertificateParams, KeyPair};
use skep_proto::objects::Identified;
use skep_proto::transport::{Credentials, DialOptions, PeerRole, Trust, accept, dial};
use skep_proto::v1::control_client::ControlClient;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::*;
use skep_proto::{Code, Error, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use super::verbs::tests::spec;
use super::*;
use crate::identity::{Csr, FoundOptions, Founding, RootAuthority, Subject, found};
use crate::seam::{Follow, Leader, Leadership, Write};
use crate::state::{Applied, Seed, World};

mod streams;

const WAIT: Duration = Duration::from_secs(10);

/// A manager's inside without Raft: what is written is applied at once.
struct Memory {
    world: Mutex<World>,
    applied: broadcast::Sender<Arc<Applied>>,
    leadership: tokio::sync::watch::Sender<Leadership>,
    written: Mutex<Vec<WriteRequest>>,
    asked_logs: Mutex<Vec<(LogsRequest, bool)>>,
    ended: Mutex<Vec<u64>>,
}

impl Memory {
    fn commit(&self, request: &WriteRequest) -> Result<WriteResponse> {
        let mut world = self.world.lock().unwrap();
        let now = call::now_ns();
        let execution = execute(&world, request, now, Seed(world.version() + 1))?;
        let applied = world.apply(&Transaction {
            at_ns: now,
            changes: execution.changes,
            outcomes: vec![],
        });
        let _ = self.applied.send(Arc::new(applied));
        Ok(execution.response)
    }
}

impl Follow for Memory {
    fn world(&self) -> Arc<World> {
        Arc::new(self.world.lock().unwrap().clone())
    }

    fn applied(&self) -> broadcast::Receiver<Arc<Applied>> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> tokio::sync::watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fresh_world(&self, deadline: Instant) -> BoxFuture<'_, Result<Arc<World>>> {
        Box::pin(async move {
            let mut leadership = self.leadership();
            let led = leadership.wait_for(|l| l.leader.is_some());
            match tokio::time::timeout_at(deadline.into(), led).await {
                Ok(_) => Ok(self.world()),
                Err(_) => Err(Error::new(Code::Timeout, "nobody leads")),
            }
        })
    }
}

impl Write for Memory {
    fn write(&self, request: WriteRequest, _: Instant) -> BoxFuture<'_, Result<WriteResponse>> {
        self.written.lock().unwrap().push(request.clone());
        Box::pin(async move { self.commit(&request) })
    }
}

impl Members for Memory {
    fn reachability(&self) -> BTreeMap<u64, Reachability> {
        [(1, Reachability::Reachable)].into()
    }

    fn voters(&self) -> BTreeMap<u64, bool> {
        [(1, true), (2, false), (3, false)].into()
    }
}

impl Logs for Memory {
    fn logs(
        &self,
        request: LogsRequest,
        forwarded: bool,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<LogsResponse>>>> {
        self.asked_logs.lock().unwrap().push((request, forwarded));
        let follow = stream::iter([Ok(LogsResponse::default())]).chain(stream::pending());
        Box::pin(async move { Ok(follow.boxed()) })
    }
}

impl EndManager for Memory {
    fn end(&self, request: &EndManagerRequest) -> Result<()> {
        self.ended.lock().unwrap().push(request.term);
        Ok(())
    }
}

struct Lab {
    memory: Arc<Memory>,
    founding: Founding,
    addr: String,
    socket: std::path::PathBuf,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

fn leads(node_id: &str, is_self: bool) -> Leadership {
    Leadership {
        term: 3,
        leader: Some(Leader {
            raft_id: 1,
            node_id: node_id.to_owned(),
            addr: String::new(),
        }),
        is_self,
    }
}

async fn lab() -> Lab {
    let founding = found(FoundOptions {
        manager: ManagerStatus {
            raft_id: 1,
            addr: "127.0.0.1:1".to_owned(),
            ..ManagerStatus::default()
        },
        ..FoundOptions::default()
    })
    .unwrap();
    let memory = Arc::new(Memory {
        world: Mutex::default(),
        applied: broadcast::channel(4).0,
        leadership: tokio::sync::watch::channel(leads(&founding.node_id, true)).0,
        written: Mutex::default(),
        asked_logs: Mutex::default(),
        ended: Mutex::default(),
    });
    memory.commit(&founding.request).unwrap();
    let shutdown = CancellationToken::new();
    let service = ControlService::new(Parts {
        node_id: founding.node_id.clone(),
        follow: memory.clone(),
        write: memory.clone(),
        members: memory.clone(),
        logs: memory.clone(),
        ender: memory.clone(),
        explain: |world, id, _| {
            let service = world
                .service(id)
                .ok_or_else(|| Error::not_found("service", id))?;
            Ok(Explanation {
                service: Some((**service).clone()),
                nodes: world.nodes().map(|n| (**n).clone()).collect(),
                ..Explanation::default()
            })
        },
        shutdown: shutdown.clone(),
    });
    let credentials =
        Credentials::from_pem(&founding.cert_pem, &founding.key_pem, &founding.root_pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("skep.sock");
    let local = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let remote = Server::builder()
        .add_service(service.server())
        .serve_with_incoming_shutdown(
            accept(listener, credentials),
            shutdown.clone().cancelled_owned(),
        );
    let local = Server::builder()
        .add_service(service.server())
        .serve_with_incoming_shutdown(local, shutdown.clone().cancelled_owned());
    tokio::spawn(remote);
    tokio::spawn(local);
    Lab {
        memory,
        founding,
        addr,
        socket,
        shutdown,
        _dir: dir,
    }
}

impl Lab {
    async fn local(&self) -> ControlClient<Channel> {
        let uri = format!("unix://{}", self.socket.display());
        ControlClient::new(Endpoint::try_from(uri).unwrap().connect().await.unwrap())
    }

    async fn as_node(&self, name: &str, role: PeerRole) -> ControlClient<Channel> {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let root = self
            .memory
            .world()
            .cluster()
            .unwrap()
            .root_ca
            .clone()
            .unwrap();
        let subject = Subject {
            name: name.to_owned(),
            role,
            cluster_id: self.founding.cluster_id.clone(),
        };
        let now = call::now_ns();
        let cert = RootAuthority::from_root_ca(&root)
            .unwrap()
            .sign(
                &Csr::parse(csr.pem().unwrap().as_bytes()).unwrap(),
                &subject,
                now,
                now + 1_000_000_000_000,
            )
            .unwrap();
        let credentials = Credentials::from_pem(
            &cert,
            key.serialize_pem().as_bytes(),
            &self.founding.root_pem,
        )
        .unwrap();
        let trust = Trust::Credentials(credentials);
        ControlClient::new(
            dial(&self.addr, &trust, &DialOptions::default())
                .await
                .unwrap(),
        )
    }

    fn node(&self, id: &str, role: Role) {
        let node = Node {
            meta: Some(Meta {
                id: id.to_owned(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                role: role.into(),
                ..NodeSpec::default()
            }),
            cert_not_after_ns: i64::MAX,
            ..Node::default()
        };
        let verb = Verb::RegisterNode(RegisterNode { node: Some(node) });
        self.memory.commit(&write(verb)).unwrap();
    }
}

fn write(verb: Verb) -> WriteRequest {
    WriteRequest {
        verb: Some(verb),
        ..WriteRequest::default()
    }
}

fn create(name: &str) -> WriteRequest {
    write(Verb::CreateService(CreateService {
        spec: Some(spec(name)),
    }))
}

fn internal() -> WriteRequest {
    write(Verb::NodeLost(NodeLost {
        state: NodeState::Down.into(),
        ..NodeLost::default()
    }))
}

fn service(reference: &str) -> GetRequest {
    GetRequest {
        kind: Kind::Service.into(),
        reference: reference.to_owned(),
    }
}

#[track_caller]
fn code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    Error::from(answer.unwrap_err()).code()
}

#[tokio::test]
async fn a_write_is_read_back_and_an_error_keeps_its_field_and_hint() {
    let lab = lab().await;
    let mut client = lab.local().await;
    let made = client.write(create("web")).await.unwrap().into_inner();
    let object = client.get(service("web")).await.unwrap().into_inner();
    assert_eq!(object.id(), made.id);
    let list = ListRequest {
        kind: Kind::Service.into(),
        filters: vec![],
    };
    let listed = client.list(list).await.unwrap().into_inner();
    assert_eq!((listed.objects.len(), listed.version), (1, made.version));
    let error = Error::from(client.write(create("w.b")).await.unwrap_err());
    assert_eq!(
        (error.code(), error.field.as_str()),
        (Code::Invalid, "name")
    );
    assert!(!error.hint.is_empty());
    assert_eq!(code(client.get(service("nope")).await), Code::NotFound);
    let explained = client
        .explain(ExplainRequest {
            reference: "WEB".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(explained.nodes[0].manager.as_ref().unwrap().leader);
    let nothing = client
        .explain(ExplainRequest {
            reference: "nope".to_owned(),
        })
        .await;
    assert_eq!(
        Error::from(nothing.unwrap_err()).message,
        "no such task or service: nope"
    );
}

#[tokio::test]
async fn a_request_without_an_id_gets_one_and_a_prepared_secret() {
    let lab = lab().await;
    let mut client = lab.local().await;
    let version = lab.memory.world().cluster().unwrap().meta().version;
    let rotate = write(Verb::UpdateCluster(UpdateCluster {
        version,
        rotate_worker_token: true,
        worker_token_secret: "0".repeat(25),
        ..UpdateCluster::default()
    }));
    let before = lab
        .memory
        .world()
        .cluster()
        .unwrap()
        .join_tokens
        .clone()
        .unwrap();
    client.write(rotate).await.unwrap();
    let after = lab
        .memory
        .world()
        .cluster()
        .unwrap()
        .join_tokens
        .clone()
        .unwrap();
    assert_ne!(after.worker, before.worker);
    assert!(
        !after.worker.ends_with(&"0".repeat(25)),
        "a caller does not choose the secret"
    );
    assert_eq!(after.manager, before.manager);
    assert_eq!(lab.memory.written.lock().unwrap()[0].request_id.len(), 25);
    let long = WriteRequest {
        request_id: "x".repeat(129),
        ..create("web")
    };
    assert_eq!(code(client.write(long).await), Code::Invalid);
    assert_eq!(
        code(client.write(WriteRequest::default()).await),
        Code::Invalid
    );
}

#[tokio::test]
async fn an_operator_asks_for_a_new_root_and_a_manager_makes_it() {
    let lab = lab().await;
    let mut client = lab.local().await;
    client
        .write(write(Verb::RotateRootCa(RotateRootCa::default())))
        .await
        .unwrap();
    let root = lab
        .memory
        .world()
        .cluster()
        .unwrap()
        .root_ca
        .clone()
        .unwrap();
    assert_eq!(root.previous_pem, lab.founding.root_pem);
    let own = RotateRootCa {
        root_ca: Some(root),
        join_tokens: None,
    };
    assert_eq!(
        code(client.write(write(Verb::RotateRootCa(own))).await),
        Code::Permission
    );
}

#[tokio::test]
async fn self_is_the_node_that_was_asked() {
    let lab = lab().await;
    let mut client = lab.local().await;
    let me = GetRequest {
        kind: Kind::Node.into(),
        reference: "self".to_owned(),
    };
    let node = client.get(me).await.unwrap().into_inner();
    assert_eq!(node.id(), lab.founding.node_id);
    let demote = write(Verb::RemoveNode(RemoveNode {
        node: "self".to_owned(),
        force: true,
    }));
    let error = Error::from(client.write(demote).await.unwrap_err());
    assert!(error.message.contains(&lab.founding.node_id), "{error}");
}

#[tokio::test]
async fn whoever_may_not_ask_is_refused_and_nothing_changes() {
    let lab = lab().await;
    lab.node("worker1", Role::Worker);
    lab.node("manager2", Role::Manager);
    let before = lab.memory.world().version();
    let mut worker = lab.as_node("worker1", PeerRole::Worker).await;
    assert_eq!(code(worker.write(create("web")).await), Code::Permission);
    assert_eq!(code(worker.get(service("web")).await), Code::Permission);
    assert_eq!(
        code(worker.watch(WatchRequest::default()).await),
        Code::Permission
    );
    assert_eq!(
        code(worker.logs(LogsRequest::default()).await),
        Code::Permission
    );
    assert_eq!(
        code(worker.end_manager(EndManagerRequest::default()).await),
        Code::Permission
    );
    let mut operator = lab.as_node("ann", PeerRole::Operator).await;
    assert_eq!(code(operator.write(internal()).await), Code::Permission);
    assert_eq!(
        code(lab.local().await.write(internal()).await),
        Code::Permission
    );
    assert_eq!(lab.memory.world().version(), before);
    assert!(lab.memory.ended.lock().unwrap().is_empty());
    operator.write(create("web")).await.unwrap();
    let mut manager = lab.as_node("manager2", PeerRole::Manager).await;
    manager.write(internal()).await.unwrap();
    // A removed manager's open connection is refused at its next call.
    let demoted = NodeSpec::default();
    let node = lab.memory.world().node("manager2").unwrap().clone();
    let demote = UpdateNode {
        node: "manager2".to_owned(),
        version: node.meta().version,
        spec: Some(demoted),
    };
    lab.memory.commit(&write(Verb::UpdateNode(demote))).unwrap();
    assert_eq!(code(manager.write(internal()).await), Code::Permission);
    let remove = RemoveNode {
        node: "manager2".to_owned(),
        force: true,
    };
    lab.memory.commit(&write(Verb::RemoveNode(remove))).unwrap();
    let error = Error::from(manager.get(service("web")).await.unwrap_err());
    assert!(
        error.message.contains("was removed from the swarm"),
        "{error}"
    );
}

#[tokio::test]
async fn a_forwarded_write_goes_no_further() {
    let lab = lab().await;
    lab.node("manager2", Role::Manager);
    lab.memory.leadership.send_replace(leads("manager2", false));
    let mut manager = lab.as_node("manager2", PeerRole::Manager).await;
    let forwarded = |request| {
        let mut request = tonic::Request::new(request);
        request
            .metadata_mut()
            .insert("skep-forwarded", "1".parse().unwrap());
        request
    };
    let refused = Error::from(manager.write(forwarded(create("web"))).await.unwrap_err());
    assert!(refused.is_retryable(), "{refused}");
    assert!(lab.memory.written.lock().unwrap().is_empty());
    // Elected, but not yet ready: it waits until it is.
    let own = lab.founding.node_id.clone();
    lab.memory.leadership.send_replace(leads(&own, false));
    let memory = lab.memory.clone();
    let settle = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        memory.leadership.send_replace(leads(&own, true));
    });
    manager.write(forwarded(create("web"))).await.unwrap();
    settle.await.unwrap();
    let asked = LogsRequest {
        reference: "web".to_owned(),
        stdout: true,
        ..LogsRequest::default()
    };
    manager.logs(forwarded_logs(asked.clone())).await.unwrap();
    lab.local().await.logs(asked).await.unwrap();
    let asked = lab.memory.asked_logs.lock().unwrap().clone();
    let id = lab
        .memory
        .world()
        .service_named("web")
        .unwrap()
        .id()
        .to_owned();
    let as_asked: Vec<_> = asked
        .iter()
        .map(|(r, forwarded)| (r.reference.as_str(), *forwarded))
        .collect();
    assert_eq!(as_asked, [("web", true), (id.as_str(), false)]);
}

fn forwarded_logs(request: LogsRequest) -> tonic::Request<LogsRequest> {
    let mut request = tonic::Request::new(request);
    request
        .metadata_mut()
        .insert("skep-forwarded", "1".parse().unwrap());
    request
}

#[tokio::test]
async fn a_read_waits_for_a_leader_no_longer_than_its_caller() {
    let lab = lab().await;
    lab.memory.leadership.send_replace(Leadership::default());
    let mut client = lab.local().await;
    let mut request = tonic::Request::new(service("web"));
    request.set_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let error = Error::from(client.get(request).await.unwrap_err());
    assert_eq!(
        (error.code(), error.message.as_str()),
        (Code::Timeout, "nobody leads")
    );
    assert!(began.elapsed() < WAIT);
}

#[tokio::test]
async fn a_demotion_that_would_lose_the_quorum_changes_nothing() {
    let lab = lab().await;
    lab.node("manager2", Role::Manager);
    let manager = ManagerStatus {
        raft_id: 2,
        ..ManagerStatus::default()
    };
    let enter = SetManager {
        node_id: "manager2".to_owned(),
        manager: Some(manager),
    };
    lab.memory.commit(&write(Verb::SetManager(enter))).unwrap();
    let demote = UpdateNode {
        node: "self".to_owned(),
        version: lab
            .memory
            .world()
            .node(&lab.founding.node_id)
            .unwrap()
            .meta()
            .version,
        spec: Some(NodeSpec::default()),
    };
    let before = lab.memory.world().version();
    let error = Error::from(
        lab.local()
            .await
            .write(write(Verb::UpdateNode(demote)))
            .await
            .unwrap_err(),
    );
    assert!(error.message.contains("loss of quorum"), "{error}");
    assert_eq!(lab.memory.world().version(), before);
}
