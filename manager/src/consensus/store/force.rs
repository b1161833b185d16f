//! Making a group of one out of any survivor's disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::entry::RaftEntry as _;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use rocksdb::WriteBatch;

use super::Store;
use crate::consensus::types::{Entry, LeaderId, LogId, Member, RaftId, Vote};

impl Store {
    /// Appends, in a term above all known ones, the membership entry that
    /// leaves this manager alone in its group. It then elects itself and commits
    /// whatever its log holds. For a store that no Raft is running on.
    pub(in crate::consensus) fn force_alone(&self, me: RaftId, member: Member) -> io::Result<()> {
        let (last, vote) = (self.last_log_id()?, self.vote()?);
        if last.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "this disk holds no swarm: start without --force-new-cluster",
            ));
        }
        let term = last
            .map_or(0, |id| id.leader_id.term)
            .max(vote.map_or(0, |vote| vote.leader_id.term))
            + 1;
        let group = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, member)]))
            .map_err(io::Error::other)?;
        let at = LogId::new(LeaderId::new(term, me), last.map_or(0, |id| id.index + 1));
        let mut batch = WriteBatch::default();
        self.put_entry(&mut batch, &Entry::new(at, EntryPayload::Membership(group)))?;
        self.put_vote(&mut batch, &Vote::new(term, me))?;
        self.write(batch)?;
        self.flush()
    }
}
