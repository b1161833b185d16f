//! What all parts of a running consensus share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use openraft::async_runtime::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{RaftMetrics, ServerState};
use skep_proto::v1::RaftLinkBeat;
use skep_proto::{Error, Result};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::evidence::Evidence;
use super::network::Peers;
use super::store::{Place, Published};
use super::types::{Group, LogId, Member, Raft, RaftId, TypeConfig, Vote};
use crate::seam::Leadership;

/// Who this manager is in the group.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub raft_id: RaftId,
    pub node_id: String,
    pub addr: String,
    /// Drawn when the process started.
    pub boot: u64,
}

/// Shared by the tasks, the service and every handle.
pub(super) struct Core {
    pub me: Me,
    pub raft: Raft,
    pub place: Place,
    pub published: Arc<Published>,
    pub peers: Arc<Peers>,
    pub evidence: Arc<Evidence>,
    pub leadership: watch::Sender<Leadership>,
    pub fatal: watch::Sender<Option<Error>>,
    /// The group as this manager knows it.
    pub members: watch::Sender<BTreeMap<RaftId, Member>>,
    /// One change of the group at a time.
    pub changing: Mutex<()>,
    pub stop: CancellationToken,
}

impl Core {
    pub(super) fn metrics(&self) -> WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>> {
        self.raft.metrics()
    }

    pub(super) fn beat(&self) -> RaftLinkBeat {
        RaftLinkBeat {
            raft_id: self.me.raft_id,
            boot: self.me.boot,
        }
    }

    pub(super) fn member(&self, id: RaftId) -> Option<Member> {
        self.members.borrow().get(&id).cloned()
    }

    pub(super) fn refuse_removed(&self, node_id: &str) -> Result<()> {
        let world = self.published.world.load();
        let removed = world
            .cluster()
            .is_some_and(|c| c.removed_nodes.iter().any(|n| n.node_id == node_id));
        if removed {
            return Err(
                Error::permission(format!("node {node_id} was removed from the swarm"))
                    .on(format!("node {node_id}"))
                    .hint("`skep swarm leave --force` there, then join again"),
            );
        }
        Ok(())
    }

    /// The vote and the end of the log as Raft itself has them. The progress
    /// that it publishes loses the log's end whenever a vote is saved.
    pub(super) async fn vote_and_last(&self) -> Result<(Vote, Option<LogId>)> {
        self.raft
            .with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()))
            .await
            .map_err(|fatal| stopped(&fatal))
    }

    /// The group that counts for elections and commits.
    pub(super) async fn group(&self) -> Result<Group> {
        self.raft
            .with_raft_state(|state| state.membership_state.effective().membership().clone())
            .await
            .map_err(|fatal| stopped(&fatal))
    }

    /// Ourselves, or a link that is up.
    pub(super) fn reaches(&self, id: RaftId) -> bool {
        id == self.me.raft_id || self.evidence.is_up(id)
    }

    pub(super) fn leads(&self) -> bool {
        self.metrics().borrow_watched().state == ServerState::Leader
    }

    /// Waits until `is` holds of who leads, or until `deadline`.
    pub(super) async fn led(
        &self,
        deadline: Instant,
        is: impl FnMut(&Leadership) -> bool,
    ) -> Option<Leadership> {
        let mut leadership = self.leadership.subscribe();
        let waited = tokio::time::timeout_at(deadline.into(), leadership.wait_for(is)).await;
        waited.ok()?.ok().map(|leadership| leadership.clone())
    }
}

pub(super) fn stopped(error: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!("consensus has stopped on this manager: {error}"))
        .hint("see the daemon's log; the other managers go on without it")
}

/// Whether `those` are a majority of every group of voters that counts.
pub(super) fn is_quorum(group: &Group, those: impl Fn(RaftId) -> bool) -> bool {
    let groups = group.get_joint_config();
    !groups.is_empty()
        && groups
            .iter()
            .all(|voters| voters.iter().filter(|id| those(**id)).count() > voters.len() / 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_quorum_is_one_of_both_groups_while_they_change() {
        let members: BTreeMap<_, _> = (1..=5).map(|id| (id, Member::default())).collect();
        let old = BTreeSet::from([1, 2, 3]);
        let new = BTreeSet::from([3, 4, 5]);
        let group = Group::new(vec![old.clone(), new], members.clone()).unwrap();
        assert!(!is_quorum(&group, |id| id <= 3));
        assert!(is_quorum(&group, |id| (2..=4).contains(&id)));
        let group = Group::new(vec![old], members).unwrap();
        assert!(is_quorum(&group, |id| id <= 2));
        assert!(!is_quorum(&group, |id| id == 2));
        assert!(!is_quorum(&Group::default(), |_| true));
    }
}
