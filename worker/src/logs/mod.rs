//! Lines of containers, published to the manager that asked: read from the
//! engine no faster than they are taken, cut when nobody wants them, and never
//! more per second than a host can spare.

mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_proto::transport::Credentials;
use skep_proto::v1::{LogSubscription, LogsPublished};
use tokio::sync::mpsc;

use crate::runtime::Runtime;
use crate::task::Board;

/// Subscriptions served at once on one host.
const SUBSCRIPTIONS_MAX: usize = 64;

/// What one subscription has here.
#[derive(Debug, Default)]
struct Open {
    tasks: BTreeSet<String>,
    publishers: Vec<tokio::task::AbortHandle>,
}

/// The subscriptions served now.
#[derive(Clone)]
pub struct Publishers {
    credentials: Credentials,
    open: Arc<Mutex<BTreeMap<String, Open>>>,
    start: Arc<Start>,
}

type Start = dyn Fn(&str, LogSubscription) -> tokio::task::AbortHandle + Send + Sync;

impl std::fmt::Debug for Publishers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Publishers")
            .field(&self.lock().len())
            .finish()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for publisher in &self.publishers {
            publisher.abort();
        }
    }
}

impl Publishers {
    /// Publishes what `runtime` has printed.
    pub fn new<R: Runtime>(runtime: Arc<R>, board: Arc<Board>, credentials: Credentials) -> Self {
        let trust = credentials.clone();
        let start = move |addr: &str, subscription: LogSubscription| {
            let (runtime, board) = (runtime.clone(), board.clone());
            let client = publish::client(addr, &trust);
            tokio::spawn(publish::publish(runtime, board, client, subscription)).abort_handle()
        };
        Self {
            credentials,
            open: Arc::default(),
            start: Arc::new(start),
        }
    }

    /// Serves a subscription of the manager at `addr`, over a connection of its
    /// own: who reads slowly holds up nobody else. One that is served already gets
    /// the tasks that are new in it.
    pub fn open(&self, addr: &str, mut subscription: LogSubscription) {
        let mut open = self.lock();
        open.retain(|_, o| o.publishers.iter().any(|p| !p.is_finished()));
        if open.len() >= SUBSCRIPTIONS_MAX && !open.contains_key(&subscription.id) {
            tracing::warn!(id = %subscription.id, "too many log subscriptions: one is refused");
            tokio::spawn(publish::refuse(
                publish::client(addr, &self.credentials),
                subscription.id,
                format!("this host serves {SUBSCRIPTIONS_MAX} log streams already; end some"),
            ));
            return;
        }
        let served = open.entry(subscription.id.clone()).or_default();
        let is_new = served.publishers.is_empty();
        subscription
            .task_ids
            .retain(|task_id| served.tasks.insert(task_id.clone()));
        if is_new || !subscription.task_ids.is_empty() {
            served.publishers.retain(|p| !p.is_finished());
            served.publishers.push((self.start)(addr, subscription));
        }
    }

    /// Nobody wants it any more.
    pub fn close(&self, id: &str) {
        self.lock().remove(id);
    }

    /// The session that they were asked over is gone.
    pub fn stop_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends of one publisher that may wait in the connection.
type Sender = mpsc::Sender<LogsPublished>;
