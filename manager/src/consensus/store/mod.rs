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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rocksdb::{ColumnFamily, DB, WriteBatch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use log::LogStore;
pub use machine::{Machine, Published};
pub(super) use open::{Opened, open};
pub use snapshot::{SNAPSHOT_BYTES_MAX, SnapshotFile};

/// Log between two snapshots, bytes, if its entries are few but large.
const LOG_BYTES_MAX: usize = 32 << 20;

/// Log entries by index, big-endian.
const LOG: &str = "log";
/// The vote, what was purged, what was applied and the membership then.
const META: &str = "meta";
/// The world's records by table and id.
const STATE: &str = "state";

/// The database, for those who read and write it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Arc<Database>,
    place: Place,
}

#[derive(Debug)]
struct Database {
    db: DB,
    /// Dropped after it.
    _closed: DropGuard,
}

/// Where a store is, and how it is. Holding it does not keep the store open.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    closed: CancellationToken,
    /// Set by the first write that failed: nothing may be acknowledged after it
    /// that the disk may not hold.
    broken: Arc<AtomicBool>,
    /// Bytes of entries since [`Place::take_large_log`] was last true.
    log_bytes: Arc<AtomicUsize>,
}

impl Place {
    /// The folder that holds everything of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where snapshots are kept.
    pub fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Whether so much was appended since the last time that a snapshot should
    /// be made.
    pub fn take_large_log(&self) -> bool {
        let large = self.log_bytes.load(Ordering::Relaxed) > LOG_BYTES_MAX;
        if large {
            self.log_bytes.store(0, Ordering::Relaxed);
        }
        large
    }

    /// Waits until nobody has the store open any more. A process that ends
    /// before that may be aborted by RocksDB's own threads.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether that is so now.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// As if the disk had failed.
    #[cfg(test)]
    pub(in crate::consensus) fn break_writes(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

impl Store {
    fn new(db: DB, dir: PathBuf) -> Self {
        let closed = CancellationToken::new();
        Self {
            database: Arc::new(Database {
                db,
                _closed: closed.clone().drop_guard(),
            }),
            place: Place {
                dir,
                closed,
                broken: Arc::default(),
                log_bytes: Arc::default(),
            },
        }
    }

    /// Where it is, without keeping it open.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn db(&self) -> &DB {
        &self.database.db
    }

    fn family(&self, name: &str) -> io::Result<&ColumnFamily> {
        self.db().cf_handle(name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "column family {name} is missing in {}",
                    self.place.dir.display()
                ),
            )
        })
    }

    /// Writes without waiting for the disk. Readable on return.
    fn write(&self, batch: WriteBatch) -> io::Result<()> {
        self.refuse_if_broken()?;
        self.db()
            .write(batch)
            .map_err(|error| self.broke("write to", error))
    }

    fn flush(&self) -> io::Result<()> {
        self.refuse_if_broken()?;
        self.db()
            .flush_wal(true)
            .map_err(|error| self.broke("flush", error))
    }

    fn refuse_if_broken(&self) -> io::Result<()> {
        if self.place.broken.load(Ordering::Acquire) {
            return Err(io::Error::other(format!(
                "an earlier write to {} failed",
                self.place.dir.display()
            )));
        }
        Ok(())
    }

    fn broke(&self, verb: &str, error: rocksdb::Error) -> io::Error {
        self.place.broken.store(true, Ordering::Release);
        self.failed(verb, error)
    }

    fn failed(&self, verb: &str, error: rocksdb::Error) -> io::Error {
        io::Error::other(format!(
            "cannot {verb} {}: {error}",
            self.place.dir.display()
        ))
    }
}
