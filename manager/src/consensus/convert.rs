//! Between openraft's types and the ones on the wire and on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::entry::RaftEntry as _;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use skep_proto::v1::{
    RaftAppend, RaftAppended, RaftEntry, RaftLogId, RaftMatched, RaftMember, RaftMembership,
    RaftSnapshotHeader, RaftVote, RaftVoters, raft_appended, raft_entry,
};

use super::types::{
    Entry, Group, LeaderId, LogId, Member, Proposal, RaftId, SnapshotMeta, StoredGroup, TypeConfig,
    Vote,
};

/// What an append was answered with.
pub(super) type AppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

pub(super) fn log_id_out(id: &LogId) -> RaftLogId {
    RaftLogId {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn log_id_in(id: &RaftLogId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.leader), id.index)
}

pub(super) fn vote_out(vote: &Vote) -> RaftVote {
    RaftVote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(super) fn vote_in(vote: &RaftVote) -> Vote {
    Vote {
        leader_id: LeaderId::new(vote.term, vote.node),
        committed: vote.committed,
    }
}

pub(super) fn group_out(group: &Group) -> RaftMembership {
    RaftMembership {
        voters: group
            .get_joint_config()
            .iter()
            .map(|voters| RaftVoters {
                raft_ids: voters.iter().copied().collect(),
            })
            .collect(),
        members: group
            .nodes()
            .map(|(raft_id, member)| RaftMember {
                raft_id: *raft_id,
                node_id: member.node_id.clone(),
                addr: member.addr.clone(),
            })
            .collect(),
    }
}

pub(super) fn group_in(group: RaftMembership) -> io::Result<Group> {
    let voters: Vec<BTreeSet<RaftId>> = group
        .voters
        .into_iter()
        .map(|voters| voters.raft_ids.into_iter().collect())
        .collect();
    let members: BTreeMap<RaftId, Member> = group
        .members
        .into_iter()
        .map(|member| {
            let RaftMember {
                raft_id,
                node_id,
                addr,
            } = member;
            (raft_id, Member { node_id, addr })
        })
        .collect();
    if voters.is_empty() && members.is_empty() {
        return Ok(Group::default());
    }
    Membership::new(voters, members).map_err(|error| malformed(format!("membership: {error}")))
}

pub(super) fn entry_out(entry: &Entry) -> RaftEntry {
    RaftEntry {
        log_id: Some(log_id_out(&entry.log_id)),
        payload: match &entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(proposal) => {
                Some(raft_entry::Payload::Transaction(proposal.0.clone()))
            }
            EntryPayload::Membership(group) => {
                Some(raft_entry::Payload::Membership(group_out(group)))
            }
        },
    }
}

pub(super) fn entry_in(entry: RaftEntry) -> io::Result<Entry> {
    let log_id = entry
        .log_id
        .as_ref()
        .map(log_id_in)
        .ok_or_else(|| malformed("a log entry without its place in the log"))?;
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(raft_entry::Payload::Transaction(bytes)) => EntryPayload::Normal(Proposal(bytes)),
        Some(raft_entry::Payload::Membership(group)) => EntryPayload::Membership(group_in(group)?),
    };
    Ok(Entry::new(log_id, payload))
}

pub(super) fn append_out(to: RaftId, request: &AppendEntriesRequest<TypeConfig>) -> RaftAppend {
    RaftAppend {
        to,
        vote: Some(vote_out(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_out),
        entries: request.entries.iter().map(entry_out).collect(),
        commit: request.leader_commit.as_ref().map(log_id_out),
    }
}

pub(super) fn append_in(request: RaftAppend) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    Ok(AppendEntriesRequest {
        vote: required_vote(request.vote.as_ref())?,
        prev_log_id: request.prev.as_ref().map(log_id_in),
        entries: request
            .entries
            .into_iter()
            .map(entry_in)
            .collect::<io::Result<_>>()?,
        leader_commit: request.commit.as_ref().map(log_id_in),
    })
}

pub(super) fn appended_out(result: &AppendResult) -> RaftAppended {
    let result = match result {
        Ok(log_id) => raft_appended::Result::Matched(RaftMatched {
            log_id: log_id.as_ref().map(log_id_out),
        }),
        Err(StreamAppendError::Conflict(log_id)) => {
            raft_appended::Result::Conflict(log_id_out(log_id))
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            raft_appended::Result::HigherVote(vote_out(vote))
        }
    };
    RaftAppended {
        result: Some(result),
    }
}

pub(super) fn appended_in(answer: &RaftAppended) -> io::Result<AppendResult> {
    match &answer.result {
        Some(raft_appended::Result::Matched(matched)) => {
            Ok(Ok(matched.log_id.as_ref().map(log_id_in)))
        }
        Some(raft_appended::Result::Conflict(log_id)) => {
            Ok(Err(StreamAppendError::Conflict(log_id_in(log_id))))
        }
        Some(raft_appended::Result::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote_in(vote))))
        }
        None => Err(malformed("an append's answer that says nothing")),
    }
}

pub(super) fn header_out(meta: &SnapshotMeta) -> RaftSnapshotHeader {
    RaftSnapshotHeader {
        last: meta.last_log_id.as_ref().map(log_id_out),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id_out),
        membership: Some(group_out(meta.last_membership.membership())),
    }
}

pub(super) fn header_in(header: RaftSnapshotHeader) -> io::Result<SnapshotMeta> {
    let group = group_in(header.membership.unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: header.last.as_ref().map(log_id_in),
        last_membership: StoredGroup::new(header.membership_at.as_ref().map(log_id_in), group),
    })
}

pub(super) fn required_vote(vote: Option<&RaftVote>) -> io::Result<Vote> {
    vote.map(vote_in)
        .ok_or_else(|| malformed("a message without a vote"))
}

pub(super) fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_survives_the_disk() {
        let group = Membership::new(
            vec![BTreeSet::from([1, 2])],
            BTreeMap::from([
                (
                    1,
                    Member {
                        node_id: "a".into(),
                        addr: "10.0.0.1:2377".into(),
                    },
                ),
                (2, Member::default()),
                (3, Member::default()),
            ]),
        )
        .unwrap();
        let at = LogId::new(LeaderId::new(3, 9), 17);
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal(vec![1, 2, 3].into())),
            EntryPayload::Membership(group),
        ] {
            let entry = Entry::new(at, payload);
            assert_eq!(entry_in(entry_out(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_without_a_place_is_refused() {
        let error = entry_in(RaftEntry::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
