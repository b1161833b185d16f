//! What survives a restart of the agent: the assignments and the last status of
//! each task, so that containers are adopted with no manager in reach, and where
//! the managers are.
//!
//! One file per task, exchanged by a rename. Nothing is synced: a host that
//! loses power loses its containers too, and a file that cannot be read is a
//! task that the leader tells of again. Registry credentials are never written:
//! a task that still needs to pull waits for the leader to repeat them.

mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use skep_proto::v1::{Assignment, ManagerPeer, TaskStatus};
use tokio::sync::Notify;

/// Between two tries of what cannot be written.
const RETRY: Duration = Duration::from_secs(5);

/// What is kept of one task.
#[derive(Clone, PartialEq, Message)]
pub struct Stored {
    /// Without registry credentials.
    #[prost(message, optional, tag = "1")]
    pub assignment: Option<Assignment>,
    /// The last status that was said of it.
    #[prost(message, optional, tag = "2")]
    pub status: Option<TaskStatus>,
    /// There were credentials, and they were left out.
    #[prost(bool, tag = "3")]
    pub auth_withheld: bool,
}

/// What is kept of the managers.
#[derive(Clone, PartialEq, Message)]
pub struct Known {
    /// Every manager that the last leader named.
    #[prost(message, repeated, tag = "1")]
    pub managers: Vec<ManagerPeer>,
    /// `host:port` of the last leader.
    #[prost(string, tag = "2")]
    pub leader: String,
    /// The newest term heard of: leaders of older ones are not listened to.
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

#[derive(Debug, Default)]
struct Pending {
    /// What each task's file should hold next; `None`: no file.
    tasks: BTreeMap<String, Option<Stored>>,
    known: Option<Known>,
    /// What was last put, to leave out what changes nothing.
    last: BTreeMap<String, Stored>,
    /// The last writing failed, which is said once.
    is_failing: bool,
}

/// The worker's folder. Writing is done by [`Store::run`]; what is put between
/// two writes of one file is written once.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Store {
    /// Opens the folder (made if absent) and reads what is there. A file that
    /// cannot be read is put aside and said, never a reason to stop.
    pub fn open(folder: &Path) -> std::io::Result<(Self, Vec<Stored>, Known)> {
        files::prepare(folder)?;
        let stored = files::read_tasks(folder)?;
        let known = files::read_known(folder);
        let mut pending = Pending::default();
        for task in &stored {
            if let Some(assignment) = &task.assignment {
                pending
                    .last
                    .insert(assignment.task_id.clone(), task.clone());
            }
        }
        let store = Self {
            folder: folder.to_owned(),
            pending: Mutex::new(pending),
            changed: Notify::new(),
        };
        Ok((store, stored, known))
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be kept of a task.
    pub fn put(&self, assignment: &Assignment, status: &TaskStatus) {
        let mut kept = assignment.clone();
        let auth = kept
            .spec
            .as_mut()
            .and_then(|s| s.container.as_mut())
            .map(|c| std::mem::take(&mut c.registry_auth))
            .unwrap_or_default();
        let mut pending = self.lock();
        let last = pending.last.get(&assignment.task_id);
        // Read back without them and not yet repeated: still withheld.
        let withheld = !auth.is_empty()
            || last.is_some_and(|l| l.auth_withheld && l.assignment.as_ref() == Some(&kept));
        let stored = Stored {
            assignment: Some(kept),
            status: Some(status.clone()),
            auth_withheld: withheld,
        };
        if last == Some(&stored) {
            return;
        }
        let task_id = assignment.task_id.clone();
        pending.last.insert(task_id.clone(), stored.clone());
        pending.tasks.insert(task_id, Some(stored));
        drop(pending);
        self.changed.notify_one();
    }

    /// Nothing is to be kept of a task any more.
    pub fn forget(&self, task_id: &str) {
        let mut pending = self.lock();
        pending.last.remove(task_id);
        pending.tasks.insert(task_id.to_owned(), None);
        drop(pending);
        self.changed.notify_one();
    }

    /// What is known of the managers now.
    pub fn put_known(&self, known: Known) {
        self.lock().known = Some(known);
        self.changed.notify_one();
    }

    /// Writes what is put, until it is aborted.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            let store = self.clone();
            let written = tokio::task::spawn_blocking(move || store.flush()).await;
            if matches!(written, Ok(false)) {
                tokio::time::sleep(RETRY).await;
                self.changed.notify_one();
            }
        }
    }

    /// Writes what was put and is not written yet. What cannot be written is
    /// kept for the next time; `false` when there is such.
    pub fn flush(&self) -> bool {
        let (tasks, known) = {
            let mut pending = self.lock();
            (std::mem::take(&mut pending.tasks), pending.known.take())
        };
        let mut failed = None;
        for (task_id, stored) in tasks {
            let written = match &stored {
                Some(stored) => files::write_task(&self.folder, &task_id, &stored.encode_to_vec()),
                None => files::remove_task(&self.folder, &task_id),
            };
            if let Err(error) = written {
                failed = Some(error);
                self.lock().tasks.entry(task_id).or_insert(stored);
            }
        }
        if let Some(known) = known
            && let Err(error) = files::write_known(&self.folder, &known.encode_to_vec())
        {
            failed = Some(error);
            self.lock().known.get_or_insert(known);
        }
        let is_new = !std::mem::replace(&mut self.lock().is_failing, failed.is_some());
        if let Some(error) = &failed
            && is_new
        {
            tracing::error!(%error, folder = %self.folder.display(),
                "the worker cannot keep its tasks on disk and goes on trying: they run, but \
                 after a restart of the agent they wait for a leader; free some space, or make \
                 the folder writable");
        }
        failed.is_none()
    }

    /// Removes everything: this host left the swarm.
    pub fn destroy(&self) -> std::io::Result<()> {
        *self.lock() = Pending::default();
        files::destroy(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{ContainerSpec, TaskSpec, TaskState};

    fn assignment(task_id: &str, auth: &str) -> Assignment {
        Assignment {
            task_id: task_id.into(),
            generation: 3,
            spec: Some(TaskSpec {
                container: Some(ContainerSpec {
                    image: "i".into(),
                    registry_auth: auth.into(),
                    ..ContainerSpec::default()
                }),
                ..TaskSpec::default()
            }),
            ..Assignment::default()
        }
    }

    fn running() -> TaskStatus {
        TaskStatus {
            state: TaskState::Running.into(),
            ..TaskStatus::default()
        }
    }

    #[test]
    fn tasks_come_back_without_their_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let (store, stored, _) = Store::open(folder.path()).unwrap();
        assert!(stored.is_empty());
        store.put(&assignment("a", "c2VjcmV0"), &running());
        store.put(&assignment("b", ""), &running());
        store.flush();
        let (store, stored, _) = Store::open(folder.path()).unwrap();
        assert_eq!(stored.len(), 2);
        let a = &stored[0];
        assert!(a.auth_withheld && !stored[1].auth_withheld);
        assert_eq!(a.assignment.as_ref().unwrap(), &assignment("a", ""));
        for file in std::fs::read_dir(folder.path().join("tasks")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("c2VjcmV0"));
        }
        store.put(a.assignment.as_ref().unwrap(), &TaskStatus::default());
        store.flush();
        let (_, stored, _) = Store::open(folder.path()).unwrap();
        assert!(stored[0].auth_withheld, "a status does not give them back");
    }

    #[test]
    fn a_forgotten_task_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(folder.path()).unwrap();
        store.put(&assignment("a", ""), &running());
        store.flush();
        store.forget("a");
        store.flush();
        assert!(Store::open(folder.path()).unwrap().1.is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(folder.path()).unwrap();
        std::fs::remove_dir(folder.path().join("tasks")).unwrap();
        store.put(&assignment("a", ""), &running());
        assert!(!store.flush());
        std::fs::create_dir(folder.path().join("tasks")).unwrap();
        assert!(store.flush());
        assert_eq!(Store::open(folder.path()).unwrap().1.len(), 1);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_rest_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(folder.path()).unwrap();
        store.put(&assignment("a", ""), &running());
        store.put(&assignment("b", ""), &running());
        store.put_known(Known {
            leader: "m:1".into(),
            ..Known::default()
        });
        store.flush();
        for entry in std::fs::read_dir(folder.path().join("tasks")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with('a') {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes.truncate(bytes.len() / 2);
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let (_, stored, known) = Store::open(folder.path()).unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(known.leader, "m:1");
        std::fs::write(folder.path().join("managers"), b"\xff\xff\xff").unwrap();
        assert_eq!(Store::open(folder.path()).unwrap().2, Known::default());
    }
}
