//! Where the rooms of a manager meet: what consensus offers to the others, and
//! how anybody asks for a change. Traits, so that each room runs in a test
//! without the others.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use skep_proto::Result;
use skep_proto::v1::{WriteRequest, WriteResponse};
use tokio::sync::{broadcast, watch};

use crate::state::{Applied, World};

/// Who leads, as this manager knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The Raft term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Leader>,
    /// This manager leads, and has applied everything of earlier terms: its
    /// world is the cluster's and it may propose.
    pub is_self: bool,
}

/// The leader's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leader {
    /// Its id in the Raft group.
    pub raft_id: u64,
    /// Its node's id.
    pub node_id: String,
    /// `host:port` of its cluster listener.
    pub addr: String,
}

/// Follows what the cluster knows, on any manager.
pub trait Follow: Send + Sync + 'static {
    /// The newest applied world. Cheap; may be behind the leader's.
    fn world(&self) -> Arc<World>;

    /// Every transaction from now on. A receiver that lags misses some and
    /// must start again from [`Follow::world`].
    fn applied(&self) -> broadcast::Receiver<Arc<Applied>>;

    /// Who leads, now and whenever it changes.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// A world that holds everything that was acknowledged before the call
    /// (ReadIndex). Waits out an election until `deadline`.
    fn fresh_world(&self, deadline: Instant) -> BoxFuture<'_, Result<Arc<World>>>;
}

/// Asks for a change, on any manager: commits it here or has the leader do it,
/// waits out an election until `deadline`, and answers once it is applied.
/// The request's id makes a retry harmless.
pub trait Write: Send + Sync + 'static {
    /// Commits one verb.
    fn write(
        &self,
        request: WriteRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<WriteResponse>>;
}
