//! Who may speak to the leader as a node, and where it speaks from.

use std::net::SocketAddr;

use skep_proto::transport::{Caller, Peer, PeerRole};
use skep_proto::{Error, Result};

use super::assignment::manager_addr;
use crate::identity;
use crate::state::{World, cluster};

/// The node that calls, with a worker's or a manager's certificate of this
/// swarm, and the address that the swarm knows it by.
pub fn authorize(world: &World, caller: &Caller) -> Result<(Peer, String)> {
    let roles = [PeerRole::Worker, PeerRole::Manager];
    let peer = identity::authorize(world, caller, &roles)?;
    let Caller::Certified(_, remote) = caller else {
        return Err(Error::permission("this call needs a node's certificate"));
    };
    Ok((peer.clone(), addr(world, &peer.node_id, *remote)))
}

/// Where the connection comes from. The worker on the leader's own host may
/// come over loopback: then what the manager advertises.
fn addr(world: &World, node_id: &str, remote: SocketAddr) -> String {
    let ip = remote.ip().to_canonical();
    let advertised = world
        .node(node_id)
        .filter(|_| ip.is_loopback())
        .and_then(|node| manager_addr(node)?.parse::<SocketAddr>().ok())
        .map(|addr| addr.ip());
    advertised.unwrap_or(ip).to_string()
}

/// Whether the node exists and its certificates are not refused.
pub fn is_member(world: &World, node_id: &str) -> bool {
    world.node(node_id).is_some()
        && world
            .cluster()
            .is_none_or(|c| !cluster::is_removed(c, node_id))
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::ManagerStatus;

    use super::*;
    use crate::dispatch::testkit::{CLUSTER, cluster, node, put, remove_node, world_of};

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
        let mut world = world_of([put(cluster()), put(node("n1"))]);
        let worker = certified("n1", CLUSTER, PeerRole::Worker);
        assert!(authorize(&world, &worker).is_ok());
        assert!(authorize(&world, &certified("n1", CLUSTER, PeerRole::Operator)).is_err());
        assert!(authorize(&world, &certified("n1", "c2", PeerRole::Worker)).is_err());
        assert!(authorize(&world, &certified("n2", CLUSTER, PeerRole::Worker)).is_err());
        assert!(authorize(&world, &Caller::Local).is_err());
        assert!(is_member(&world, "n1"));
        crate::dispatch::testkit::apply(&mut world, remove_node("n1"));
        assert!(authorize(&world, &worker).is_err());
        assert!(!is_member(&world, "n1"));
    }

    #[test]
    fn a_manager_on_the_leaders_host_goes_by_what_it_advertises() {
        let mut manager = node("n1");
        manager.manager = Some(ManagerStatus {
            addr: "10.0.0.1:2377".to_owned(),
            ..ManagerStatus::default()
        });
        let world = world_of([put(cluster()), put(manager), put(node("n2"))]);
        let loopback: SocketAddr = ([127, 0, 0, 1], 1).into();
        assert_eq!(addr(&world, "n1", loopback), "10.0.0.1");
        assert_eq!(addr(&world, "n2", loopback), "127.0.0.1");
        assert_eq!(addr(&world, "n1", ([10, 0, 0, 9], 1).into()), "10.0.0.9");
    }
}
