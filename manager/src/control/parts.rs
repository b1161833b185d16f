//! What the control service is put together from: the world, the way to change
//! it, and what other rooms answer for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use skep_proto::Result;
use skep_proto::v1::{EndManagerRequest, Explanation, LogsRequest, LogsResponse, Reachability};
use tokio_util::sync::CancellationToken;

use crate::consensus::Consensus;
use crate::seam::{Follow, Write};
use crate::state::{Nanos, World};

/// Everything that a [`ControlService`](super::ControlService) asks.
#[derive(Clone)]
pub struct Parts {
    /// This daemon's node: what a caller on its local socket means by `self`.
    pub node_id: String,
    /// The world and who leads.
    pub follow: Arc<dyn Follow>,
    /// The way to change the world.
    pub write: Arc<dyn Write>,
    /// Which members of the Raft group can be reached.
    pub members: Arc<dyn Members>,
    /// The way of log lines.
    pub logs: Arc<dyn Logs>,
    /// What a drill ends this manager with.
    pub ender: Arc<dyn EndManager>,
    /// The engine's account of a service or task. The reference is a full id.
    pub explain: fn(&World, &str, Nanos) -> Result<Explanation>,
    /// Ends streams that would otherwise outlive the listener.
    pub shutdown: CancellationToken,
}

/// Whether this manager can reach the others.
pub trait Members: Send + Sync + 'static {
    /// Every member of the Raft group, by its id in the group.
    fn reachability(&self) -> BTreeMap<u64, Reachability>;

    /// Every member that votes, and whether it can be reached.
    fn voters(&self) -> BTreeMap<u64, bool> {
        let seen = self.reachability().into_iter();
        seen.map(|(id, reachability)| (id, reachability == Reachability::Reachable))
            .collect()
    }
}

/// Log lines of a service or task, on any manager.
pub trait Logs: Send + Sync + 'static {
    /// The lines as they come. The reference is a full id. `forwarded`: another
    /// manager asks because it takes this one for the leader; nobody else is asked.
    fn logs(
        &self,
        request: LogsRequest,
        forwarded: bool,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<LogsResponse>>>>;
}

/// Ends this manager, for a drill.
pub trait EndManager: Send + Sync + 'static {
    /// Refuses unless this manager leads in the request's term; else it is about
    /// to end when this returns.
    fn end(&self, request: &EndManagerRequest) -> Result<()>;
}

impl Members for Consensus {
    fn reachability(&self) -> BTreeMap<u64, Reachability> {
        self.members()
            .into_iter()
            .map(|member| {
                let reachability = if member.reachable {
                    Reachability::Reachable
                } else {
                    Reachability::Unreachable
                };
                (member.raft_id, reachability)
            })
            .collect()
    }

    fn voters(&self) -> BTreeMap<u64, bool> {
        self.members()
            .into_iter()
            .filter(|member| member.voter)
            .map(|member| (member.raft_id, member.reachable))
            .collect()
    }
}
