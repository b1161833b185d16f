//! What a demotion would cost the Raft group. Only an edge can tell: who can be
//! reached is not in the world.

use std::collections::BTreeMap;

use skep_proto::v1::{Role, UpdateNode};
use skep_proto::{Error, Result};

use super::resolve;
use crate::identity::wanted_role;
use crate::state::World;

/// Refuses to make a worker of a manager whose vote the others need: with it
/// gone, fewer of them could be reached than have to agree. `voters`: each
/// one's id in the group, and whether it can be reached.
pub(super) fn check_demotion(
    world: &World,
    verb: &UpdateNode,
    voters: &BTreeMap<u64, bool>,
) -> Result<()> {
    // What else is wrong with the request, the verb itself says.
    let Ok(node) = resolve::node(world, &verb.node) else {
        return Ok(());
    };
    let to_worker = verb.spec.as_ref().is_some_and(|s| s.role() == Role::Worker);
    let Some(manager) = node
        .manager
        .as_ref()
        .filter(|m| voters.contains_key(&m.raft_id))
    else {
        return Ok(());
    };
    if !to_worker || wanted_role(node) == Role::Worker || voters.len() < 2 {
        return Ok(());
    }
    let others = voters.iter().filter(|(id, _)| **id != manager.raft_id);
    let reachable = others.filter(|(_, reachable)| **reachable).count();
    let quorum = (voters.len() - 1) / 2 + 1;
    if reachable >= quorum {
        return Ok(());
    }
    let name = resolve::node_name(node);
    Err(Error::precondition(format!(
        "can't remove member from the raft: this would result in a loss of quorum \
         (of the other {} managers {reachable} can be reached, {quorum} have to be)",
        voters.len() - 1
    ))
    .on(format!("node {name}"))
    .hint("bring the other managers back first, demote one that is down instead, or promote another node"))
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::write_request::Verb;
    use skep_proto::v1::{ManagerStatus, NodeSpec, SetManager};

    use super::*;
    use crate::control::verbs::tests::{NODE, Swarm};

    fn refused(voters: &[(u64, bool)], demoted: &str) -> bool {
        let mut swarm = Swarm::founded();
        swarm.join("n2", Role::Manager);
        swarm.join("n3", Role::Manager);
        swarm.join("n4", Role::Worker);
        for (raft_id, id) in [(1, NODE), (2, "n2"), (3, "n3")] {
            swarm.ok(Verb::SetManager(SetManager {
                node_id: id.to_owned(),
                manager: Some(ManagerStatus {
                    raft_id,
                    ..ManagerStatus::default()
                }),
            }));
        }
        let verb = UpdateNode {
            node: demoted.to_owned(),
            version: 1,
            spec: Some(NodeSpec::default()),
        };
        check_demotion(&swarm.world, &verb, &voters.iter().copied().collect()).is_err()
    }

    #[test]
    fn a_demotion_leaves_a_quorum_that_can_be_reached() {
        let (up, down) = (true, false);
        assert!(!refused(&[(1, up), (2, up), (3, up)], "n2"));
        assert!(
            !refused(&[(1, up), (2, down), (3, up)], "n2"),
            "the one that is down may go"
        );
        assert!(refused(&[(1, up), (2, down), (3, up)], "n3"));
        assert!(!refused(&[(1, up), (2, up)], "n2"));
        assert!(
            !refused(&[(1, up)], NODE),
            "the last one is the verb's to refuse"
        );
        assert!(
            !refused(&[(1, up), (2, down), (3, down)], "n4"),
            "a worker has no vote"
        );
        assert!(!refused(&[], "nobody"));
    }
}
