//! Whole managers' consensus in one process: real disks, real TCP, real mTLS.
//! Each has threads of its own, and dropping one is as abrupt as a killed process:
//! its tasks end where they are and the kernel closes its connections.

mod failover;
mod group;
mod restart;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use skep_proto::transport::{Credentials, accept};
use skep_proto::v1::{Change, Cluster, Meta, Node, Transaction, change};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::store::Place;
use super::{Config, Consensus, Member, RaftId};
use crate::seam::Follow;

/// Patience of the tests, which run beside many others on few cores.
const PATIENCE: Duration = Duration::from_secs(20);

fn by() -> Instant {
    Instant::now() + PATIENCE
}

/// A certificate authority of the tests' own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "swarm-ca");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn credentials(&self, node_id: &str, role: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([role.to_owned()]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, node_id);
        name.push(DnType::OrganizationalUnitName, role);
        name.push(DnType::OrganizationName, "test-cluster");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials::from_pem(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            self.pem.as_bytes(),
        )
        .unwrap()
    }
}

struct Manager {
    consensus: Consensus,
    member: Member,
}

/// Several managers, alive or dead, and their disks.
struct Swarm {
    authority: Authority,
    disks: BTreeMap<RaftId, (TempDir, Member)>,
    alive: BTreeMap<RaftId, Manager>,
    /// Every store that was ever opened.
    stores: Vec<Place>,
}

impl Drop for Swarm {
    /// RocksDB must be closed before the process ends.
    fn drop(&mut self) {
        self.alive.clear();
        let deadline = by();
        while self.stores.iter().any(|store| !store.is_closed()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Swarm {
    /// One manager that has founded a group.
    async fn founded() -> Self {
        let mut swarm = Self {
            authority: Authority::new(),
            disks: BTreeMap::new(),
            alive: BTreeMap::new(),
            stores: Vec::new(),
        };
        swarm.start(1).await;
        let found = swarm.at(1).found(founding(), by()).await.unwrap();
        assert_eq!(found.version, 1);
        swarm
    }

    /// Managers 1 to `count`, all voters.
    async fn of(count: u64) -> Self {
        let mut swarm = Self::founded().await;
        for id in 2..=count {
            swarm.join(id).await;
        }
        swarm
    }

    async fn start(&mut self, id: RaftId) {
        self.start_with(id, |_| {}).await;
    }

    /// Starts a manager on its disk; a new one at a free address.
    async fn start_with(&mut self, id: RaftId, adjust: impl Fn(&mut Config)) {
        let known = self.disks.get(&id).map(|(_, member)| member.addr.clone());
        let addr = known.unwrap_or_else(|| "127.0.0.1:0".into());
        let listener = bind(&addr).await;
        let (disk, member) = self.disks.entry(id).or_insert_with(|| {
            let member = Member {
                node_id: format!("node{id}"),
                addr: listener.local_addr().unwrap().to_string(),
            };
            (tempfile::tempdir().unwrap(), member)
        });
        let credentials = self.authority.credentials(&member.node_id, "swarm-manager");
        let mut config = Config::new(
            disk.path().to_owned(),
            id,
            member.node_id.clone(),
            member.addr.clone(),
            credentials.clone(),
        );
        adjust(&mut config);
        let consensus = open(config).await;
        serve(&consensus, listener, credentials);
        self.stores.push(consensus.core.place.clone());
        let member = member.clone();
        self.alive.insert(id, Manager { consensus, member });
    }

    async fn join(&mut self, id: RaftId) {
        self.start(id).await;
        let member = self.alive[&id].member.clone();
        let any = self.alive.values().next().unwrap();
        any.consensus.add_member(id, member, by()).await.unwrap();
    }

    /// The end of a process: nothing is said, connections are closed.
    fn kill(&mut self, id: RaftId) {
        self.alive.remove(&id).unwrap();
    }

    fn at(&self, id: RaftId) -> &Consensus {
        &self.alive[&id].consensus
    }

    fn disk(&self, id: RaftId) -> &Path {
        self.disks[&id].0.path()
    }

    /// The one that leads, is ready to, and that all others follow.
    async fn leader(&self) -> (RaftId, u64) {
        let deadline = by();
        loop {
            let seen: Vec<_> = self
                .alive
                .iter()
                .map(|(id, manager)| (*id, manager.consensus.leadership().borrow().clone()))
                .collect();
            if let Some((id, leadership)) = seen.iter().find(|(_, l)| l.is_self)
                && seen.iter().all(|(_, other)| {
                    other.term == leadership.term
                        && other.leader.as_ref().is_some_and(|l| l.raft_id == *id)
                })
            {
                return (*id, leadership.term);
            }
            assert!(Instant::now() < deadline, "nobody leads: {seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Commits one more node through whoever leads; `true` when acknowledged.
    async fn try_write(&self, name: &str) -> bool {
        for manager in self.alive.values() {
            let now = manager.consensus.leadership().borrow().clone();
            if now.is_self {
                let put = put_node(name);
                return manager.consensus.propose(&put, now.term).await.is_ok();
            }
        }
        false
    }

    async fn write(&self, name: &str) {
        let deadline = by();
        while !self.try_write(name).await {
            assert!(Instant::now() < deadline, "{name} cannot be written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Every living manager has all of `names` in a fresh world.
    async fn assert_all_know(&self, names: &[String]) {
        for (id, manager) in &self.alive {
            let world = manager.consensus.fresh_world(by()).await.unwrap();
            for name in names {
                assert!(world.node(name).is_some(), "{name} is lost on manager {id}");
            }
        }
    }
}

async fn bind(addr: &str) -> TcpListener {
    let deadline = by();
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{addr}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A killed manager lets go of its disk a moment later.
async fn open(config: Config) -> Consensus {
    let deadline = by();
    loop {
        match Consensus::start(config.clone()).await {
            Ok(consensus) => return consensus,
            Err(error) => assert!(
                error.message.contains("another skep daemon") && Instant::now() < deadline,
                "{error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn serve(consensus: &Consensus, listener: TcpListener, credentials: Credentials) {
    let service = consensus.raft_service();
    let listener = listener.into_std().unwrap();
    consensus.runtime().spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(accept(listener, credentials))
            .await
    });
}

fn transaction(object: impl Into<skep_proto::v1::Object>) -> Transaction {
    Transaction {
        at_ns: 1,
        changes: vec![Change {
            change: Some(change::Change::Put(object.into())),
        }],
        ..Transaction::default()
    }
}

fn founding() -> Transaction {
    transaction(Cluster {
        meta: Some(Meta {
            id: "test-cluster".into(),
            ..Meta::default()
        }),
        ..Cluster::default()
    })
}

fn put_node(id: &str) -> Transaction {
    transaction(Node {
        meta: Some(Meta {
            id: id.into(),
            ..Meta::default()
        }),
        ..Node::default()
    })
}
