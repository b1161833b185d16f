//! Who may speak to the leader as a node.

use std::net::SocketAddr;

use skep_proto::objects::Identified;
use skep_proto::transport::{Caller, Peer, PeerRole};
use skep_proto::{Error, Result};

use crate::state::World;

/// The node that calls, and where from: it shows a worker's or a manager's
/// certificate of this cluster, and is still one of us.
pub fn authorize(world: &World, caller: &Caller) -> Result<(Peer, SocketAddr)> {
    let peer = caller.require(&[PeerRole::Worker, PeerRole::Manager])?;
    let Caller::Certified(_, remote) = caller else {
        return Err(Error::permission("this call needs a node's certificate"));
    };
    let cluster = world
        .cluster()
        .ok_or_else(|| Error::unavailable("this manager does not know its cluster yet"))?;
    if peer.cluster_id != cluster.id() {
        return Err(Error::permission(format!(
            "the certificate is of cluster {}, this is {}",
            peer.cluster_id,
            cluster.id()
        )));
    }
    if !is_member(world, &peer.node_id) {
        return Err(
            Error::permission(format!("node {} is not part of this swarm", peer.node_id))
                .on(format!("node {}", peer.node_id))
                .hint("skep swarm leave --force, then join again with a new token"),
        );
    }
    Ok((peer.clone(), *remote))
}

/// Whether the node exists and its certificates are not refused.
pub fn is_member(world: &World, node_id: &str) -> bool {
    world.node(node_id).is_some()
        && world.cluster().is_none_or(|c| {
            c.removed_nodes
                .iter()
                .all(|removed| removed.node_id != node_id)
        })
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{Kind, RemovedNode};

    use super::*;
    use crate::dispatch::testkit::{cluster, put, put_node, remove, world_of};

    fn certified(node_id: &str, cluster_id: &str, role: PeerRole) -> Caller {
        let peer = Peer {
            node_id: node_id.to_owned(),
            role,
            cluster_id: cluster_id.to_owned(),
            not_after_ns: i64::MAX,
        };
        Caller::Certified(peer, ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn only_nodes_of_this_swarm_may_speak() {
        let world = world_of([put(cluster()), put_node("n1")]);
        let code = |caller: &Caller| authorize(&world, caller).err().map(|e| e.code());
        use skep_proto::Code::Permission;
        assert_eq!(code(&certified("n1", "c1", PeerRole::Worker)), None);
        assert_eq!(code(&certified("n1", "c1", PeerRole::Manager)), None);
        assert_eq!(
            code(&certified("n1", "c1", PeerRole::Operator)),
            Some(Permission)
        );
        assert_eq!(
            code(&certified("n1", "c2", PeerRole::Worker)),
            Some(Permission)
        );
        assert_eq!(
            code(&certified("n2", "c1", PeerRole::Worker)),
            Some(Permission)
        );
        assert_eq!(code(&Caller::Local), Some(Permission));
    }

    #[test]
    fn a_removed_node_is_refused() {
        let mut with_removed = cluster();
        with_removed.removed_nodes.push(RemovedNode {
            node_id: "n1".to_owned(),
            until_ns: i64::MAX,
        });
        let world = world_of([put_node("n1"), put(with_removed)]);
        assert!(authorize(&world, &certified("n1", "c1", PeerRole::Worker)).is_err());
        let world = world_of([put(cluster()), put_node("n1"), remove(Kind::Node, "n1")]);
        assert!(authorize(&world, &certified("n1", "c1", PeerRole::Worker)).is_err());
    }
}
