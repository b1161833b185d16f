//! Answers about a world: one object, a filtered list, what has just happened.
//!
//! Invariant: what leaves here has no secret in it, and looks the same whichever
//! manager was asked.

mod event;
mod filter;
mod list;

pub use event::{EventFilter, Happened, events, leader_events};
pub use list::{get, list};

use std::collections::BTreeMap;

use skep_proto::v1::{Node, Object, Reachability, object};

use super::redact;

/// What is seen by looking and not stored: filled into nodes that are managers.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The node that `self` means.
    pub self_node_id: String,
    /// The leader's id in the Raft group, if one is known.
    pub leader: Option<u64>,
    /// Members of the Raft group by id.
    pub reachability: BTreeMap<u64, Reachability>,
}

impl View {
    /// The object as a caller may see it.
    pub fn object(&self, object: impl Into<Object>) -> Object {
        let mut object = redact::object(object.into());
        if let Some(object::Object::Node(node)) = &mut object.object {
            self.node(node);
        }
        object
    }

    /// Fills in who leads and who can be reached.
    pub fn node(&self, node: &mut Node) {
        if let Some(manager) = &mut node.manager {
            manager.leader = self.leader == Some(manager.raft_id);
            let seen = self.reachability.get(&manager.raft_id).copied();
            manager.reachability = seen.unwrap_or_default().into();
        }
    }
}

#[cfg(test)]
mod tests;
