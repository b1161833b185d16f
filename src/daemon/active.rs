//! A node of a swarm: its worker, its manager if it is one, its certificate's
//! renewal, and the changes between the two roles.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_manager::manager::{self, EndMode, Manager};
use skep_proto::transport::{Credentials, PeerRole};
use skep_proto::v1::{
    InfoResponse, JoinTokens, ManagerPeer, NodeDescription, Notice, Role, WriteRequest, notice,
};
use skep_proto::{Error, Result};
use skep_worker::identity::Renewer;
use skep_worker::{Worker, WorkerConfig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cut;
use super::files::NodeFile;
use super::node::{Host, new_raft_id};

/// Until a leader has handed over, before it stops anyway.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Until the worker has closed its session.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Until every task of a node that leaves has ended.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Until the Raft group has taken this manager in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two attempts to change this node's role.
const ROLE_PAUSE: Duration = Duration::from_secs(1);

/// What a node is started with.
pub(super) struct Start {
    pub host: Arc<Host>,
    pub node: NodeFile,
    pub credentials: Credentials,
    /// The first write of a new swarm.
    pub found: Option<WriteRequest>,
    pub force_new_cluster: bool,
}

/// A node that runs.
pub(super) struct Active {
    host: Arc<Host>,
    node: Mutex<NodeFile>,
    credentials: Credentials,
    /// Taken when the node stops or leaves.
    worker: Mutex<Option<Worker>>,
    managers: watch::Receiver<Vec<ManagerPeer>>,
    description: watch::Receiver<NodeDescription>,
    renewal: Renewer,
    manager: Mutex<Option<Arc<Manager>>>,
    /// Ends what follows roles and notices.
    token: CancellationToken,
}

impl Active {
    /// Starts the manager, if this node is one, and the worker.
    pub async fn start(start: Start) -> Result<Arc<Self>> {
        let Start {
            host,
            mut node,
            credentials,
            found,
            force_new_cluster,
        } = start;
        let mut manager = None;
        if credentials.peer().role == PeerRole::Manager {
            let raft_id = *node.raft_id.get_or_insert_with(new_raft_id);
            let started =
                open_manager(&host, &node, raft_id, &credentials, force_new_cluster).await?;
            let entered = match &found {
                Some(request) => {
                    started
                        .found(request.clone(), Instant::now() + JOIN_TIMEOUT)
                        .await
                }
                None if force_new_cluster => {
                    started.forget_others(Instant::now() + JOIN_TIMEOUT).await
                }
                None if node.raft_member => Ok(()),
                None => {
                    let deadline = Instant::now() + JOIN_TIMEOUT;
                    started.join(&node.managers, deadline).await
                }
            };
            if let Err(error) = entered {
                started.stop().await;
                return Err(error);
            }
            if found.is_none() && !node.raft_member {
                node.raft_member = true;
                host.data().set_node(&node)?;
            }
            manager = Some(started);
        }
        let config = WorkerConfig::new(
            host.data().worker(),
            host.settings().hostname.clone(),
            host.settings().engine_socket.display().to_string(),
            credentials.clone(),
            with_own(
                node.managers.clone(),
                manager.as_ref().map(|_| node.advertise_addr.clone()),
            ),
        );
        let worker = match Worker::start(config).await {
            Ok(worker) => worker,
            Err(error) => {
                if let Some(manager) = manager {
                    manager.stop().await;
                }
                return Err(error);
            }
        };
        let token = CancellationToken::new();
        let renewal = Renewer::start(
            credentials.clone(),
            host.data().path().to_owned(),
            worker.managers(),
            token.clone(),
        );
        let notices = worker.notices();
        let active = Arc::new(Self {
            host,
            node: Mutex::new(node),
            credentials,
            managers: worker.managers(),
            description: worker.description(),
            worker: Mutex::new(Some(worker)),
            renewal,
            manager: Mutex::new(manager),
            token,
        });
        tokio::spawn(follow_roles(active.clone()));
        if let Some(notices) = notices {
            tokio::spawn(follow_notices(active.clone(), notices));
        }
        Ok(active)
    }

    /// This node's manager, if it is one.
    pub fn manager(&self) -> Option<Arc<Manager>> {
        self.manager
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What this node remembers of itself.
    pub fn file(&self) -> NodeFile {
        self.node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What its certificate makes it.
    pub fn role(&self) -> Role {
        role_of(self.credentials.peer().role)
    }

    /// The swarm's join tokens, on a manager.
    pub fn join_tokens(&self) -> Option<JoinTokens> {
        let world = self.manager()?.world();
        world.cluster()?.join_tokens.clone()
    }

    /// Fills in what a node knows of itself and its swarm.
    pub fn describe(&self, info: &mut InfoResponse) {
        let node = self.file();
        let status = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Worker::status)
            .unwrap_or_default();
        info.node_id = node.node_id;
        info.cluster_id = node.cluster_id;
        info.node_addr = node
            .advertise_addr
            .rsplit_once(':')
            .map_or(node.advertise_addr.clone(), |(host, _)| host.to_owned());
        info.managers = self.managers.borrow().clone();
        info.tasks_here = u64::try_from(status.tasks_running).unwrap_or(0);
        info.term = status.term;
        info.engine_error = status.engine_error;
        info.cert_not_after_ns = self.credentials.peer().not_after_ns;
        info.description = Some(self.description.borrow().clone());
        if !status.session_error.is_empty() {
            info.warnings.push(format!(
                "no session with the leader: {}",
                status.session_error
            ));
        }
        if let Some(manager) = self.manager() {
            manager.describe(info);
        }
    }

    /// Hands over, closes everything, leaves containers running.
    pub async fn stop(&self) {
        self.token.cancel();
        if let Some(manager) = self.take_manager() {
            manager.hand_over(Instant::now() + HAND_OVER_TIMEOUT).await;
            manager.stop().await;
        }
        if let Some(worker) = self.take_worker()
            && let Err(error) = worker.stop(STOP_TIMEOUT).await
        {
            tracing::warn!(%error, "the worker did not stop in time");
        }
    }

    /// Ends this node's tasks and membership.
    pub async fn leave(&self, force: bool) -> Result<()> {
        if let Some(manager) = self.manager() {
            manager.leave(force, Instant::now() + JOIN_TIMEOUT).await?;
        }
        self.token.cancel();
        // Tasks first: the session that reports their end needs a manager.
        self.end_tasks().await;
        if let Some(manager) = self.take_manager() {
            manager.stop().await;
        }
        Ok(())
    }

    /// Stops and removes every container of this node.
    async fn end_tasks(&self) {
        if let Some(worker) = self.take_worker()
            && let Err(error) = worker.leave(LEAVE_TIMEOUT).await
        {
            tracing::warn!(%error, "not every container of this node could be removed");
        }
    }

    fn take_worker(&self) -> Option<Worker> {
        self.worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn take_manager(&self) -> Option<Arc<Manager>> {
        self.manager
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn set_manager(&self, manager: Option<Arc<Manager>>) {
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = manager;
    }

    fn remember(&self, change: impl FnOnce(&mut NodeFile)) -> Result<()> {
        let mut node = self.file();
        change(&mut node);
        self.host.data().set_node(&node)?;
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = node;
        Ok(())
    }

    /// Makes this node a manager, or no longer one, as its certificate says.
    async fn become_role(&self, role: Role) -> Result<()> {
        match (role, self.manager()) {
            (Role::Manager, None) => self.promote().await,
            (Role::Worker, Some(_)) => self.demote().await,
            _ => Ok(()),
        }
    }

    async fn promote(&self) -> Result<()> {
        let raft_id = new_raft_id();
        self.remember(|node| {
            node.raft_id = Some(raft_id);
            node.raft_member = false;
        })?;
        let node = self.file();
        remove_raft(&self.host)?;
        let manager = open_manager(&self.host, &node, raft_id, &self.credentials, false).await?;
        let known: Vec<String> = peers(&self.managers.borrow());
        if let Err(error) = manager.join(&known, Instant::now() + JOIN_TIMEOUT).await {
            manager.stop().await;
            return Err(error);
        }
        self.remember(|node| node.raft_member = true)?;
        self.set_manager(Some(manager));
        tracing::info!("this node is a manager now");
        Ok(())
    }

    async fn demote(&self) -> Result<()> {
        if let Some(manager) = self.take_manager() {
            manager.hand_over(Instant::now() + HAND_OVER_TIMEOUT).await;
            manager.stop().await;
        }
        self.remember(|node| {
            node.raft_id = None;
            node.raft_member = false;
        })?;
        remove_raft(&self.host)?;
        tracing::info!("this node is a worker now");
        Ok(())
    }
}

/// Follows what the node's certificate makes it.
async fn follow_roles(active: Arc<Active>) {
    let mut role = active.renewal.role();
    loop {
        let wanted = *role.borrow_and_update();
        if let Err(error) = active.become_role(wanted).await {
            tracing::warn!(%error, ?wanted, "this node's role could not be changed yet");
            tokio::select! {
                () = active.token.cancelled() => return,
                () = tokio::time::sleep(ROLE_PAUSE) => continue,
            }
        }
        tokio::select! {
            () = active.token.cancelled() => return,
            changed = role.changed() => if changed.is_err() { return },
        }
    }
}

/// Follows what the leader has to say to this node.
async fn follow_notices(active: Arc<Active>, mut notices: mpsc::Receiver<Notice>) {
    loop {
        let notice = tokio::select! {
            () = active.token.cancelled() => return,
            notice = notices.recv() => match notice {
                Some(notice) => notice,
                None => return,
            },
        };
        match notice.kind() {
            notice::Kind::RenewCertificate => active.renewal.renew_now(Some(notice.role())),
            notice::Kind::Removed => {
                tracing::error!("this node was removed from the swarm");
                active.host.cast_out(
                    "this node was removed from the swarm; skep swarm leave --force makes it \
                     forget, then it can join again",
                );
                active.end_tasks().await;
                if let Some(manager) = active.take_manager() {
                    manager.stop().await;
                }
                active.token.cancel();
                return;
            }
        }
    }
}

async fn open_manager(
    host: &Arc<Host>,
    node: &NodeFile,
    raft_id: u64,
    credentials: &Credentials,
    force_new_cluster: bool,
) -> Result<Arc<Manager>> {
    let listen = node.listen_addr.parse().map_err(|_| {
        Error::precondition(format!("{} is no address to listen on", node.listen_addr))
    })?;
    let (end, ends) = mpsc::channel(1);
    let manager = Manager::start(manager::Config {
        dir: host.data().raft(),
        raft_id,
        node_id: node.node_id.clone(),
        listen,
        advertise_addr: node.advertise_addr.clone(),
        credentials: credentials.clone(),
        force_new_cluster,
        cert_expiry_ns: host.settings().cert_expiry_ns,
        end,
    })
    .await?;
    tokio::spawn(serve_ends(ends, host.end(), listen.port()));
    Ok(manager)
}

/// Does what a drill asks of this manager's process or network.
async fn serve_ends(mut ends: mpsc::Receiver<EndMode>, stop: mpsc::Sender<()>, port: u16) {
    while let Some(mode) = ends.recv().await {
        match mode {
            EndMode::Kill => {
                tracing::warn!("a drill ends this process");
                std::process::abort();
            }
            EndMode::Stop => {
                let _ = stop.send(()).await;
            }
            EndMode::Cut(duration) => {
                tracing::warn!(?duration, "a drill cuts this manager's network");
                if let Err(error) = cut::cut(port, duration).await {
                    tracing::error!(%error, "the cut failed");
                }
            }
        }
    }
}

fn remove_raft(host: &Host) -> Result<()> {
    let path = host.data().raft();
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::precondition(
            format!("cannot remove {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

fn with_own(mut managers: Vec<String>, own: Option<String>) -> Vec<String> {
    if let Some(own) = own
        && !managers.contains(&own)
    {
        managers.push(own);
    }
    managers
}

fn peers(managers: &[ManagerPeer]) -> Vec<String> {
    managers.iter().map(|m| m.addr.clone()).collect()
}

fn role_of(role: PeerRole) -> Role {
    match role {
        PeerRole::Manager => Role::Manager,
        PeerRole::Worker | PeerRole::Operator => Role::Worker,
    }
}
