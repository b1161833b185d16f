//! The Raft log and the vote.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::Ordering;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use skep_proto::v1::RaftEntry;

use super::flusher::Flusher;
use super::{LOG, Store};
use crate::consensus::convert::{entry_in, entry_out, malformed};
use crate::consensus::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

/// Entries that are read for one message to another manager, bytes; the first
/// is read whatever its size.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one manager. Clones share it.
#[derive(Debug, Clone)]
pub struct LogStore {
    store: Store,
    flusher: Flusher,
    /// Whom the last vote was for that is known to be on disk.
    voted: Option<LeaderId>,
}

/// Reads the log without the right to change it.
#[derive(Debug, Clone)]
pub struct LogReader(Store);

impl LogStore {
    pub(super) fn new(store: Store, flusher: Flusher) -> Self {
        Self {
            store,
            flusher,
            voted: None,
        }
    }

    /// Refuses a log whose ends do not fit together: entries missing in the
    /// middle, or fewer than what has been removed and applied already.
    pub(super) fn check(&self) -> io::Result<()> {
        let purged = self.store.purged()?;
        let next = purged.map_or(0, |id| id.index + 1);
        let mut expected = None;
        for item in self.store.log_range(0, None)? {
            let (index, _) = item?;
            if let Some(expected) = expected
                && index != expected
            {
                return Err(malformed(format!("log entry {expected} is missing")));
            }
            expected = Some(index + 1);
        }
        let last = self.store.last_log()?.map(|entry| entry.log_id);
        let first = self
            .store
            .log_range(0, None)?
            .next()
            .transpose()?
            .map(|(index, _)| index);
        if let Some(first) = first
            && first > next
        {
            return Err(malformed(format!("log entry {next} is missing")));
        }
        let applied = self.store.applied()?.last_log_id;
        if applied.map(|id| id.index) > last.or(purged).map(|id| id.index) {
            return Err(malformed(format!(
                "the state is that of log entry {}, which is missing",
                applied.map_or(0, |id| id.index)
            )));
        }
        self.store.vote().map(|_| ())
    }
}

impl Store {
    /// Entries from `start` up to `end`, still encoded.
    fn log_range(
        &self,
        start: u64,
        end: Option<u64>,
    ) -> io::Result<impl Iterator<Item = io::Result<(u64, Box<[u8]>)>> + '_> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end.to_be_bytes());
        }
        let from = start.to_be_bytes();
        let iterator = self.db().iterator_cf_opt(
            self.family(LOG)?,
            options,
            IteratorMode::From(&from, Direction::Forward),
        );
        Ok(iterator.map(|item| {
            let (key, value) = item.map_err(|error| self.failed("read", error))?;
            Ok((index_of(&key)?, value))
        }))
    }

    pub(super) fn last_log(&self) -> io::Result<Option<Entry>> {
        self.db()
            .iterator_cf(self.family(LOG)?, IteratorMode::End)
            .next()
            .map(|item| {
                let (_, value) = item.map_err(|error| self.failed("read", error))?;
                decode(&value)
            })
            .transpose()
    }

    /// The log's last place, whether its entry is still there or not.
    pub(super) fn last_log_id(&self) -> io::Result<Option<LogId>> {
        match self.last_log()? {
            Some(entry) => Ok(Some(entry.log_id)),
            None => self.purged(),
        }
    }

    pub(super) fn put_entry(&self, batch: &mut WriteBatch, entry: &Entry) -> io::Result<()> {
        batch.put_cf(
            self.family(LOG)?,
            entry.log_id.index.to_be_bytes(),
            entry_out(entry).encode_to_vec(),
        );
        Ok(())
    }

    fn entries(&self, start: u64, end: Option<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        for item in self.log_range(start, end)? {
            let (_, value) = item?;
            bytes = bytes.saturating_add(value.len());
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(decode(&value)?);
        }
        Ok(entries)
    }
}

fn index_of(key: &[u8]) -> io::Result<u64> {
    key.try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| malformed("a log entry under a key that is no index"))
}

fn decode(value: &[u8]) -> io::Result<Entry> {
    let entry = RaftEntry::decode(value).map_err(|error| malformed(format!("log: {error}")))?;
    entry_in(entry)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        if end.is_some_and(|end| end <= start) {
            return Ok(Vec::new());
        }
        self.0.entries(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.0.vote()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if end <= start {
            return Ok(Vec::new());
        }
        self.0.entries(start, Some(end), READ_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.store.purged()?,
            last_log_id: self.store.last_log_id()?,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(self.store.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        self.store.put_vote(&mut batch, vote)?;
        self.store.write(batch)?;
        // That a vote already on disk was granted by a quorum is no promise of
        // ours: a crash may forget it. Two flushes less in every election.
        if vote.committed && self.voted == Some(vote.leader_id) {
            return Ok(());
        }
        self.voted = None;
        self.flusher.wait().await?;
        self.voted = Some(vote.leader_id);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let written = (|| {
            let mut batch = WriteBatch::default();
            for entry in entries {
                self.store.put_entry(&mut batch, &entry)?;
            }
            let log_bytes = &self.store.place().log_bytes;
            log_bytes.fetch_add(batch.size_in_bytes(), Ordering::Relaxed);
            self.store.write(batch)
        })();
        match written {
            Ok(()) => self.flusher.flushed(callback).await,
            Err(error) => {
                callback.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
                Err(error)
            }
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(
            self.store.family(LOG)?,
            from.to_be_bytes(),
            u64::MAX.to_be_bytes(),
        );
        self.store.write(batch)?;
        self.flusher.wait().await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        // Not waited for: an entry that a crash brings back is harmless.
        let mut batch = WriteBatch::default();
        self.store.put_purged(&mut batch, &log_id)?;
        batch.delete_range_cf(
            self.store.family(LOG)?,
            0u64.to_be_bytes(),
            (log_id.index + 1).to_be_bytes(),
        );
        self.store.write(batch)
    }
}
