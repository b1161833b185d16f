//! Where the newest status of each task stands: what a hello tells, and what
//! still has to reach the leader. One entry per task, so it never grows beyond
//! the tasks of the host, however long no leader is in reach.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_proto::v1::{TaskReport, TaskState, TaskStatus};
use tokio::sync::Notify;

/// Reports in one batch, at most.
const BATCH_MAX: usize = 1024;
/// Batches sent and not yet acknowledged, at most.
const IN_FLIGHT_MAX: usize = 4;
/// How long a step on the way waits for the next one to take its place.
const STEP_DELAY: Duration = Duration::from_millis(20);
/// How long news (it runs, it ended) wait for other news.
const NEWS_DELAY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Entry {
    status: TaskStatus,
    container: String,
    /// Grows with each change.
    version: u64,
    /// The version that was sent last within this session.
    sent: u64,
    /// The version that a leader has.
    acked: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    in_flight: BTreeMap<u64, Vec<(String, u64)>>,
}

/// The statuses of all tasks of a host.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task's newest status, and what its container is called.
    pub fn publish(&self, task_id: &str, status: &TaskStatus, container: &str) {
        let mut inner = self.lock();
        let entry = inner.entries.entry(task_id.to_owned()).or_default();
        entry.container = container.to_owned();
        if entry.version > 0 && entry.status == *status {
            return;
        }
        entry.status = status.clone();
        entry.version += 1;
        drop(inner);
        self.changed.notify_one();
    }

    /// The task is gone, and nobody wants to hear of it.
    pub fn forget(&self, task_id: &str) {
        self.lock().entries.remove(task_id);
    }

    /// Every task with its newest status.
    pub fn all(&self) -> Vec<TaskReport> {
        self.lock()
            .entries
            .iter()
            .map(|(task_id, entry)| report(task_id, entry))
            .collect()
    }

    /// The container of a task and the task's state.
    pub fn container(&self, task_id: &str) -> Option<(String, TaskState)> {
        self.lock()
            .entries
            .get(task_id)
            .map(|e| (e.container.clone(), e.status.state()))
    }

    /// Tasks known, and tasks running.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.lock();
        let running = inner
            .entries
            .values()
            .filter(|e| e.status.state() == TaskState::Running)
            .count();
        (inner.entries.len(), running)
    }

    /// A new session begins: what no leader acknowledged is to be sent again.
    pub fn session(&self) {
        let mut inner = self.lock();
        inner.in_flight.clear();
        for entry in inner.entries.values_mut() {
            entry.sent = entry.acked;
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits until there is something to send and a moment more, so that what
    /// happens together is told together.
    pub async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            match self.waiting() {
                Some(true) => return tokio::time::sleep(NEWS_DELAY).await,
                Some(false) => {
                    tokio::select! {
                        () = tokio::time::sleep(STEP_DELAY) => return,
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Whether something waits to be sent, and whether that is news.
    fn waiting(&self) -> Option<bool> {
        let inner = self.lock();
        if inner.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let mut waiting = None;
        for entry in inner.entries.values().filter(|e| e.version > e.sent) {
            if entry.status.state() >= TaskState::Running {
                return Some(true);
            }
            waiting = Some(false);
        }
        waiting
    }

    /// Takes what is to be sent as batch `sequence`.
    pub fn take(&self, sequence: u64) -> Vec<TaskReport> {
        let mut inner = self.lock();
        let mut reports = Vec::new();
        let mut sent = Vec::new();
        for (task_id, entry) in &mut inner.entries {
            if entry.version > entry.sent {
                entry.sent = entry.version;
                sent.push((task_id.clone(), entry.version));
                reports.push(report(task_id, entry));
            }
            if reports.len() == BATCH_MAX {
                break;
            }
        }
        if !sent.is_empty() {
            inner.in_flight.insert(sequence, sent);
        }
        reports
    }

    /// The leader has batch `sequence` and all before it.
    pub fn acked(&self, sequence: u64) {
        let mut inner = self.lock();
        let later = inner.in_flight.split_off(&sequence.saturating_add(1));
        let settled = std::mem::replace(&mut inner.in_flight, later);
        for (task_id, version) in settled.into_values().flatten() {
            if let Some(entry) = inner.entries.get_mut(&task_id) {
                entry.acked = entry.acked.max(version);
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether a leader has everything.
    #[cfg(test)]
    pub fn is_settled(&self) -> bool {
        self.lock().entries.values().all(|e| e.acked == e.version)
    }
}

fn report(task_id: &str, entry: &Entry) -> TaskReport {
    TaskReport {
        task_id: task_id.to_owned(),
        status: Some(entry.status.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus {
            state: state.into(),
            ..TaskStatus::default()
        }
    }

    fn states(reports: &[TaskReport]) -> Vec<TaskState> {
        reports
            .iter()
            .map(|r| r.status.as_ref().unwrap().state())
            .collect()
    }

    #[test]
    fn only_the_newest_status_is_sent_and_only_once() {
        let board = Board::default();
        board.publish("t", &status(TaskState::Accepted), "c");
        board.publish("t", &status(TaskState::Preparing), "c");
        assert_eq!(states(&board.take(1)), [TaskState::Preparing]);
        assert!(board.take(2).is_empty());
        board.publish("t", &status(TaskState::Preparing), "c");
        assert!(board.take(2).is_empty(), "nothing changed");
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_on_a_new_session() {
        let board = Board::default();
        board.publish("a", &status(TaskState::Running), "c");
        board.publish("b", &status(TaskState::Running), "c");
        assert_eq!(board.take(1).len(), 2);
        board.publish("b", &status(TaskState::Failed), "c");
        board.acked(1);
        assert!(!board.is_settled());
        assert_eq!(states(&board.take(2)), [TaskState::Failed]);
        board.session();
        assert_eq!(states(&board.take(1)), [TaskState::Failed], "a is known");
        board.acked(1);
        assert!(board.is_settled());
    }

    #[test]
    fn an_acknowledgement_of_an_older_session_settles_nothing_new() {
        let board = Board::default();
        board.publish("a", &status(TaskState::Running), "c");
        board.take(1);
        board.session();
        board.acked(1);
        assert!(!board.is_settled());
    }

    #[tokio::test]
    async fn steps_wait_for_company_and_news_hardly() {
        let board = Board::default();
        board.publish("a", &status(TaskState::Preparing), "c");
        let start = tokio::time::Instant::now();
        board.ready().await;
        assert!(start.elapsed() >= STEP_DELAY);
        board.publish("a", &status(TaskState::Running), "c");
        assert_eq!(board.waiting(), Some(true), "it is news");
        board.ready().await;
    }
}
