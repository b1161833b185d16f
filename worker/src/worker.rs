//! One worker as a whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_proto::v1::{ManagerPeer, NodeDescription, Notice};
use skep_proto::{Code, Error, Result};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{WorkerConfig, WorkerStatus};
use crate::describe;
use crate::logs::Publishers;
use crate::runtime::{DockerRuntime, Owner, Runtime};
use crate::session::{Session, SessionState};
use crate::store::Store;
use crate::task::{Board, Tasks, TasksHandle};

/// For a goodbye to the leader.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(3);
/// Notices that may wait to be taken.
const NOTICES_MAX: usize = 16;

/// A running worker. Dropping it ends its tasks; containers go on.
pub struct Worker {
    board: Arc<Board>,
    store: Arc<Store>,
    tasks: TasksHandle,
    managers: watch::Receiver<Vec<ManagerPeer>>,
    session: watch::Receiver<SessionState>,
    engine_error: watch::Receiver<String>,
    description: watch::Receiver<NodeDescription>,
    notices: Mutex<Option<mpsc::Receiver<Notice>>>,
    leaving: CancellationToken,
    conversation: JoinSet<()>,
    others: JoinSet<()>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Worker").field(&self.status()).finish()
    }
}

impl Worker {
    /// Starts a worker on the Docker Engine of its configuration. The engine
    /// and the managers need not be there yet.
    pub async fn start(config: WorkerConfig) -> Result<Self> {
        let owner = Owner {
            cluster_id: config.credentials.peer().cluster_id,
            node_id: config.node_id.clone(),
            hostname: config.hostname.clone(),
        };
        let runtime = DockerRuntime::new(&config.engine_socket, owner, config.operations_max);
        Self::start_on(config, Arc::new(runtime)).await
    }

    /// Starts a worker on any runtime.
    pub async fn start_on<R: Runtime>(config: WorkerConfig, runtime: Arc<R>) -> Result<Self> {
        let folder = config.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&folder)).await;
        let (store, restored, known) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                return Err(Error::precondition(format!(
                    "cannot use the worker's folder {}: {error}",
                    config.data_dir.display()
                ))
                .hint("name a folder that the daemon may write, or free some space"));
            }
            Err(error) => return Err(Error::internal(format!("reading the worker: {error}"))),
        };
        let store = Arc::new(store);
        let board = Arc::new(Board::default());
        let (tasks, handle, engine_error) = Tasks::new(
            runtime.clone(),
            board.clone(),
            store.clone(),
            restored,
            config.reconcile_interval,
        );
        let (describe_sender, description) =
            watch::channel(describe::without_engine(&config.hostname, ""));
        let (managers_sender, managers) = watch::channel(known.managers);
        let (state, session) = watch::channel(SessionState {
            connected_to: (!known.leader.is_empty()).then_some(known.leader),
            term: known.term,
            error: "no manager has been asked yet".to_owned(),
        });
        let (notices_sender, notices) = mpsc::channel(NOTICES_MAX);

        let leaving = CancellationToken::new();
        let mut others = JoinSet::new();
        others.spawn(tasks.run());
        others.spawn(store.clone().run());
        others.spawn(describe::run(
            runtime.clone(),
            describe_sender,
            engine_error.clone(),
            config.describe_interval,
        ));
        let talk = Session {
            board: board.clone(),
            tasks: handle.clone(),
            store: store.clone(),
            description: description.clone(),
            managers: managers_sender,
            state,
            notices: notices_sender,
            publishers: Publishers::new(runtime, board.clone(), config.credentials.clone()),
            seeds: config.managers,
            credentials: config.credentials,
            leaving: leaving.clone(),
        };
        let mut conversation = JoinSet::new();
        conversation.spawn(talk.run(config.heartbeats));
        Ok(Self {
            board,
            store,
            tasks: handle,
            managers,
            session,
            engine_error,
            description,
            notices: Mutex::new(Some(notices)),
            leaving,
            conversation,
            others,
        })
    }

    /// The managers as the last leader named them, now and whenever that changes.
    pub fn managers(&self) -> watch::Receiver<Vec<ManagerPeer>> {
        self.managers.clone()
    }

    /// What leaders tell this node of itself: renew the certificate, or you were
    /// removed. There is one receiver: `None` after the first call.
    pub fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// What this node says it is.
    pub fn description(&self) -> watch::Receiver<NodeDescription> {
        self.description.clone()
    }

    /// How it is.
    pub fn status(&self) -> WorkerStatus {
        let session = self.session.borrow().clone();
        let (tasks, tasks_running) = self.board.count();
        WorkerStatus {
            connected_to: session.connected_to,
            term: session.term,
            session_error: session.error,
            tasks,
            tasks_running,
            engine_error: self.engine_error.borrow().clone(),
        }
    }

    /// Ends the worker and leaves its containers running: the next one on the
    /// same folder adopts them.
    pub async fn stop(mut self, deadline: Duration) -> Result<()> {
        let Self {
            conversation,
            others,
            store,
            ..
        } = &mut self;
        let ended = async {
            conversation.shutdown().await;
            others.shutdown().await;
            let store = store.clone();
            let _ = tokio::task::spawn_blocking(move || store.flush()).await;
        };
        tokio::time::timeout(deadline, ended).await.map_err(|_| {
            Error::new(
                Code::Timeout,
                format!("the worker did not stop within {deadline:?}"),
            )
        })
    }

    /// Ends the worker for good: every container of this node is stopped with
    /// its grace and removed, and what was kept of them; then the leader is told
    /// goodbye.
    pub async fn leave(mut self, deadline: Duration) -> Result<()> {
        let left = tokio::time::timeout(deadline, self.tasks.leave()).await;
        let (tasks, _) = self.board.count();
        let engine_error = self.engine_error.borrow().clone();
        if left == Ok(true) {
            self.leaving.cancel();
            let farewell = self.conversation.join_next();
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
        }
        self.conversation.shutdown().await;
        self.others.shutdown().await;
        if left != Ok(true) {
            let mut why = format!("{tasks} containers are left after {deadline:?}");
            if !engine_error.is_empty() {
                why = format!("{why}: {engine_error}");
            }
            return Err(Error::new(Code::Timeout, why)
                .hint("docker ps --all --filter label=io.skep.cluster lists them"));
        }
        self.store.destroy().map_err(|error| {
            Error::precondition(format!("cannot remove the worker's files: {error}"))
        })
    }
}
