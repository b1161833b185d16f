//! One manager, put together: consensus, the proposer, and the services that
//! share the cluster's listener.
//!
//! Invariant: composes; every decision is made in one of the rooms.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skep_proto::objects::Identified;
use skep_proto::transport::{Credentials, accept};
use skep_proto::v1::{
    EndManagerRequest, InfoResponse, ManagerStatus, Role, SetManager, Transaction, UpdateNode,
    WriteRequest, end_manager_request, write_request::Verb,
};
use skep_proto::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::consensus::{self, Consensus};
use crate::control::{self, ControlService};
use crate::dispatch::Dispatcher;
use crate::identity::{IdentityOptions, IdentityService, finish_rotations};
use crate::proposer::Proposer;
use crate::roles;
use crate::seam::{Follow, Write};
use crate::state::{Seed, World};
use crate::{engine, enter};

/// A listener that is closing waits this long for calls under way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at whether the group has taken this manager in.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What a drill does to a manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndMode {
    /// Its process aborts.
    Kill,
    /// Its daemon is told to stop.
    Stop,
    /// Its network is silently gone for so long.
    Cut(Duration),
}

/// What a manager is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the Raft log and state.
    pub dir: PathBuf,
    /// Its number in the Raft group.
    pub raft_id: u64,
    /// Its node's id.
    pub node_id: String,
    /// Where to listen for the cluster.
    pub listen: SocketAddr,
    /// Where the others reach it, `host:port`.
    pub advertise_addr: String,
    /// What it shows and trusts.
    pub credentials: Credentials,
    /// Leave all other managers behind and lead alone from this disk.
    pub force_new_cluster: bool,
    /// How long certificates live, ns, instead of what the cluster says: for
    /// trying out renewal.
    pub cert_expiry_ns: Option<i64>,
    /// Told when a drill is to end this manager.
    pub end: mpsc::Sender<EndMode>,
}

/// A manager that runs.
pub struct Manager {
    config: Config,
    consensus: Consensus,
    proposer: Proposer,
    control: ControlService,
    server: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    shutdown: CancellationToken,
}

impl Manager {
    /// Opens the store, listens, and serves. It is in no Raft group yet unless
    /// its disk knows of one.
    pub async fn start(config: Config) -> Result<Arc<Self>> {
        let listener = TcpListener::bind(config.listen).await.map_err(|e| {
            Error::precondition(format!("cannot listen on {}: {e}", config.listen))
                .at("listen-addr")
                .hint("is another daemon using the port? --listen-addr names another one")
        })?;
        let mut raft = consensus::Config::new(
            config.dir.clone(),
            config.raft_id,
            config.node_id.clone(),
            config.advertise_addr.clone(),
            config.credentials.clone(),
        );
        raft.force_new_cluster = config.force_new_cluster;
        let consensus = Consensus::start(raft).await?;
        let shutdown = CancellationToken::new();
        let follow: Arc<dyn Follow> = Arc::new(consensus.clone());
        let proposer = Proposer::start(
            follow.clone(),
            Arc::new(consensus.clone()),
            config.credentials.clone(),
            shutdown.clone(),
        );
        let write: Arc<dyn Write> = Arc::new(proposer.clone());
        let dispatcher = Dispatcher::new(
            follow.clone(),
            write.clone(),
            config.credentials.clone(),
            shutdown.clone(),
        );
        let identity = IdentityService::new(
            follow.clone(),
            write.clone(),
            IdentityOptions {
                cert_expiry_ns: config.cert_expiry_ns,
            },
        );
        let control = ControlService::new(control::Parts {
            node_id: config.node_id.clone(),
            follow: follow.clone(),
            write: write.clone(),
            members: Arc::new(consensus.clone()),
            logs: Arc::new(dispatcher.clone()),
            ender: Arc::new(Ender {
                follow: follow.clone(),
                end: config.end.clone(),
            }),
            explain: engine::explain,
            shutdown: shutdown.clone(),
        });
        tokio::spawn(finish_rotations(
            follow.clone(),
            write.clone(),
            shutdown.clone(),
        ));
        tokio::spawn(roles::follow(consensus.clone(), write, shutdown.clone()));
        let incoming = {
            let _threads = consensus.runtime().enter();
            accept(listener, config.credentials.clone())
        };
        let serve = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(consensus.raft_service())
            .add_service(dispatcher.service())
            .add_service(identity.into_server())
            .add_service(control.server())
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        // Accepting and serving on consensus' own threads: load of ours must not
        // keep a vote or a heartbeat waiting.
        let server = consensus.runtime().spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the cluster's listener failed");
            }
        });
        Ok(Arc::new(Self {
            config,
            consensus,
            proposer,
            control,
            server: tokio::sync::Mutex::new(Some(server)),
            shutdown,
        }))
    }

    /// Becomes the first and only manager of a new swarm.
    pub async fn found(&self, request: WriteRequest, deadline: Instant) -> Result<()> {
        let now = now_ns();
        let execution = control::execute(&World::default(), &request, now, Seed(rand::random()))?;
        let first = Transaction {
            at_ns: now,
            changes: execution.changes,
            outcomes: Vec::new(),
        };
        self.consensus.found(first, deadline).await.map(|_| ())
    }

    /// Enters the Raft group that one of `managers` is in: says where this
    /// manager is, and waits until the leader has taken it in.
    pub async fn join(&self, managers: &[String], deadline: Instant) -> Result<()> {
        let request = WriteRequest {
            verb: Some(Verb::SetManager(SetManager {
                node_id: self.config.node_id.clone(),
                manager: Some(ManagerStatus {
                    raft_id: self.config.raft_id,
                    addr: self.config.advertise_addr.clone(),
                    ..ManagerStatus::default()
                }),
            })),
            ..WriteRequest::default()
        };
        enter::say(managers, &self.config.credentials, &request, deadline).await?;
        let me = self.config.raft_id;
        let voter = |consensus: &Consensus| {
            let members = consensus.members();
            members.iter().any(|m| m.raft_id == me && m.voter)
        };
        while !voter(&self.consensus) {
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "the swarm's leader did not take this manager in at {}",
                    self.config.advertise_addr
                ))
                .hint(
                    "the leader has to reach this host at that address: --advertise-addr names \
                     another one",
                ));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// The control service, for the host's local socket.
    pub fn control(&self) -> ControlService {
        self.control.clone()
    }

    /// The newest applied world.
    pub fn world(&self) -> Arc<World> {
        self.consensus.world()
    }

    /// A world that holds all that was acknowledged.
    pub async fn fresh_world(&self, deadline: Instant) -> Result<Arc<World>> {
        self.consensus.fresh_world(deadline).await
    }

    /// Fills in what a manager knows of the swarm.
    pub fn describe(&self, info: &mut InfoResponse) {
        let world = self.consensus.world();
        let leadership = self.consensus.leadership().borrow().clone();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        info.manager = true;
        info.leader = leadership.is_self;
        info.term = leadership.term;
        info.nodes = count(world.node_count());
        info.services = count(world.service_count());
        info.manager_count = count(world.nodes().filter(|n| n.manager.is_some()).count());
        info.world_version = world.version();
        if leadership.leader.is_none() {
            info.warnings.push(
                "the swarm has no leader: it is possible that too few managers are online; more \
                 than half of them must be"
                    .to_owned(),
            );
        }
        if info.manager_count == 2 {
            info.warnings.push(
                "running a swarm with two managers: losing either one stops it; add a third, or \
                 run one"
                    .to_owned(),
            );
        }
        if let Some(error) = self.consensus.fatal().borrow().as_ref() {
            info.warnings
                .push(format!("this manager cannot write to its disk: {error}"));
        }
    }

    /// If it leads: has another manager lead first.
    pub async fn hand_over(&self, deadline: Instant) {
        if !self.consensus.leadership().borrow().is_self {
            return;
        }
        if let Err(error) = self.consensus.transfer_away(deadline).await {
            tracing::info!(%error, "no other manager could take over first");
        }
    }

    /// Leaves the Raft group: by the leader, as after a demotion. Refused without
    /// `force`, in Swarm's words; with it, goes even if the others do not answer.
    pub async fn leave(&self, force: bool, deadline: Instant) -> Result<()> {
        let voters = self.consensus.members().iter().filter(|m| m.voter).count();
        if !force {
            return Err(Error::precondition(leaving(voters)).hint(
                "demote this node first (skep node demote), or use --force: the swarm's state on \
                 this node is then lost",
            ));
        }
        if voters <= 1 {
            return Ok(());
        }
        if let Err(error) = self.demote_self(deadline).await {
            tracing::warn!(%error, "leaving without the others' consent");
        }
        Ok(())
    }

    async fn demote_self(&self, deadline: Instant) -> Result<()> {
        let world = self.consensus.fresh_world(deadline).await?;
        let node = world
            .node(&self.config.node_id)
            .ok_or_else(|| Error::not_found("node", &self.config.node_id))?;
        let mut spec = node.spec.clone().unwrap_or_default();
        spec.set_role(Role::Worker);
        let request = WriteRequest {
            verb: Some(Verb::UpdateNode(UpdateNode {
                node: self.config.node_id.clone(),
                version: node.meta().version,
                spec: Some(spec),
            })),
            ..WriteRequest::default()
        };
        self.proposer.write(request, deadline).await?;
        let me = self.config.raft_id;
        while self.consensus.members().iter().any(|m| m.raft_id == me) {
            if Instant::now() >= deadline {
                return Err(Error::unavailable(
                    "the Raft group did not let go of this manager",
                ));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// After [`Config::force_new_cluster`]: the managers left behind are none
    /// any more, and cannot come back as such with what they hold.
    pub async fn forget_others(&self, deadline: Instant) -> Result<()> {
        let world = self.consensus.fresh_world(deadline).await?;
        for node in world.nodes() {
            if node.id() == self.config.node_id || node.manager.is_none() {
                continue;
            }
            let mut spec = node.spec.clone().unwrap_or_default();
            spec.set_role(Role::Worker);
            for verb in [
                Verb::UpdateNode(UpdateNode {
                    node: node.id().to_owned(),
                    version: node.meta().version,
                    spec: Some(spec),
                }),
                Verb::SetManager(SetManager {
                    node_id: node.id().to_owned(),
                    manager: None,
                }),
            ] {
                let request = WriteRequest {
                    verb: Some(verb),
                    ..WriteRequest::default()
                };
                self.proposer.write(request, deadline).await?;
            }
        }
        Ok(())
    }

    /// Stops everything and closes the store.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        if let Err(error) = self.consensus.shutdown().await {
            tracing::warn!(%error, "the Raft store was not closed in order");
        }
        if let Some(server) = self.server.lock().await.take()
            && tokio::time::timeout(CLOSE_TIMEOUT, server).await.is_err()
        {
            tracing::debug!("calls under way were dropped");
        }
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager")
            .field("node_id", &self.config.node_id)
            .finish_non_exhaustive()
    }
}

/// Hands a drill's request to the host, if this manager is the one it means.
struct Ender {
    follow: Arc<dyn Follow>,
    end: mpsc::Sender<EndMode>,
}

impl control::EndManager for Ender {
    fn end(&self, request: &EndManagerRequest) -> Result<()> {
        let leadership = self.follow.leadership().borrow().clone();
        if !leadership.is_self || (request.term != 0 && request.term != leadership.term) {
            return Err(Error::precondition(
                "this manager does not lead, and a drill ends only the leader",
            )
            .hint("skep node ls shows who leads"));
        }
        let mode = match request.mode() {
            end_manager_request::Mode::Kill => EndMode::Kill,
            end_manager_request::Mode::Stop => EndMode::Stop,
            end_manager_request::Mode::Cut => EndMode::Cut(Duration::from_nanos(
                u64::try_from(request.cut_for_ns).unwrap_or(0),
            )),
        };
        self.end
            .try_send(mode)
            .map_err(|_| Error::precondition("this manager is already being ended"))
    }
}

fn leaving(voters: usize) -> String {
    let left = voters.saturating_sub(1);
    let consequence = match voters {
        0 | 1 => "Removing the last manager erases all current state of the swarm.".to_owned(),
        _ if left < voters / 2 + 1 => format!(
            "Removing this node leaves {left} managers out of {voters}. Without a Raft quorum \
             your swarm will be inaccessible."
        ),
        _ => "Doing so may lose the consensus of your cluster.".to_owned(),
    };
    format!(
        "You are attempting to leave the swarm on a node that is participating as a manager. \
         {consequence}"
    )
}

fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
