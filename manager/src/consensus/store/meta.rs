//! The few single values of a store.

use std::io;

use prost::Message;
use rocksdb::WriteBatch;
use skep_proto::v1::{RaftLinkBeat, RaftLogId, RaftSnapshotHeader, RaftVote};

use super::{META, Store};
use crate::consensus::convert::{
    header_in, header_out, log_id_in, log_id_out, malformed, vote_in, vote_out,
};
use crate::consensus::types::{LogId, RaftId, SnapshotMeta, Vote};

const ME: &[u8] = b"me";
const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const APPLIED: &[u8] = b"applied";

impl Store {
    /// The name of this disk's manager in the group: the first that it was given.
    pub(in crate::consensus) fn identity(&self, proposed: RaftId) -> io::Result<RaftId> {
        if let Some(me) = self.meta::<RaftLinkBeat>(ME)? {
            return Ok(me.raft_id);
        }
        let me = RaftLinkBeat {
            raft_id: proposed,
            ..RaftLinkBeat::default()
        };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META)?, ME, me.encode_to_vec());
        self.write(batch)?;
        self.flush()?;
        Ok(proposed)
    }

    pub(super) fn vote(&self) -> io::Result<Option<Vote>> {
        Ok(self.meta::<RaftVote>(VOTE)?.as_ref().map(vote_in))
    }

    pub(super) fn put_vote(&self, batch: &mut WriteBatch, vote: &Vote) -> io::Result<()> {
        batch.put_cf(self.family(META)?, VOTE, vote_out(vote).encode_to_vec());
        Ok(())
    }

    /// The last log entry that was removed because a snapshot holds it.
    pub(super) fn purged(&self) -> io::Result<Option<LogId>> {
        Ok(self.meta::<RaftLogId>(PURGED)?.as_ref().map(log_id_in))
    }

    pub(super) fn put_purged(&self, batch: &mut WriteBatch, log_id: &LogId) -> io::Result<()> {
        batch.put_cf(
            self.family(META)?,
            PURGED,
            log_id_out(log_id).encode_to_vec(),
        );
        Ok(())
    }

    /// What the state is the result of.
    pub(super) fn applied(&self) -> io::Result<SnapshotMeta> {
        match self.meta::<RaftSnapshotHeader>(APPLIED)? {
            Some(header) => header_in(header),
            None => Ok(SnapshotMeta::default()),
        }
    }

    pub(super) fn put_applied(
        &self,
        batch: &mut WriteBatch,
        applied: &SnapshotMeta,
    ) -> io::Result<()> {
        batch.put_cf(
            self.family(META)?,
            APPLIED,
            header_out(applied).encode_to_vec(),
        );
        Ok(())
    }

    fn meta<M: Message + Default>(&self, key: &[u8]) -> io::Result<Option<M>> {
        let value = self
            .db()
            .get_pinned_cf(self.family(META)?, key)
            .map_err(|error| self.failed("read", error))?;
        value
            .map(|bytes| {
                M::decode(&*bytes).map_err(|error| {
                    malformed(format!("{}: {error}", String::from_utf8_lossy(key)))
                })
            })
            .transpose()
    }
}
