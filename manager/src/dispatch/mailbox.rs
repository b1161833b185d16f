//! What waits to be sent to one worker. Everything is a mark, and is made into
//! messages from the newest world when the worker can take them: a slow worker
//! costs a set of ids at most, and then a full set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use skep_proto::v1::{LogSubscription, Role};
use tokio::sync::Notify;

/// Tasks that may be marked; with more the worker gets a full set.
pub const DIRTY_MAX: usize = 4_096;
/// Log subscriptions that may wait to be told.
const LOG_COMMANDS_MAX: usize = 1_024;

/// What is due to a worker, taken as a whole.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    /// A full set, whatever is in `dirty`.
    pub resync: bool,
    /// Tasks that changed for it, were placed on it, or left it.
    pub dirty: BTreeSet<String>,
    /// The world version that the marks come from.
    pub version: u64,
    /// The list of managers changed.
    pub managers: bool,
    /// It should have another certificate, for this role.
    pub renew: Option<Role>,
    /// Status batches that are committed, in order.
    pub acks: Vec<u64>,
    /// Subscriptions by id; `None` ends one.
    pub logs: BTreeMap<String, Option<LogSubscription>>,
}

/// Marks from many, taken by one session.
#[derive(Debug, Default)]
pub struct Mailbox {
    due: Mutex<Due>,
    wake: Notify,
}

impl Mailbox {
    /// Marks tasks that changed by `version`.
    pub fn mark(&self, version: u64, tasks: impl IntoIterator<Item = String>) {
        self.put(|due| {
            due.version = due.version.max(version);
            if !due.resync {
                due.dirty.extend(tasks);
                if due.dirty.len() > DIRTY_MAX {
                    due.resync = true;
                    due.dirty.clear();
                }
            }
        });
    }

    /// Asks for a full set of at least `version`.
    pub fn resync(&self, version: u64) {
        self.put(|due| {
            due.version = due.version.max(version);
            due.resync = true;
            due.dirty.clear();
        });
    }

    /// The list of managers changed.
    pub fn managers(&self) {
        self.put(|due| due.managers = true);
    }

    /// A new certificate is due, for `role`.
    pub fn renew(&self, role: Role) {
        self.put(|due| due.renew = Some(role));
    }

    /// Everything up to this batch is committed. Bounded by the batches that a
    /// session may have under way.
    pub fn ack(&self, sequences: impl IntoIterator<Item = u64>) {
        self.put(|due| due.acks.extend(sequences));
    }

    /// Begins a log subscription. False when too many wait.
    pub fn subscribe(&self, subscription: LogSubscription) -> bool {
        self.put(|due| {
            if due.logs.len() >= LOG_COMMANDS_MAX {
                return false;
            }
            due.logs.insert(subscription.id.clone(), Some(subscription));
            true
        })
    }

    /// Ends one. What was never told is merely forgotten; one that does not fit
    /// is ended when its next lines come.
    pub fn unsubscribe(&self, id: &str) {
        self.put(|due| {
            let untold = due.logs.remove(id).is_some_and(|s| s.is_some());
            if !untold && due.logs.len() < LOG_COMMANDS_MAX {
                due.logs.insert(id.to_owned(), None);
            }
        });
    }

    /// Waits for a mark and takes them all.
    pub async fn take(&self) -> Due {
        loop {
            let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
            if due != Due::default() {
                return due;
            }
            self.wake.notified().await;
        }
    }

    fn put<T>(&self, change: impl FnOnce(&mut Due) -> T) -> T {
        let result = change(&mut self.due.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_come_together_and_once() {
        let mailbox = Mailbox::default();
        mailbox.mark(3, ["b".to_owned(), "a".to_owned()]);
        mailbox.mark(4, ["a".to_owned()]);
        mailbox.ack([1, 2]);
        let due = mailbox.take().await;
        assert_eq!(due.version, 4);
        assert_eq!(due.dirty.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(due.acks, [1, 2]);
        let wait = tokio::time::timeout(std::time::Duration::from_millis(20), mailbox.take());
        assert!(wait.await.is_err());
    }

    #[tokio::test]
    async fn more_marks_than_fit_become_a_full_set() {
        let mailbox = Mailbox::default();
        mailbox.mark(9, (0..=DIRTY_MAX).map(|n| n.to_string()));
        mailbox.mark(10, ["another".to_owned()]);
        let due = mailbox.take().await;
        assert!(due.resync && due.dirty.is_empty());
        assert_eq!(due.version, 10);
    }

    #[tokio::test]
    async fn a_subscription_that_ends_before_it_was_told_is_never_told() {
        let mailbox = Mailbox::default();
        let subscription = |id: &str| LogSubscription {
            id: id.to_owned(),
            ..LogSubscription::default()
        };
        assert!(mailbox.subscribe(subscription("a")));
        mailbox.unsubscribe("a");
        mailbox.unsubscribe("b");
        let due = mailbox.take().await;
        assert_eq!(
            due.logs.into_iter().collect::<Vec<_>>(),
            [("b".to_owned(), None)]
        );
        for n in 0..LOG_COMMANDS_MAX {
            assert!(mailbox.subscribe(subscription(&n.to_string())));
        }
        assert!(!mailbox.subscribe(subscription("more")));
    }
}
