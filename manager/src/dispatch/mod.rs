//! Between the leader and the workers: a session each, assignments down,
//! statuses up, signs of life, and the way of log lines.
//!
//! Every manager has a [`Dispatcher`]; it does something while the manager
//! leads, and sends workers to the leader otherwise. A worker chooses nothing
//! and is told everything again after any doubt: what changed is only *marked*
//! for it, and messages are made from the newest world when it can take them.
//!
//! Invariant: nothing here decides what should run where; it says what was
//! decided, and reports what was heard, as verbs.

mod assignment;
mod authorize;
mod description;
mod ending;
mod heartbeat;
pub mod liveness;
pub mod logs;
mod mailbox;
mod outbound;
mod presence;
mod reign;
mod roster;
mod router;
mod service;
mod session;
mod statuses;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use skep_proto::transport::Credentials;
use skep_proto::v1::dispatch_server::DispatchServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use ending::LEADER_METADATA;
use reign::{Reign, Shared};

use crate::seam::{Follow, Write};

/// Largest message from a worker, bytes: a hello with 10,000 tasks fits.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Speaks with the workers while this manager leads. Clones share everything.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    reigns: watch::Receiver<Option<Arc<Reign>>>,
    credentials: Credentials,
}

impl Dispatcher {
    /// Starts to follow who leads; ends with `shutdown`. `credentials` are this
    /// manager's own, to reach the leader for log lines.
    pub fn new(
        follow: Arc<dyn Follow>,
        write: Arc<dyn Write>,
        credentials: Credentials,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared::new(follow, write, shutdown);
        let (sender, reigns) = watch::channel(None);
        tokio::spawn(reign::govern(shared.clone(), sender));
        Self {
            shared,
            reigns,
            credentials,
        }
    }

    /// What the workers call, to be mounted on the cluster listener.
    pub fn service(&self) -> DispatchServer<service::Service> {
        DispatchServer::new(service::Service::new(self.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher")
            .field("leadership", &self.shared.leadership())
            .finish_non_exhaustive()
    }
}
