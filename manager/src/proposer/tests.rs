//! The proposer over a consensus of one that can be held up and can fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Change, Cluster, ContainerSpec, CreateService, Meta, Object, Replicated, ServiceSpec, TaskSpec,
    Transaction, WriteRequest, change, service_spec::Mode, write_request::Verb,
};
use skep_proto::{Code, Error, Result};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{Propose, Proposer};
use crate::seam::{Follow, Leader, Leadership, Write};
use crate::state::{Applied, World};

/// A group of one: applies what it is told, once it is let.
struct Alone {
    world: Mutex<Arc<World>>,
    applied: broadcast::Sender<Arc<Applied>>,
    leadership: watch::Sender<Leadership>,
    /// One permit lets one entry through.
    gate: Semaphore,
    entries: Mutex<Vec<Transaction>>,
    /// Answers to give instead of applying, oldest first.
    failures: Mutex<VecDeque<Error>>,
}

impl Alone {
    fn new(leads: bool) -> Arc<Self> {
        let mut world = World::default();
        world.apply(&Transaction {
            at_ns: 1,
            changes: vec![Change {
                change: Some(change::Change::Put(Object::from(Cluster {
                    meta: Some(Meta {
                        id: "c".into(),
                        ..Meta::default()
                    }),
                    ..Cluster::default()
                }))),
            }],
            outcomes: Vec::new(),
        });
        let leadership = Leadership {
            term: 1,
            leader: leads.then(Leader::default),
            is_self: leads,
        };
        Arc::new(Self {
            world: Mutex::new(Arc::new(world)),
            applied: broadcast::channel(64).0,
            leadership: watch::channel(leadership).0,
            gate: Semaphore::new(1_000_000),
            entries: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    fn services(&self) -> usize {
        self.world.lock().unwrap().service_count()
    }
}

impl Follow for Alone {
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

impl Propose for Alone {
    fn propose(&self, transaction: Transaction, _: u64) -> BoxFuture<'_, Result<Arc<Applied>>> {
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            if let Some(error) = self.failures.lock().unwrap().pop_front() {
                return Err(error);
            }
            let mut world = (*self.world()).clone();
            let applied = Arc::new(world.apply(&transaction));
            *self.world.lock().unwrap() = Arc::new(world);
            self.entries.lock().unwrap().push(transaction);
            let _ = self.applied.send(applied.clone());
            Ok(applied)
        })
    }
}

fn proposer(alone: &Arc<Alone>) -> (Proposer, CancellationToken) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["swarm-manager".into()]).unwrap();
    for (kind, value) in [
        (rcgen::DnType::CommonName, "n"),
        (rcgen::DnType::OrganizationalUnitName, "swarm-manager"),
        (rcgen::DnType::OrganizationName, "c"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    let cert = params.self_signed(&key).unwrap().pem();
    let credentials = skep_proto::transport::Credentials::from_pem(
        cert.as_bytes(),
        key.serialize_pem().as_bytes(),
        cert.as_bytes(),
    )
    .unwrap();
    let shutdown = CancellationToken::new();
    let proposer = Proposer::start(alone.clone(), alone.clone(), credentials, shutdown.clone());
    (proposer, shutdown)
}

fn create(request_id: &str, name: &str) -> WriteRequest {
    WriteRequest {
        request_id: request_id.into(),
        verb: Some(Verb::CreateService(CreateService {
            spec: Some(ServiceSpec {
                name: name.into(),
                task: Some(TaskSpec {
                    container: Some(ContainerSpec {
                        image: "busybox".into(),
                        ..ContainerSpec::default()
                    }),
                    ..TaskSpec::default()
                }),
                mode: Some(Mode::Replicated(Replicated { replicas: 0 })),
                ..ServiceSpec::default()
            }),
        })),
        ..WriteRequest::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn a_retried_request_is_applied_once() {
    let alone = Alone::new(true);
    let (proposer, _shutdown) = proposer(&alone);
    let first = proposer.write(create("r1", "web"), soon()).await.unwrap();
    let again = proposer.write(create("r1", "web"), soon()).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(alone.services(), 1);
    let other = proposer.write(create("r2", "web"), soon()).await;
    assert_eq!(other.unwrap_err().code(), Code::Exists);
}

#[tokio::test]
async fn requests_that_wait_together_share_an_entry_and_keep_versions_of_their_own() {
    let alone = Alone::new(true);
    // Whatever the engine says first passes; then nothing does.
    alone.gate.forget_permits(1_000_000);
    let (proposer, _shutdown) = proposer(&alone);
    let writes: Vec<_> = (0..20)
        .map(|n| {
            let proposer = proposer.clone();
            tokio::spawn(async move {
                let request = create(&format!("r{n}"), &format!("s{n}"));
                proposer.write(request, soon()).await
            })
        })
        .collect();
    let deadline = soon();
    while alone.gate.available_permits() == 0 && Instant::now() < deadline {
        // All of them are queued behind the first entry before it passes.
        tokio::task::yield_now().await;
        if writes.iter().all(|w| !w.is_finished()) {
            alone.gate.add_permits(1_000);
        }
    }
    let mut versions = Vec::new();
    for write in writes {
        versions.push(write.await.unwrap().unwrap().version);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 20, "each request has a version of its own");
    assert_eq!(alone.services(), 20);
    let entries = alone.entries.lock().unwrap().len();
    assert!(entries <= 3, "{entries} entries for 20 requests");
    let world = alone.world();
    for service in world.services() {
        assert!(versions.contains(&service.meta().version));
    }
}

#[tokio::test]
async fn an_entry_that_was_not_committed_is_asked_for_again() {
    let alone = Alone::new(true);
    alone
        .failures
        .lock()
        .unwrap()
        .push_back(Error::unavailable("the disk was slow"));
    let (proposer, _shutdown) = proposer(&alone);
    proposer.write(create("r1", "web"), soon()).await.unwrap();
    assert_eq!(alone.services(), 1);
}

#[tokio::test]
async fn without_a_leader_a_request_ends_with_its_deadline() {
    let alone = Alone::new(false);
    let (proposer, _shutdown) = proposer(&alone);
    let deadline = Instant::now() + Duration::from_millis(100);
    let error = proposer.write(create("r1", "web"), deadline).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert!(error.message.contains("no manager leads"), "{error}");
    assert!(!error.hint.is_empty());
}

#[tokio::test]
async fn a_request_waits_out_an_election() {
    let alone = Alone::new(false);
    let (proposer, _shutdown) = proposer(&alone);
    let write = tokio::spawn(async move { proposer.write(create("r1", "web"), soon()).await });
    tokio::task::yield_now().await;
    alone.leadership.send_replace(Leadership {
        term: 2,
        leader: Some(Leader::default()),
        is_self: true,
    });
    write.await.unwrap().unwrap();
    assert_eq!(alone.services(), 1);
}

#[tokio::test]
async fn a_verb_for_another_term_is_refused_at_once() {
    let alone = Alone::new(true);
    let (proposer, _shutdown) = proposer(&alone);
    let request = WriteRequest {
        term: 7,
        ..create("r1", "web")
    };
    let error = proposer.write(request, soon()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(alone.services(), 0);
}
