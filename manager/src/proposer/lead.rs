//! The leader's task: one entry after the other, for as long as it leads.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use skep_proto::objects::Identified;
use skep_proto::v1::{Transaction, WriteResponse};
use skep_proto::{Error, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::Batch;
use super::{Propose, Queued};
use crate::engine::Engine;
use crate::seam::{Follow, Leadership};
use crate::state::{Nanos, Seed, World};

/// Largest entry, bytes of changes; a larger decision becomes several entries,
/// each of which leaves a sound world. Less than what consensus takes.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Requests in one entry.
const REQUESTS_MAX: usize = 256;
/// Between two attempts to commit anything after one that failed.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// Clocks of managers that are further apart are not bridged: timers would stand.
const SKEW_NS_MAX: Nanos = 5_000_000_000;
/// Least pause after a decision that changed nothing.
const IDLE_PAUSE_NS: Nanos = 5_000_000;
/// The engine is asked at least this often, in case a timer was missed.
const WAKE_MAX: Duration = Duration::from_secs(30);

pub(super) struct Lead {
    follow: Arc<dyn Follow>,
    propose: Arc<dyn Propose>,
    requests: mpsc::Receiver<Queued>,
    leadership: watch::Receiver<Leadership>,
}

impl Lead {
    pub fn new(
        follow: Arc<dyn Follow>,
        propose: Arc<dyn Propose>,
        requests: mpsc::Receiver<Queued>,
    ) -> Self {
        let leadership = follow.leadership();
        Self {
            follow,
            propose,
            requests,
            leadership,
        }
    }

    /// Waits for leadership, leads, and begins anew when it is lost.
    pub async fn run(mut self) {
        let mut failed_in = None;
        loop {
            let now = self.leadership.borrow_and_update().clone();
            if now.is_self {
                if failed_in == Some(now.term) && !self.settle(now.term).await {
                    continue;
                }
                failed_in = Some(now.term);
                tracing::info!(term = now.term, "leading");
                let why = self.lead(now.term).await;
                tracing::info!(term = now.term, why, "no longer leading");
                self.refuse_waiting();
                continue;
            }
            tokio::select! {
                changed = self.leadership.changed() => if changed.is_err() { return },
                queued = self.requests.recv() => match queued {
                    Some(queued) => refuse(queued.answer),
                    None => return,
                },
            }
        }
    }

    /// Leads in `term` until that ends, and says why it did.
    async fn lead(&mut self, term: u64) -> &'static str {
        let mut world = (*self.follow.world()).clone();
        let mut engine = Engine::new(&world);
        let mut clock = Clock::after(&world);
        let mut wake_at = Some(0);
        loop {
            let now = clock.now();
            let first = match wake_at {
                Some(at) if at <= now => self.requests.try_recv().ok(),
                _ => {
                    let pause = wake_at.map_or(WAKE_MAX, |at| {
                        Duration::from_nanos(at.saturating_sub(now).unsigned_abs()).min(WAKE_MAX)
                    });
                    tokio::select! {
                        biased;
                        changed = self.leadership.changed() => {
                            if changed.is_err() || !self.still_leads(term) {
                                return "another manager leads";
                            }
                            continue;
                        }
                        queued = self.requests.recv() => match queued {
                            Some(queued) => Some(queued),
                            None => return "shutting down",
                        },
                        () = tokio::time::sleep(pause) => None,
                    }
                }
            };
            if !self.still_leads(term) {
                if let Some(queued) = first {
                    refuse(queued.answer);
                }
                return "another manager leads";
            }
            let applied = self.follow.world();
            if applied.version() != world.version() {
                // The founding entry of a swarm is the one that is not ours.
                world = (*applied).clone();
                engine = Engine::new(&world);
            }
            let mut batch = Batch::new(&world, clock.now(), Seed(rand::random()));
            let mut count = 0;
            let mut next = first;
            while let Some(queued) = next {
                if queued.request.term != 0 && queued.request.term != term {
                    refuse(queued.answer);
                } else {
                    batch.request(queued, &mut engine);
                }
                count += 1;
                next = if count < REQUESTS_MAX && !batch.is_full() {
                    self.requests.try_recv().ok()
                } else {
                    None
                };
            }
            wake_at = batch.decide(&mut engine);
            let (transaction, answers) = batch.finish();
            if transaction.changes.is_empty() {
                // An engine that has nothing to say is not asked again at once.
                wake_at = wake_at.map(|at| at.max(now.saturating_add(IDLE_PAUSE_NS)));
            }
            match self.commit(&mut world, transaction, term).await {
                Ok(()) => {
                    for (answer, response) in answers {
                        let _ = answer.send(response);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, term, "an entry was not committed");
                    for (answer, _) in answers {
                        refuse(answer);
                    }
                    return "an entry was not committed";
                }
            }
        }
    }

    /// After an entry whose fate is unknown in a term that goes on: an empty one
    /// behind it. Once that is applied, the unknown one is too, or never will be.
    async fn settle(&mut self, term: u64) -> bool {
        self.refuse_waiting();
        match self.propose.propose(Transaction::default(), term).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, term, "this manager cannot commit");
                let _ = tokio::time::timeout(SETTLE_PAUSE, self.leadership.changed()).await;
                false
            }
        }
    }

    /// Commits the entry and moves our world to where it leads.
    async fn commit(&self, world: &mut World, transaction: Transaction, term: u64) -> Result<()> {
        if transaction.changes.is_empty() && transaction.outcomes.is_empty() {
            return Ok(());
        }
        for part in split(transaction, ENTRY_BYTES_MAX) {
            let expected = world.apply(&part).version;
            let applied = self.propose.propose(part, term).await?;
            if applied.version != expected {
                return Err(Error::internal(format!(
                    "the world is at version {} where {expected} was expected",
                    applied.version
                )));
            }
        }
        Ok(())
    }

    fn still_leads(&self, term: u64) -> bool {
        let now = self.leadership.borrow();
        now.is_self && now.term == term
    }

    fn refuse_waiting(&mut self) {
        while let Ok(queued) = self.requests.try_recv() {
            refuse(queued.answer);
        }
    }
}

/// The transaction in parts of at most `bytes_max` bytes of changes, but for a
/// change that is larger by itself. What was asked is answered with the last.
fn split(transaction: Transaction, bytes_max: usize) -> Vec<Transaction> {
    let Transaction {
        at_ns,
        changes,
        outcomes,
    } = transaction;
    let mut parts = vec![Transaction {
        at_ns,
        ..Transaction::default()
    }];
    let mut bytes = 0;
    for change in changes {
        let more = change.encoded_len();
        if bytes > 0 && bytes + more > bytes_max {
            parts.push(Transaction {
                at_ns,
                ..Transaction::default()
            });
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.changes.push(change);
        }
    }
    if let Some(part) = parts.last_mut() {
        part.outcomes = outcomes;
    }
    parts
}

/// Sends the caller to look for the new leader; its request's id makes that safe.
fn refuse(answer: oneshot::Sender<Result<WriteResponse>>) {
    let _ = answer.send(Err(Error::unavailable("the leader changed")));
}

/// Wall time that only goes on: no two entries are of the same time, so that
/// the engine can tell what came before an update from what the update made.
struct Clock(Nanos);

impl Clock {
    /// Goes on from the newest time in `world`, which another leader's clock
    /// may have put a little ahead of ours.
    fn after(world: &World) -> Self {
        let services = world.services().map(|s| s.meta().updated_at_ns);
        let tasks = world.tasks().map(|t| t.meta().updated_at_ns);
        let newest = services.chain(tasks).max().unwrap_or(0);
        Self(newest.min(wall_ns().saturating_add(SKEW_NS_MAX)))
    }

    fn now(&mut self) -> Nanos {
        self.0 = wall_ns().max(self.0.saturating_add(1));
        self.0
    }
}

fn wall_ns() -> Nanos {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| Nanos::try_from(d.as_nanos()).unwrap_or(Nanos::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{Change, Outcome, TaskPatch, change};

    #[test]
    fn a_large_decision_becomes_several_entries_in_order() {
        let patch = |n: usize| Change {
            change: Some(change::Change::Task(TaskPatch {
                id: format!("{n:025}"),
                ..TaskPatch::default()
            })),
        };
        let changes: Vec<Change> = (0..100).map(patch).collect();
        let whole = Transaction {
            at_ns: 5,
            changes: changes.clone(),
            outcomes: vec![Outcome::default()],
        };
        let parts = split(whole, 500);
        assert!(parts.len() > 5);
        for part in &parts {
            let bytes: usize = part.changes.iter().map(Message::encoded_len).sum();
            assert!(bytes <= 500);
            assert_eq!(part.at_ns, 5);
        }
        let joined: Vec<Change> = parts.iter().flat_map(|p| p.changes.clone()).collect();
        assert_eq!(joined, changes);
        let told: Vec<usize> = parts.iter().map(|p| p.outcomes.len()).collect();
        assert_eq!(told.iter().sum::<usize>(), 1);
        assert_eq!(told.last(), Some(&1));
    }

    #[test]
    fn no_two_entries_are_of_the_same_time() {
        let mut clock = Clock::after(&World::default());
        let times: Vec<Nanos> = (0..1000).map(|_| clock.now()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_small_decision_stays_one_entry() {
        assert_eq!(split(Transaction::default(), 500).len(), 1);
    }
}
