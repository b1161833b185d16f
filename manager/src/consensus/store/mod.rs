//! One RocksDB per manager with one write-ahead log: the Raft log, the vote and
//! the applied state in column families.
//!
//! Writes reach the operating system at once and the disk through one
//! [`flusher`] thread: whatever arrives while it flushes shares the next flush.
//! The state is written with the entries it comes from already before it in the
//! same write-ahead log, so whatever prefix a crash leaves is consistent.

mod flusher;
mod force;
mod log;
mod machine;
mod meta;
mod open;
mod snapshot;
mod state;
#[cfg(test)]
mod suite;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{ColumnFamily, DB, WriteBatch};

pub use log::LogStore;
pub use machine::{Machine, Published};
pub(super) use open::{Opened, open};
pub use snapshot::{SNAPSHOT_BYTES_MAX, SnapshotFile};

/// Log entries by index, big-endian.
const LOG: &str = "log";
/// The vote, what was purged, what was applied and the membership then.
const META: &str = "meta";
/// The world's records by table and id.
const STATE: &str = "state";

/// The database and where it lies.
#[derive(Debug, Clone)]
pub struct Store {
    db: Arc<DB>,
    dir: PathBuf,
    /// Set by the first write that failed: nothing may be acknowledged after it
    /// that the disk may not hold.
    broken: Arc<AtomicBool>,
}

impl Store {
    /// Where snapshots are kept.
    pub fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// The folder that holds everything of this store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many handles on the database there are: one means that nothing else
    /// uses it any more.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.db)
    }

    fn family(&self, name: &str) -> io::Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("column family {name} is missing in {}", self.dir.display()),
            )
        })
    }

    /// Writes without waiting for the disk. Readable on return.
    fn write(&self, batch: WriteBatch) -> io::Result<()> {
        self.refuse_if_broken()?;
        self.db
            .write(batch)
            .map_err(|error| self.broke("write to", error))
    }

    fn flush(&self) -> io::Result<()> {
        self.refuse_if_broken()?;
        self.db
            .flush_wal(true)
            .map_err(|error| self.broke("flush", error))
    }

    /// As if the disk had failed.
    #[cfg(test)]
    pub(in crate::consensus) fn break_writes(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn refuse_if_broken(&self) -> io::Result<()> {
        if self.broken.load(Ordering::Acquire) {
            return Err(io::Error::other(format!(
                "an earlier write to {} failed",
                self.dir.display()
            )));
        }
        Ok(())
    }

    fn broke(&self, verb: &str, error: rocksdb::Error) -> io::Error {
        self.broken.store(true, Ordering::Release);
        self.failed(verb, error)
    }

    fn failed(&self, verb: &str, error: rocksdb::Error) -> io::Error {
        io::Error::other(format!("cannot {verb} {}: {error}", self.dir.display()))
    }
}
