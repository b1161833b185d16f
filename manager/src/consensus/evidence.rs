//! What this manager itself sees of the others: whose process answers, whose is
//! gone, and who has handed over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::types::{RaftId, Vote};

/// For how long a hand-over excuses an election.
const HANDOVER: Duration = Duration::from_secs(2);

/// For how long a process that is back as another one counts as gone.
const RESTART: Duration = Duration::from_secs(1);

/// How a process was found to be gone.
#[derive(Debug, Clone, Copy)]
enum Gone {
    /// Its connection ended and nobody listens at its address.
    Refused,
    /// Another process answers at its address since then.
    Restarted(Instant),
}

/// What is seen now.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Links that are up, and the process at their other end.
    up: BTreeMap<RaftId, u64>,
    gone: BTreeMap<RaftId, Gone>,
    /// The last process seen of each.
    last: BTreeMap<RaftId, u64>,
    /// The leader of this vote told us that it hands over.
    handover: Option<(Vote, Instant)>,
}

impl Seen {
    pub(super) fn is_up(&self, id: RaftId) -> bool {
        self.up.contains_key(&id)
    }

    /// The process that led is no longer there. A silent host is not gone.
    pub(super) fn is_gone(&self, id: RaftId) -> bool {
        match self.gone.get(&id) {
            Some(Gone::Refused) => true,
            Some(Gone::Restarted(at)) => at.elapsed() < RESTART,
            None => false,
        }
    }

    fn excuses(&self, current: &Vote) -> bool {
        self.is_gone(current.leader_id.node_id)
            || self
                .handover
                .is_some_and(|(vote, at)| vote == *current && at.elapsed() < HANDOVER)
    }
}

/// Shared by everything that sees or asks.
#[derive(Debug)]
pub(super) struct Evidence(watch::Sender<Seen>);

impl Default for Evidence {
    fn default() -> Self {
        Self(watch::Sender::new(Seen::default()))
    }
}

impl Evidence {
    /// Now and whenever it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Seen> {
        self.0.subscribe()
    }

    pub(super) fn is_up(&self, id: RaftId) -> bool {
        self.0.borrow().is_up(id)
    }

    pub(super) fn is_gone(&self, id: RaftId) -> bool {
        self.0.borrow().is_gone(id)
    }

    /// A link is up, with a process that drew `boot` when it started. Another
    /// process than before means that the one before is gone, for a while: a
    /// manager that restarts faster than we look must not hold up an election.
    pub(super) fn link_up(&self, id: RaftId, boot: u64) {
        self.0.send_modify(|seen| {
            seen.up.insert(id, boot);
            match seen.last.insert(id, boot) {
                Some(before) if before != boot => {
                    seen.gone.insert(id, Gone::Restarted(Instant::now()));
                }
                _ => {
                    seen.gone.remove(&id);
                }
            }
        });
    }

    pub(super) fn link_down(&self, id: RaftId) {
        self.0
            .send_if_modified(|seen| seen.up.remove(&id).is_some());
    }

    /// Nobody listens at its address.
    pub(super) fn refused(&self, id: RaftId) {
        self.0
            .send_if_modified(|seen| seen.gone.insert(id, Gone::Refused).is_none());
    }

    /// It was elected: whatever was gone before is back.
    pub(super) fn alive(&self, id: RaftId) {
        self.0
            .send_if_modified(|seen| seen.up.contains_key(&id) && seen.gone.remove(&id).is_some());
    }

    pub(super) fn forget(&self, id: RaftId) {
        self.0.send_modify(|seen| {
            seen.up.remove(&id);
            seen.gone.remove(&id);
            seen.last.remove(&id);
        });
    }

    pub(super) fn handed_over(&self, vote: Vote) {
        self.0
            .send_modify(|seen| seen.handover = Some((vote, Instant::now())));
    }

    /// Waits a moment for our own connection to tell what others have seen already.
    pub(super) async fn wait_gone(&self, id: RaftId, patience: Duration) -> bool {
        self.wait(patience, |seen| seen.is_gone(id)).await
    }

    /// Whether an election that disregards the leader's lease is justified while
    /// `current` is our vote: by our own evidence or by the leader's word.
    pub(super) async fn excuses(&self, current: Vote, patience: Duration) -> bool {
        self.wait(patience, |seen| seen.excuses(&current)).await
    }

    async fn wait(&self, patience: Duration, is: impl FnMut(&Seen) -> bool) -> bool {
        let mut seen = self.watch();
        tokio::time::timeout(patience, seen.wait_for(is))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_lost_link_alone_excuses_no_election() {
        let (evidence, vote) = (Evidence::default(), Vote::new_committed(3, 1));
        evidence.link_up(1, 7);
        evidence.link_down(1);
        assert!(!evidence.excuses(vote, SOON).await);
        evidence.refused(1);
        assert!(evidence.excuses(vote, SOON).await);
    }

    #[tokio::test]
    async fn a_leader_that_is_back_as_another_process_was_gone() {
        let (evidence, vote) = (Evidence::default(), Vote::new_committed(3, 1));
        evidence.link_up(1, 7);
        evidence.link_down(1);
        evidence.link_up(1, 7);
        assert!(!evidence.excuses(vote, SOON).await);
        evidence.link_up(1, 8);
        assert!(evidence.excuses(vote, SOON).await);
        evidence.alive(1);
        assert!(!evidence.excuses(vote, SOON).await);
    }

    #[tokio::test]
    async fn a_hand_over_excuses_the_end_of_that_term_only() {
        let evidence = Evidence::default();
        evidence.handed_over(Vote::new_committed(3, 1));
        assert!(evidence.excuses(Vote::new_committed(3, 1), SOON).await);
        assert!(!evidence.excuses(Vote::new_committed(4, 2), SOON).await);
    }
}
