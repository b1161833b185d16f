//! What a node remembers of itself: that it is in a swarm, and under which name
//! and addresses. Written as a whole or not at all.

use std::fs::{File, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_proto::{Error, Result};

/// Of the data directory.
const DIRECTORY_MODE: u32 = 0o700;

/// `node.json` in the data directory; absent while the node is in no swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// This node's id, as in its certificate.
    pub node_id: String,
    /// The swarm's id.
    pub cluster_id: String,
    /// Where the cluster's listener is bound.
    pub listen_addr: String,
    /// What others reach this node by, `host:port`.
    pub advertise_addr: String,
    /// Its number in the Raft group, if it is or was about to be in it. Chosen
    /// anew at each promotion: a number is never used twice.
    pub raft_id: Option<u64>,
    /// Whether the Raft group has taken it in.
    pub raft_member: bool,
    /// Managers that were known when it joined, `host:port`: whom to ask first
    /// until the leader has told of the others.
    #[serde(default)]
    pub managers: Vec<String>,
}

/// The data directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and refuses one that another daemon has.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |what: &str, error: &std::io::Error| {
            Error::precondition(format!("{}: {what}: {error}", path.display()))
                .at("data-dir")
                .hint("the daemon needs a directory that it can write to")
        };
        std::fs::create_dir_all(path).map_err(|e| failed("cannot be made", &e))?;
        // The root's key is in a manager's log.
        let mode = std::fs::metadata(path).map(|m| m.permissions().mode() & 0o777);
        if mode.is_ok_and(|mode| mode != DIRECTORY_MODE) {
            std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
                .map_err(|e| failed("cannot be made root's alone", &e))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(|e| failed("cannot be written to", &e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::precondition(format!(
                "another skep daemon uses {}",
                path.display()
            ))
            .at("data-dir")
            .hint("stop it, or start this one with another --data-dir")),
            Err(TryLockError::Error(error)) => Err(failed("cannot be locked", &error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the Raft log and state.
    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Folder of the worker's assignments.
    pub fn worker(&self) -> PathBuf {
        self.path.join("worker")
    }

    /// What the node remembers, or `None` while it is in no swarm.
    pub fn node(&self) -> Result<Option<NodeFile>> {
        let path = self.path.join("node.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| unreadable(&path, &error))
    }

    /// Remembers; durable on return.
    pub fn set_node(&self, node: &NodeFile) -> Result<()> {
        let path = self.path.join("node.json");
        let text = serde_json::to_vec_pretty(node)
            .map_err(|e| Error::internal(format!("node.json cannot be written: {e}")))?;
        write(&path, &text)
            .map_err(|e| Error::precondition(format!("cannot write {}: {e}", path.display())))
    }

    /// Forgets the swarm: what a node leaves behind when it leaves.
    pub fn forget(&self) -> Result<()> {
        for name in ["node.json", "raft", "certificates", "worker"] {
            let path = self.path.join(name);
            let gone = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            match gone {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::precondition(format!(
                        "cannot remove {}: {error}",
                        path.display()
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::precondition(format!("cannot read {}: {error}", path.display())).hint(
        "restore the file from a backup, or remove the data directory and join the swarm anew",
    )
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_per_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(error.message.contains("another skep daemon"));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_node_remembers_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(data.node().unwrap(), None);
        let node = NodeFile {
            node_id: "n".into(),
            cluster_id: "c".into(),
            listen_addr: "0.0.0.0:2377".into(),
            advertise_addr: "10.0.0.1:2377".into(),
            raft_id: Some(7),
            raft_member: true,
            managers: Vec::new(),
        };
        data.set_node(&node).unwrap();
        assert_eq!(data.node().unwrap(), Some(node));
        data.forget().unwrap();
        assert_eq!(data.node().unwrap(), None);
    }

    #[test]
    fn a_torn_file_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("node.json"), b"{\"node").unwrap();
        let error = data.node().unwrap_err();
        assert!(error.message.contains("node.json"));
        assert!(dir.path().join("node.json").exists());
    }
}
