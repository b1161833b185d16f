//! Turning what Raft says of itself into what the other rooms follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{Instant as _, RaftMetrics, ServerState};
use skep_proto::Error;

use super::config::Timers;
use super::core::Core;
use super::types::{TypeConfig, Vote};
use crate::seam::{Leader, Leadership};

/// Publishes who leads, who is in the group, and a failure of the disk, until
/// consensus stops.
pub(super) async fn publish(core: Arc<Core>, timers: Timers) {
    let mut metrics = core.metrics();
    let mut seen = core.evidence.watch();
    let mut elected = Vote::new(0, 0);
    let unheard_max = 2 * timers.election_max;
    loop {
        let now = metrics.borrow_watched().clone();
        if now.vote.committed && now.vote != elected {
            elected = now.vote;
            core.evidence.alive(elected.leader_id.node_id);
        }
        publish_members(&core, &now);
        publish_leadership(&core, &now, unheard_max);
        core.snapshot_if_large().await;
        if let Err(fatal) = &now.running_state {
            publish_fatal(&core, fatal);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            changed = seen.changed() => if changed.is_err() { break },
            // A leader that nobody answers hears nothing, of that neither.
            () = tokio::time::sleep(unheard_max) => {}
            () = core.stop.cancelled() => break,
        }
    }
    core.leadership.send_replace(Leadership::default());
}

fn publish_leadership(core: &Core, metrics: &RaftMetrics<TypeConfig>, unheard_max: Duration) {
    let me = core.me.raft_id;
    let running = metrics.running_state.is_ok();
    let leads = running && metrics.state == ServerState::Leader;
    let leader = metrics
        .current_leader
        .filter(|id| running && (*id == me) == leads)
        // Whoever is known to be dead leads no more, elected or not.
        .filter(|id| *id == me || !core.evidence.is_gone(*id))
        .and_then(|raft_id| {
            let member = metrics.membership_config.get_node(&raft_id)?;
            Some(Leader {
                raft_id,
                node_id: member.node_id.clone(),
                addr: member.addr.clone(),
            })
        });
    // A leader's first entry is applied after everything of earlier terms.
    let caught_up = metrics
        .last_applied
        .is_some_and(|id| id.leader_id == metrics.vote.leader_id);
    // Cut off from the majority it may have been replaced without knowing.
    let heard = metrics.membership_config.voter_ids().count() <= 1
        || metrics
            .last_quorum_acked
            .is_none_or(|at| at.elapsed() < unheard_max);
    let is_self = leads && caught_up && heard && leader.is_some();
    let new = Leadership {
        term: metrics.current_term,
        is_self,
        // Nobody is sent to a leader that is not ready.
        leader: leader.filter(|leader| is_self || leader.raft_id != me),
    };
    core.leadership.send_if_modified(|old| {
        let differs = *old != new;
        if differs {
            tracing::info!(
                term = new.term,
                leader = new.leader.as_ref().map_or("", |l| l.node_id.as_str()),
                is_self = new.is_self,
                "leadership"
            );
            *old = new;
        }
        differs
    });
}

fn publish_members(core: &Core, metrics: &RaftMetrics<TypeConfig>) {
    let new: BTreeMap<_, _> = metrics
        .membership_config
        .nodes()
        .map(|(id, member)| (*id, member.clone()))
        .collect();
    core.members.send_if_modified(|old| {
        let differs = *old != new;
        *old = new;
        differs
    });
}

impl Core {
    /// Has a snapshot made when the log since the last one is large although its
    /// entries are few.
    async fn snapshot_if_large(&self) {
        if self.place.take_large_log() {
            let _ = self.raft.trigger().snapshot().await;
        }
    }
}

fn publish_fatal(core: &Core, fatal: &Fatal<TypeConfig>) {
    let error = match fatal {
        Fatal::Stopped => return,
        Fatal::Panicked => Error::internal("consensus failed on this manager; the others go on"),
        Fatal::StorageError(error) => Error::internal(format!(
            "this manager cannot write {}: {error}; it takes part in no decisions any more, the others go on",
            core.place.dir().display()
        )),
    };
    let error = error.hint("make room on the disk or repair it, then restart this daemon");
    core.fatal.send_if_modified(|old| {
        let first = old.is_none();
        if first {
            tracing::error!(%error, "consensus stopped");
            *old = Some(error);
        }
        first
    });
}
