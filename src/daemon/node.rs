//! This host and the swarm: in none, on its way into one, or a node of it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use skep_manager::control::ControlService;
use skep_manager::identity::{FoundOptions, found, issue_operator};
use skep_manager::manager::Manager;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    InfoResponse, InitRequest, InitResponse, IssueOperatorRequest, IssueOperatorResponse,
    JoinRequest, JoinResponse, ManagerPeer, ManagerStatus, NodeDescription, Role, SwarmState,
};
use skep_proto::{Error, Result};
use skep_worker::identity::{CertificateFiles, join};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::active::{Active, Start};
use super::files::{DataDir, NodeFile};
use super::local::not_a_manager;
use super::{Settings, addr};

/// Until a swarm has let this host in. Shorter than the command line waits, so
/// that it hears the reason when nobody does.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two attempts to start a node whose start failed.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(10);
const RESUME_PAUSE_MIN: Duration = Duration::from_millis(200);

/// How this host stands to the swarm.
#[derive(Clone, Default)]
enum State {
    #[default]
    Inactive,
    Pending,
    Active(Arc<Active>),
    Error(String),
}

/// This host's daemon, whatever swarm it is in.
pub struct Host {
    settings: Settings,
    data: DataDir,
    state: RwLock<State>,
    /// One change (init, join, leave) at a time.
    changing: Mutex<()>,
    end: mpsc::Sender<()>,
    shutdown: CancellationToken,
}

impl Host {
    /// A host that has not looked at its data directory yet. A message on `end`
    /// stops the daemon.
    pub fn new(
        settings: Settings,
        data: DataDir,
        end: mpsc::Sender<()>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            data,
            state: RwLock::default(),
            changing: Mutex::new(()),
            end,
            shutdown,
        })
    }

    /// Becomes the node that this host was before. Keeps trying in the
    /// background when that fails: a port may be in use, a disk read-only.
    pub async fn resume(self: &Arc<Self>) {
        let node = match self.data.node() {
            Ok(None) => return,
            Ok(Some(node)) => node,
            Err(error) => {
                tracing::error!(%error, hint = error.hint, "this node cannot start");
                return self.set(State::Error(error.to_string()));
            }
        };
        self.set(State::Pending);
        if self.try_resume(&node).await.is_ok() {
            return;
        }
        let host = self.clone();
        tokio::spawn(async move {
            let mut pause = RESUME_PAUSE_MIN;
            loop {
                tokio::select! {
                    () = host.shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(RESUME_PAUSE_MAX);
                // It may have left, or joined something else, in the meantime.
                let still = matches!(host.data.node(), Ok(Some(now)) if now == node);
                if !still || host.active().is_some() || host.try_resume(&node).await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn try_resume(self: &Arc<Self>, node: &NodeFile) -> Result<()> {
        let _changing = self.changing.lock().await;
        let started = async {
            let files = CertificateFiles::load(self.data.path())?.ok_or_else(|| {
                Error::precondition("this node's certificates are gone").hint(
                    "restore the certificates folder of its data directory, or leave the swarm \
                     with --force and join again",
                )
            })?;
            Active::start(self.start(node.clone(), files.credentials()?)).await
        };
        match started.await {
            Ok(active) => {
                self.set(State::Active(active));
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, hint = error.hint, "this node cannot start");
                self.set(State::Error(error.to_string()));
                Err(error)
            }
        }
    }

    /// Founds a swarm, or with `force_new_cluster` makes one of what this
    /// manager's disk holds.
    pub async fn init(self: &Arc<Self>, request: InitRequest) -> Result<InitResponse> {
        let _changing = self.changing.lock().await;
        if request.force_new_cluster {
            return self.force_new_cluster().await;
        }
        self.require_inactive()?;
        let (listen, advertise) = self.addresses(&request.listen_addr, &request.advertise_addr)?;
        let raft_id = new_raft_id();
        let founding = found(FoundOptions {
            spec: request.spec.clone().unwrap_or_default(),
            availability: request.availability(),
            description: self.describe(),
            manager: ManagerStatus {
                raft_id,
                addr: advertise.clone(),
                ..ManagerStatus::default()
            },
            cert_expiry_ns: self.settings.cert_expiry_ns,
        })?;
        let files = CertificateFiles {
            cert_pem: founding.cert_pem,
            key_pem: founding.key_pem,
            root_pem: founding.root_pem,
        };
        let node = NodeFile {
            node_id: founding.node_id.clone(),
            cluster_id: founding.cluster_id,
            listen_addr: listen,
            advertise_addr: advertise.clone(),
            raft_id: Some(raft_id),
            raft_member: true,
            managers: Vec::new(),
        };
        self.set(State::Pending);
        let started = async {
            let mut start = self.start(node.clone(), files.credentials()?);
            start.found = Some(founding.request);
            let active = Active::start(start).await?;
            // Remembered only when all of it is there: a crash in between
            // leaves a host that is in no swarm, and says so.
            files.save(self.data.path())?;
            self.data.set_node(&node)?;
            Ok(active)
        };
        let active = self.settled(started.await)?;
        let token = active.join_tokens().map(|t| t.worker);
        Ok(InitResponse {
            node_id: founding.node_id,
            addr: advertise,
            worker_token: token.unwrap_or_default(),
        })
    }

    async fn force_new_cluster(self: &Arc<Self>) -> Result<InitResponse> {
        let node = self
            .data
            .node()?
            .filter(|node| node.raft_member)
            .ok_or_else(|| not_a_manager(true))?;
        if let Some(active) = self.active() {
            active.stop().await;
        }
        self.set(State::Pending);
        let started = async {
            let files = CertificateFiles::load(self.data.path())?
                .ok_or_else(|| Error::precondition("this node's certificates are gone"))?;
            let mut start = self.start(node.clone(), files.credentials()?);
            start.force_new_cluster = true;
            Active::start(start).await
        };
        match started.await {
            Ok(active) => {
                let token = active.join_tokens().map(|t| t.worker);
                self.set(State::Active(active));
                Ok(InitResponse {
                    node_id: node.node_id,
                    addr: node.advertise_addr,
                    worker_token: token.unwrap_or_default(),
                })
            }
            Err(error) => {
                self.set(State::Error(error.to_string()));
                Err(error)
            }
        }
    }

    /// Becomes a node of the swarm that the token is of.
    pub async fn join(self: &Arc<Self>, request: JoinRequest) -> Result<JoinResponse> {
        let _changing = self.changing.lock().await;
        self.require_inactive()?;
        let deadline = Instant::now() + JOIN_TIMEOUT;
        // Said before anything is asked of anybody, so that a refusal leaves no trace.
        let addresses = self.addresses(&request.listen_addr, &request.advertise_addr)?;
        self.set(State::Pending);
        let joined = self.join_as(&request, addresses, deadline).await;
        self.settled(joined.map(|(active, _)| active))?;
        let active = self.active().ok_or_else(|| not_a_manager(false))?;
        let role = active.role();
        Ok(JoinResponse {
            node_id: active.file().node_id,
            role: role.into(),
        })
    }

    async fn join_as(
        self: &Arc<Self>,
        request: &JoinRequest,
        (listen, advertise): (String, String),
        deadline: Instant,
    ) -> Result<(Arc<Active>, Role)> {
        let joined = join(
            &request.remote_addrs,
            &request.token,
            request.availability(),
            self.describe(),
            deadline,
        )
        .await?;
        let is_manager = joined.role == Role::Manager;
        let node = NodeFile {
            node_id: joined.node_id.clone(),
            cluster_id: joined.cluster_id.clone(),
            listen_addr: listen,
            advertise_addr: advertise,
            raft_id: is_manager.then(new_raft_id),
            raft_member: false,
            managers: joined.managers.iter().map(|m| m.addr.clone()).collect(),
        };
        joined.files.save(self.data.path())?;
        self.data.set_node(&node)?;
        let start = self.start(node, joined.files.credentials()?);
        let active = Active::start(start).await?;
        Ok((active, joined.role))
    }

    /// Leaves the swarm: tasks are stopped, everything of it is forgotten.
    pub async fn leave(self: &Arc<Self>, force: bool) -> Result<()> {
        let _changing = self.changing.lock().await;
        if let Some(active) = self.active() {
            active.leave(force).await?;
        } else if self.data.node()?.is_none() {
            return Err(Error::precondition("This node is not part of a swarm"));
        } else if !force {
            return Err(Error::precondition(
                "this node's part of the swarm could not be started, so it cannot leave in order",
            )
            .hint("use --force to make it forget the swarm; then remove it there: skep node rm"));
        }
        self.data.forget()?;
        self.set(State::Inactive);
        Ok(())
    }

    /// Hands over and closes everything; containers run on.
    pub async fn stop(&self) {
        if let Some(active) = self.active() {
            active.stop().await;
        }
    }

    /// The control service of this host's manager.
    pub async fn control(&self) -> Result<ControlService> {
        match self.read() {
            State::Active(active) => active
                .manager()
                .map(|manager| manager.control())
                .ok_or_else(|| not_a_manager(true)),
            State::Error(why) => Err(Error::unavailable(format!("this node cannot start: {why}"))),
            State::Pending => Err(Error::unavailable(
                "This node is not a swarm manager. Manager is being prepared or has trouble \
                 connecting to the cluster.",
            )),
            State::Inactive => Err(not_a_manager(false)),
        }
    }

    /// A client certificate for an operator.
    pub async fn issue_operator(
        &self,
        request: &IssueOperatorRequest,
    ) -> Result<IssueOperatorResponse> {
        let manager = self.manager()?;
        let world = manager.fresh_world(Instant::now() + JOIN_TIMEOUT).await?;
        let cluster = world
            .cluster()
            .ok_or_else(|| Error::unavailable("this manager has not caught up yet"))?;
        let operator = issue_operator(cluster, &request.name, request.valid_for_ns)?;
        let managers = world.nodes().filter_map(|node| {
            node.manager.as_ref().map(|manager| ManagerPeer {
                node_id: node.id().to_owned(),
                addr: manager.addr.clone(),
            })
        });
        Ok(IssueOperatorResponse {
            cert_pem: operator.cert_pem,
            key_pem: operator.key_pem,
            root_pem: operator.root_pem,
            cluster_id: operator.cluster_id,
            managers: managers.collect(),
        })
    }

    /// How this host is.
    pub async fn info(&self) -> InfoResponse {
        let mut info = InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.settings.hostname.clone(),
            data_dir: self.settings.data_dir.display().to_string(),
            ..InfoResponse::default()
        };
        match self.read() {
            State::Inactive => info.set_state(SwarmState::Inactive),
            State::Pending => info.set_state(SwarmState::Pending),
            State::Error(why) => {
                info.set_state(SwarmState::Error);
                info.error = why;
            }
            State::Active(active) => {
                info.set_state(SwarmState::Active);
                active.describe(&mut info);
            }
        }
        if info.description.is_none() {
            info.description = Some(self.describe());
        }
        info
    }

    fn start(
        self: &Arc<Self>,
        node: NodeFile,
        credentials: skep_proto::transport::Credentials,
    ) -> Start {
        Start {
            host: self.clone(),
            node,
            credentials,
            found: None,
            force_new_cluster: false,
        }
    }

    /// What a change came to: the new state, or no swarm and nothing left of it.
    fn settled(&self, outcome: Result<Arc<Active>>) -> Result<Arc<Active>> {
        match outcome {
            Ok(active) => {
                self.set(State::Active(active.clone()));
                Ok(active)
            }
            Err(error) => {
                if let Err(left) = self.data.forget() {
                    tracing::warn!(error = %left, "something of the swarm is left");
                }
                self.set(State::Inactive);
                Err(error)
            }
        }
    }

    fn require_inactive(&self) -> Result<()> {
        if matches!(self.read(), State::Inactive) && self.data.node()?.is_none() {
            return Ok(());
        }
        Err(Error::precondition("This node is already part of a swarm.")
            .hint("use skep swarm leave to leave this swarm, then join another one"))
    }

    fn addresses(&self, listen: &str, advertise: &str) -> Result<(String, String)> {
        let listen = if listen.is_empty() {
            &self.settings.listen_addr
        } else {
            listen
        };
        let said = (!advertise.is_empty())
            .then_some(advertise)
            .or(self.settings.advertise_addr.as_deref());
        let interfaces = addr::interfaces()?;
        let listen = addr::listen(listen, &interfaces)?;
        let advertise = addr::advertise(said, listen, &interfaces)?;
        Ok((listen.to_string(), advertise))
    }

    /// What this host is before its engine has been asked: the worker says the
    /// rest in its first session.
    fn describe(&self) -> NodeDescription {
        skep_worker::without_engine(&self.settings.hostname, "")
    }

    fn manager(&self) -> Result<Arc<Manager>> {
        self.active()
            .and_then(|active| active.manager())
            .ok_or_else(|| not_a_manager(self.active().is_some()))
    }

    fn active(&self) -> Option<Arc<Active>> {
        match self.read() {
            State::Active(active) => Some(active),
            _ => None,
        }
    }

    fn read(&self) -> State {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn data(&self) -> &DataDir {
        &self.data
    }

    pub(super) fn end(&self) -> mpsc::Sender<()> {
        self.end.clone()
    }

    /// This node was removed from the swarm, or cannot be of it any more.
    pub(super) fn cast_out(&self, why: &str) {
        self.set(State::Error(why.to_owned()));
    }
}

/// Never 0, never one that was used before: 63 random bits.
pub(super) fn new_raft_id() -> u64 {
    (rand::random::<u64>() >> 1) | 1
}
