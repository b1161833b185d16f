//! Why a worker's connection ends, and how it is told.

use skep_proto::Error;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::seam::Leadership;

/// Metadata of a refusal: `host:port` of the manager to turn to.
pub const LEADER_METADATA: &str = "skep-leader";

/// Why a connection of a worker ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// This manager does not lead, or no longer does, or is shutting down.
    NotLeader,
    /// The node began another session.
    Replaced,
    /// The node was removed from the swarm.
    Removed,
    /// Nothing was heard of it for longer than the grace.
    Silent,
    /// It does not take what it is sent.
    Slow,
    /// It said that it leaves.
    Left,
    /// It ended the connection, or the connection broke.
    Gone,
    /// What it said cannot be taken.
    Refused(Error),
}

impl Ending {
    /// What the worker is told. `None`: there is nobody to tell.
    pub fn status(&self, leadership: &Leadership) -> Option<Status> {
        let error = match self {
            Self::NotLeader => return Some(not_leader(leadership)),
            Self::Gone | Self::Left => return None,
            Self::Replaced => {
                return Some(Status::aborted("this node began another session"));
            }
            Self::Removed => Error::permission("this node was removed from the swarm")
                .hint("skep swarm leave --force, then join again with a new token"),
            Self::Silent => Error::unavailable(
                "nothing was heard of this node for longer than the grace: begin a new session",
            ),
            Self::Slow => Error::unavailable("this session does not take what it is sent"),
            Self::Refused(error) => error.clone(),
        };
        Some(error.into())
    }
}

/// UNAVAILABLE, with the leader to turn to if one is known.
pub fn not_leader(leadership: &Leadership) -> Status {
    let leader = leadership.leader.as_ref().filter(|_| !leadership.is_self);
    let error = match leader {
        Some(leader) => {
            Error::unavailable(format!("this manager does not lead; {} does", leader.addr))
        }
        None => Error::unavailable("no manager is known to lead at the moment"),
    };
    let mut status = Status::from(error);
    if let Some(leader) = leader
        && let Ok(addr) = MetadataValue::try_from(leader.addr.as_str())
    {
        status.metadata_mut().insert(LEADER_METADATA, addr);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Leader;

    #[test]
    fn a_refusal_names_the_leader() {
        let leadership = Leadership {
            leader: Some(Leader {
                addr: "10.0.0.1:2377".to_owned(),
                ..Leader::default()
            }),
            ..Leadership::default()
        };
        let status = not_leader(&leadership);
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(
            status.metadata().get(LEADER_METADATA).unwrap(),
            "10.0.0.1:2377"
        );
        assert!(not_leader(&Leadership::default()).metadata().is_empty());
    }
}
