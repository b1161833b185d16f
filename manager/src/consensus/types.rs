//! What Raft is instantiated with.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::{Membership, StoredMembership};
use prost::Message;
use serde::{Deserialize, Serialize};
use skep_proto::v1::Transaction;
use skep_proto::{Code, Error, Result};

use crate::state::Applied;

/// Largest encoded transaction that is proposed, bytes. One entry cannot be
/// split, and a message holds about a MiB of entries plus one.
pub const PROPOSAL_BYTES_MAX: usize = 3 << 19;

/// A member's name in the Raft group. Drawn at random when a manager joins and
/// never used again.
pub type RaftId = u64;

openraft::declare_raft_types!(
    /// Skep's kind of Raft.
    pub TypeConfig:
        D = Proposal,
        R = Response,
        NodeId = RaftId,
        Node = Member,
);

/// The running Raft of one manager.
pub(super) type Raft = openraft::Raft<TypeConfig, super::store::Machine>;
pub(super) type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type Group = Membership<RaftId, Member>;
pub(super) type StoredGroup = StoredMembership<LeaderId, RaftId, Member>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Snapshot =
    openraft::type_config::alias::SnapshotOf<TypeConfig, super::store::SnapshotFile>;

/// Where a member of the group is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node's id, as in its certificate.
    pub node_id: String,
    /// `host:port` of its cluster listener.
    pub addr: String,
}

/// An encoded [`Transaction`]: encoded once by the proposer, decoded where it
/// is applied, and only carried in between.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Proposal(pub Bytes);

impl Proposal {
    /// Encodes a transaction, or refuses one that is too large.
    pub fn new(transaction: &Transaction) -> Result<Self> {
        let length = transaction.encoded_len();
        if length > PROPOSAL_BYTES_MAX {
            return Err(Error::new(
                Code::Exhausted,
                format!(
                    "the change is too large: {length} bytes, at most {PROPOSAL_BYTES_MAX} fit into one"
                ),
            )
            .hint("split the request, or make the specs in it smaller"));
        }
        Ok(Self(transaction.encode_to_vec().into()))
    }

    /// The transaction in it.
    pub fn transaction(&self) -> Result<Transaction, prost::DecodeError> {
        Transaction::decode(self.0.clone())
    }
}

impl From<Vec<u8>> for Proposal {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Proposal> for Vec<u8> {
    fn from(proposal: Proposal) -> Self {
        proposal.0.into()
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying an entry gave; nothing for entries without a transaction.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Response {
    /// Never leaves the process, so it is not written.
    #[serde(skip)]
    pub applied: Option<Arc<Applied>>,
}
