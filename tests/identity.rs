//! Joining, renewing, promotion, removal and the exchange of the root, between
//! the real manager's side and the real host's side, over real TLS. The log is
//! left out: one manager's World and the verbs, committed as they come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use skep_manager::control::execute;
use skep_manager::identity::{
    FoundOptions, IdentityOptions, IdentityService, begin_rotation, finish_rotations, found,
    needs_renewal,
};
use skep_manager::seam::{Follow, Leadership, Write};
use skep_manager::state::{Applied, Seed, World};
use skep_proto::objects::Identified;
use skep_proto::token::{JoinToken, root_digest};
use skep_proto::transport::{Credentials, DialOptions, Trust, accept, dial};
use skep_proto::v1::identity_client::IdentityClient;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    Availability, Cluster, IssueRequest, JoinTokens, ManagerPeer, ManagerStatus, Node,
    NodeDescription, NodeSpec, Outcome, RemoveNode, RenewRequest, Role, Transaction, UpdateNode,
    WriteRequest, WriteResponse,
};
use skep_proto::{Code, Error, Result};
use skep_worker::identity::{CertificateFiles, Joined, Renewer, join};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

const LIMIT: Duration = Duration::from_secs(20);

/// One manager's World, written without a log.
struct Single {
    world: Mutex<Arc<World>>,
    applied: broadcast::Sender<Arc<Applied>>,
    leadership: watch::Sender<Leadership>,
}

impl Single {
    fn new() -> Arc<Self> {
        let leads = Leadership {
            term: 1,
            leader: None,
            is_self: true,
        };
        Arc::new(Self {
            world: Mutex::default(),
            applied: broadcast::channel(64).0,
            leadership: watch::channel(leads).0,
        })
    }

    fn commit(&self, request: &WriteRequest) -> Result<WriteResponse> {
        use prost::Message;
        let mut held = self.world.lock().unwrap();
        if let Some(outcome) = held.outcome(&request.request_id) {
            return Ok(WriteResponse::decode(outcome.response.as_slice()).unwrap());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at_ns = i64::try_from(now.as_nanos()).unwrap();
        let done = execute(&held, request, at_ns, Seed(held.version()))?;
        let mut world = World::clone(&held);
        let applied = world.apply(&Transaction {
            at_ns,
            changes: done.changes,
            outcomes: vec![Outcome {
                request_id: request.request_id.clone(),
                response: done.response.encode_to_vec(),
            }],
        });
        *held = Arc::new(world);
        let _ = self.applied.send(Arc::new(applied));
        Ok(done.response)
    }

    fn verb(&self, verb: Verb) -> Result<WriteResponse> {
        self.commit(&WriteRequest {
            request_id: format!("{:x}", rand::random::<u128>()),
            verb: Some(verb),
            ..WriteRequest::default()
        })
    }

    fn cluster(&self) -> Cluster {
        (**self.world().cluster().unwrap()).clone()
    }

    fn node(&self, id: &str) -> Node {
        (**self.world().node(id).unwrap()).clone()
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

/// A swarm of one manager that serves identity.
struct Swarm {
    single: Arc<Single>,
    addr: SocketAddr,
    credentials: Credentials,
    /// The manager's own, kept for as long as it runs.
    data_dir: tempfile::TempDir,
    managers: watch::Sender<Vec<ManagerPeer>>,
    shutdown: CancellationToken,
    _ends: DropGuard,
}

impl Swarm {
    async fn found(cert_expiry: Option<Duration>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cert_expiry_ns = cert_expiry.map(|d| i64::try_from(d.as_nanos()).unwrap());
        let founding = found(FoundOptions {
            manager: ManagerStatus {
                raft_id: 1,
                addr: addr.to_string(),
                ..ManagerStatus::default()
            },
            cert_expiry_ns,
            ..FoundOptions::default()
        })
        .unwrap();
        let single = Single::new();
        single.commit(&founding.request).unwrap();
        let files = CertificateFiles {
            cert_pem: founding.cert_pem,
            key_pem: founding.key_pem,
            root_pem: founding.root_pem,
        };
        let data_dir = tempfile::tempdir().unwrap();
        files.save(data_dir.path()).unwrap();
        let credentials = files.credentials().unwrap();
        let service = IdentityService::new(
            single.clone(),
            single.clone(),
            IdentityOptions { cert_expiry_ns },
        );
        let shutdown = CancellationToken::new();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming_shutdown(
                    accept(listener, credentials.clone()),
                    shutdown.clone().cancelled_owned(),
                ),
        );
        let managers = watch::channel(vec![ManagerPeer {
            node_id: founding.node_id,
            addr: addr.to_string(),
        }]);
        Self {
            single,
            addr,
            credentials,
            data_dir,
            managers: managers.0,
            _ends: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    fn tokens(&self) -> JoinTokens {
        self.single.cluster().join_tokens.unwrap()
    }

    async fn join(&self, token: &str) -> Result<Joined> {
        let description = NodeDescription {
            hostname: "host".to_owned(),
            ..NodeDescription::default()
        };
        join(
            &[self.addr.to_string()],
            token,
            Availability::Pause,
            description,
            Instant::now() + Duration::from_secs(5),
        )
        .await
    }

    fn renewer(&self, credentials: &Credentials, data_dir: &tempfile::TempDir) -> Renewer {
        Renewer::start(
            credentials.clone(),
            data_dir.path().to_owned(),
            self.managers.subscribe(),
            self.shutdown.clone(),
        )
    }

    /// A renewal with `credentials`, by a connection of its own.
    async fn renew_with(&self, credentials: &Credentials) -> Result<Role> {
        let trust = Trust::Credentials(credentials.clone());
        let channel = dial(&self.addr.to_string(), &trust, &DialOptions::default()).await?;
        let request = RenewRequest {
            csr_pem: request_pem(),
        };
        let renewed = IdentityClient::new(channel).renew(request).await?;
        Ok(renewed.into_inner().role())
    }

    fn want_role(&self, node_id: &str, role: Role) {
        let node = self.single.node(node_id);
        let spec = NodeSpec {
            role: role.into(),
            ..node.spec.clone().unwrap()
        };
        self.single
            .verb(Verb::UpdateNode(UpdateNode {
                node: node_id.to_owned(),
                version: node.meta().version,
                spec: Some(spec),
            }))
            .unwrap();
    }
}

fn request_pem() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key);
    csr.unwrap().pem().unwrap().into_bytes()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_host_joins_in_the_role_of_its_token() {
    let swarm = Swarm::found(None).await;
    let tokens = swarm.tokens();
    for (token, role) in [
        (&tokens.worker, Role::Worker),
        (&tokens.manager, Role::Manager),
    ] {
        let joined = swarm.join(token).await.unwrap();
        assert_eq!(joined.role, role);
        assert_eq!(joined.managers[0].addr, swarm.addr.to_string());
        let node = swarm.single.node(&joined.node_id);
        assert_eq!(node.spec.as_ref().unwrap().role(), role);
        assert_eq!(node.availability(), Availability::Pause);
        assert_eq!(node.hostname(), "host");
        assert_eq!(needs_renewal(&swarm.single.cluster(), &node), None);
        let credentials = joined.files.credentials().unwrap();
        assert_eq!(credentials.peer().node_id, joined.node_id);
        assert_eq!(swarm.renew_with(&credentials).await.unwrap(), role);
        // The swarm knows when the certificate ends: until then it can refuse it.
        let known_ns = swarm.single.node(&joined.node_id).cert_not_after_ns;
        assert!(known_ns >= credentials.peer().not_after_ns);
    }
    assert_eq!(swarm.single.world().node_count(), 3);
}

#[tokio::test]
async fn a_wrong_token_and_a_foreign_root_are_told_apart() {
    let swarm = Swarm::found(None).await;
    let root = swarm.single.cluster().root_ca.unwrap();
    let guessed = JoinToken::new(&root.digest, [9; 16]).to_string();
    let refused = swarm.join(&guessed).await.unwrap_err();
    assert_eq!(
        refused.message,
        "A valid join token is necessary to join this cluster"
    );
    assert!(refused.hint.contains("join-token"), "{}", refused.hint);

    let foreign = JoinToken::new(&root_digest(b"another root"), [9; 16]).to_string();
    let refused = swarm.join(&foreign).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("remote CA does not match fingerprint"),
        "{refused}"
    );
    assert!(
        refused.message.contains(&swarm.addr.to_string()),
        "{refused}"
    );
    assert_eq!(swarm.single.world().node_count(), 1);
}

#[tokio::test]
async fn a_repeated_request_makes_one_node_and_a_stolen_one_gets_no_certificate_of_it() {
    let swarm = Swarm::found(None).await;
    let root = swarm.single.cluster().root_ca.unwrap();
    let channel = dial(
        &swarm.addr.to_string(),
        &Trust::Root(root.cert_pem),
        &DialOptions::default(),
    )
    .await
    .unwrap();
    let mut client = IdentityClient::new(channel);
    let request = IssueRequest {
        request_id: "the-same".to_owned(),
        token: swarm.tokens().worker,
        csr_pem: request_pem(),
        ..IssueRequest::default()
    };
    let first = client.issue(request.clone()).await.unwrap().into_inner();
    let again = client.issue(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.node_id, again.node_id);
    let stolen = IssueRequest {
        csr_pem: request_pem(),
        ..request.clone()
    };
    let other = client.issue(stolen).await.unwrap().into_inner();
    assert_ne!(first.node_id, other.node_id);

    for (spoil, field) in [
        (
            (|r: &mut IssueRequest| r.token = "SWMTKN-1-x".to_owned()) as fn(&mut IssueRequest),
            "token",
        ),
        (|r| r.csr_pem = b"rubbish".to_vec(), "csr_pem"),
        (|r| r.request_id.clear(), "request_id"),
        (|r| r.availability = 77, "availability"),
    ] {
        let mut bad = request.clone();
        spoil(&mut bad);
        let refused = Error::from(client.issue(bad).await.unwrap_err());
        assert_eq!(
            (refused.code(), refused.field.as_str()),
            (Code::Invalid, field)
        );
    }
    // Without a certificate there is nothing to renew.
    let refused = client
        .renew(RenewRequest {
            csr_pem: request_pem(),
        })
        .await
        .unwrap_err();
    assert_eq!(Error::from(refused).code(), Code::Permission);
}

#[tokio::test]
async fn a_node_lives_on_beyond_its_first_certificate() {
    let swarm = Swarm::found(Some(Duration::from_secs(4))).await;
    let joined = swarm.join(&swarm.tokens().worker).await.unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    joined.files.save(data_dir.path()).unwrap();
    let credentials = joined.files.credentials().unwrap();
    let _managers = swarm.renewer(&swarm.credentials, &swarm.data_dir);
    let _workers = swarm.renewer(&credentials, &data_dir);
    let first_ns = credentials.peer().not_after_ns;
    let first_end = UNIX_EPOCH + Duration::from_nanos(u64::try_from(first_ns).unwrap());
    until("the first certificate has ended", || {
        SystemTime::now() > first_end + Duration::from_millis(500)
    })
    .await;
    assert!(credentials.peer().not_after_ns > first_ns);
    // The newest is on disk, and the manager takes it.
    let saved = CertificateFiles::load(data_dir.path()).unwrap().unwrap();
    let saved = saved.credentials().unwrap();
    assert!(saved.peer().not_after_ns > first_ns);
    assert_eq!(swarm.renew_with(&credentials).await.unwrap(), Role::Worker);
}

#[tokio::test]
async fn promotion_and_demotion_come_with_the_renewed_certificate() {
    let swarm = Swarm::found(None).await;
    let joined = swarm.join(&swarm.tokens().worker).await.unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let credentials = joined.files.credentials().unwrap();
    let renewer = swarm.renewer(&credentials, &data_dir);
    let role = renewer.role();
    for wanted in [Role::Manager, Role::Worker] {
        swarm.want_role(&joined.node_id, wanted);
        let node = swarm.single.node(&joined.node_id);
        let due = needs_renewal(&swarm.single.cluster(), &node);
        assert_eq!(due, Some(wanted));
        renewer.renew_now(due);
        until("the role changes", || *role.borrow() == wanted).await;
        let node = swarm.single.node(&joined.node_id);
        assert_eq!(node.role(), wanted);
        assert_eq!(needs_renewal(&swarm.single.cluster(), &node), None);
    }
}

#[tokio::test]
async fn a_removed_node_is_refused_at_once() {
    let swarm = Swarm::found(None).await;
    let joined = swarm.join(&swarm.tokens().worker).await.unwrap();
    let credentials = joined.files.credentials().unwrap();
    swarm.renew_with(&credentials).await.unwrap();
    swarm
        .single
        .verb(Verb::RemoveNode(RemoveNode {
            node: joined.node_id.clone(),
            force: true,
        }))
        .unwrap();
    let refused = swarm.renew_with(&credentials).await.unwrap_err();
    assert_eq!(refused.code(), Code::Permission);
    assert!(refused.message.contains("removed"), "{refused}");
}

#[tokio::test]
async fn the_root_is_exchanged_while_everybody_goes_on_talking() {
    let swarm = Swarm::found(None).await;
    let joined = swarm.join(&swarm.tokens().worker).await.unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let worker = joined.files.credentials().unwrap();
    let renewers = [
        swarm.renewer(&swarm.credentials, &swarm.data_dir),
        swarm.renewer(&worker, &data_dir),
    ];
    let ending = finish_rotations(
        swarm.single.clone(),
        swarm.single.clone(),
        swarm.shutdown.clone(),
    );
    let ending = tokio::spawn(ending);
    let (old_root, old_tokens) = (swarm.single.cluster().root_ca.unwrap(), swarm.tokens());

    let begin = begin_rotation(&swarm.single.cluster()).unwrap();
    swarm.single.verb(Verb::RotateRootCa(begin)).unwrap();
    let twice = begin_rotation(&swarm.single.cluster()).unwrap_err();
    assert_eq!(twice.code(), Code::Precondition);
    assert!(swarm.join(&old_tokens.worker).await.is_err());

    // The worker first: the manager still trusts and shows the old root only.
    renewers[1].renew_now(None);
    let both = swarm.single.cluster().root_ca.unwrap().trusted_pem();
    until("the worker trusts both roots", || worker.root_pem() == both).await;
    swarm.renew_with(&worker).await.unwrap();
    assert!(
        !swarm
            .single
            .cluster()
            .root_ca
            .unwrap()
            .previous_pem
            .is_empty()
    );

    renewers[0].renew_now(None);
    until("the old root is dropped", || {
        let root = swarm.single.cluster().root_ca.unwrap();
        root.previous_pem.is_empty() && root.digest != old_root.digest
    })
    .await;
    swarm.renew_with(&worker).await.unwrap();
    for renewer in &renewers {
        renewer.renew_now(None);
    }
    let alone = swarm.single.cluster().root_ca.unwrap().cert_pem;
    until("everybody trusts the new root alone", || {
        worker.root_pem() == alone && swarm.credentials.root_pem() == alone
    })
    .await;
    swarm.renew_with(&worker).await.unwrap();
    let new = swarm.join(&swarm.tokens().worker).await.unwrap();
    assert_eq!(new.files.root_pem, alone);

    swarm.shutdown.cancel();
    tokio::time::timeout(LIMIT, ending).await.unwrap().unwrap();
    for renewer in renewers {
        tokio::time::timeout(LIMIT, renewer.ended()).await.unwrap();
    }
}
