//! The one check of a caller: its certificate says who it is, the World says
//! whether it still is one of us. Connections outlive certificates, removals and
//! demotions, so this is asked at every call, not at every connection.

use skep_proto::objects::Identified;
use skep_proto::transport::{Caller, Peer, PeerRole};
use skep_proto::v1::{Cluster, Node, Role};
use skep_proto::{Error, Result};

use super::{now_ns, trust_digest};
use crate::state::World;

/// The caller, if it is a node of this swarm (or an operator) in one of `roles`
/// now. A manager that has been demoted counts as the worker that it is, whatever
/// its old certificate says. A node that this manager has not heard of *yet* gets
/// an error that may be retried.
pub fn authorize<'a>(world: &World, caller: &'a Caller, roles: &[PeerRole]) -> Result<&'a Peer> {
    let peer = certified(caller)?;
    let Some(cluster) = world.cluster() else {
        return Err(Error::unavailable("this manager has not caught up yet")
            .hint("ask another manager, or again in a moment"));
    };
    known(cluster, peer)?;
    let role = match peer.role {
        PeerRole::Operator => {
            if peer.not_after_ns <= now_ns() {
                return Err(expired(peer));
            }
            PeerRole::Operator
        }
        PeerRole::Worker | PeerRole::Manager => {
            let node = world.node(&peer.node_id).ok_or_else(|| {
                Error::unavailable(format!("node {} is not known here yet", peer.node_id))
                    .on(format!("node {}", peer.node_id))
                    .hint("ask another manager, or again in a moment")
            })?;
            // An open connection shows the certificate that it began with: what
            // counts is the newest that its node was given.
            if peer.not_after_ns.max(node.cert_not_after_ns) <= now_ns() {
                return Err(expired(peer));
            }
            if wanted_role(node) == Role::Worker {
                PeerRole::Worker
            } else {
                peer.role
            }
        }
    };
    if roles.contains(&role) {
        return Ok(peer);
    }
    let refusal = if role == peer.role {
        format!("a {} certificate does not allow this call", role.unit())
    } else {
        format!("node {} is no longer a manager", peer.node_id)
    };
    Err(Error::permission(refusal).on(format!("node {}", peer.node_id)))
}

/// The check for Raft's own calls. They bring the World of a manager that is
/// behind up to date, so its World must not be what refuses them: only what can
/// never become right again is refused, a foreign or a removed caller. Who may
/// vote and lead, Raft knows by itself.
pub fn authorize_member<'a>(world: &World, caller: &'a Caller) -> Result<&'a Peer> {
    let peer = caller.require(&[PeerRole::Manager])?;
    if let Some(cluster) = world.cluster() {
        known(cluster, peer)?;
    }
    Ok(peer)
}

/// The check for what operators do: anybody who may open the local socket, an
/// operator's certificate, or a manager that passes an operator's call on.
pub fn authorize_operator(world: &World, caller: &Caller) -> Result<()> {
    match caller {
        Caller::Local => Ok(()),
        _ => authorize(world, caller, &[PeerRole::Operator, PeerRole::Manager]).map(|_| ()),
    }
}

fn certified(caller: &Caller) -> Result<&Peer> {
    caller.require(&[PeerRole::Manager, PeerRole::Worker, PeerRole::Operator])
}

fn known(cluster: &Cluster, peer: &Peer) -> Result<()> {
    if peer.cluster_id != cluster.id() {
        return Err(Error::permission(format!(
            "the certificate of {} is of another swarm ({})",
            peer.node_id, peer.cluster_id
        )));
    }
    if cluster
        .removed_nodes
        .iter()
        .any(|removed| removed.node_id == peer.node_id)
    {
        return Err(
            Error::permission(format!("node {} was removed from the swarm", peer.node_id))
                .on(format!("node {}", peer.node_id))
                .hint("on that host, skep swarm leave --force, then join again with a new token"),
        );
    }
    Ok(())
}

fn expired(peer: &Peer) -> Error {
    let error = Error::permission(format!("the certificate of {} has expired", peer.node_id));
    if peer.role == PeerRole::Operator {
        return error.hint("a manager's host can issue a new one");
    }
    error.hint("on that host, skep swarm leave --force, then join again")
}

/// The role that a certificate for `node` gets now. A manager that is to become
/// a worker stays a manager until it has left the Raft group, or it could not.
pub fn wanted_role(node: &Node) -> Role {
    let spec = node.spec.as_ref().map_or(Role::Worker, |spec| spec.role());
    if node.manager.is_some() {
        Role::Manager
    } else {
        spec
    }
}

/// Whether `node` should renew its certificate now, and for which role: the
/// swarm wants it to be another than it is, or it does not trust just the roots
/// that it should. This is when a worker's session sends a notice.
pub fn needs_renewal(cluster: &Cluster, node: &Node) -> Option<Role> {
    let wanted = wanted_role(node);
    (node.role() != wanted || node.cert_trust != trust_digest(cluster)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{Availability, ManagerStatus, Meta, NodeSpec, Object, RemovedNode};

    use super::*;

    const ALL: [PeerRole; 3] = [PeerRole::Manager, PeerRole::Worker, PeerRole::Operator];

    fn caller(id: &str, role: PeerRole) -> Caller {
        Caller::Certified(
            Peer {
                node_id: id.to_owned(),
                role,
                cluster_id: "c1".to_owned(),
                not_after_ns: now_ns() + 1_000_000_000_000,
            },
            "127.0.0.1:1".parse().unwrap(),
        )
    }

    fn node(id: &str, role: Role) -> Node {
        Node {
            meta: Some(Meta {
                id: id.to_owned(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                role: role.into(),
                availability: Availability::Active.into(),
                ..NodeSpec::default()
            }),
            ..Node::default()
        }
    }

    fn world(nodes: Vec<Node>, removed: &[&str]) -> World {
        let cluster = Cluster {
            meta: Some(Meta {
                id: "c1".to_owned(),
                ..Meta::default()
            }),
            removed_nodes: removed
                .iter()
                .map(|id| RemovedNode {
                    node_id: (*id).to_owned(),
                    until_ns: i64::MAX,
                })
                .collect(),
            ..Cluster::default()
        };
        let mut world = World::default();
        let objects =
            std::iter::once(Object::from(cluster)).chain(nodes.into_iter().map(Into::into));
        for object in objects {
            world.load(skep_proto::v1::Record {
                record: Some(skep_proto::v1::record::Record::Object(object)),
            });
        }
        world
    }

    fn code(result: Result<&Peer>) -> skep_proto::Code {
        result.unwrap_err().code()
    }

    #[test]
    fn a_node_is_let_in_with_its_role_and_no_other() {
        let world = world(vec![node("w", Role::Worker), node("m", Role::Manager)], &[]);
        let worker = caller("w", PeerRole::Worker);
        assert_eq!(
            authorize(&world, &worker, &[PeerRole::Worker])
                .unwrap()
                .node_id,
            "w"
        );
        let refused = authorize(&world, &worker, &[PeerRole::Manager]);
        assert_eq!(code(refused), skep_proto::Code::Permission);
        assert!(
            authorize(
                &world,
                &caller("m", PeerRole::Manager),
                &[PeerRole::Manager]
            )
            .is_ok()
        );
    }

    #[test]
    fn a_removed_node_is_refused_everywhere() {
        let world = world(vec![], &["gone"]);
        let gone = caller("gone", PeerRole::Manager);
        assert_eq!(
            code(authorize(&world, &gone, &ALL)),
            skep_proto::Code::Permission
        );
        assert_eq!(
            code(authorize_member(&world, &gone)),
            skep_proto::Code::Permission
        );
    }

    #[test]
    fn a_node_not_yet_known_may_come_again() {
        let unknown = caller("new", PeerRole::Worker);
        let refused = authorize(&world(vec![], &[]), &unknown, &ALL).unwrap_err();
        assert!(refused.is_retryable());
        let behind = authorize(&World::default(), &unknown, &ALL).unwrap_err();
        assert!(behind.is_retryable());
    }

    #[test]
    fn raft_is_let_in_by_a_manager_that_is_behind() {
        let leader = caller("new", PeerRole::Manager);
        assert!(authorize_member(&World::default(), &leader).is_ok());
        let behind = world(vec![node("new", Role::Worker)], &[]);
        assert!(authorize_member(&behind, &leader).is_ok());
        assert!(authorize_member(&behind, &caller("w", PeerRole::Worker)).is_err());
    }

    #[test]
    fn a_demoted_manager_is_a_worker_once_it_left_the_raft_group() {
        let mut demoted = node("m", Role::Worker);
        demoted.manager = Some(ManagerStatus::default());
        let old = caller("m", PeerRole::Manager);
        let only = [PeerRole::Manager];
        assert!(authorize(&world(vec![demoted.clone()], &[]), &old, &only).is_ok());
        demoted.manager = None;
        let world = world(vec![demoted], &[]);
        let refused = authorize(&world, &old, &only).unwrap_err();
        assert!(refused.message.contains("no longer a manager"), "{refused}");
        assert!(authorize(&world, &old, &[PeerRole::Worker]).is_ok());
    }

    #[test]
    fn another_swarm_an_expired_and_an_uncertified_caller_are_refused() {
        let world = world(vec![node("w", Role::Worker)], &[]);
        for change in [
            (|peer: &mut Peer| peer.cluster_id = "c2".to_owned()) as fn(&mut Peer),
            |peer| peer.not_after_ns = 1,
        ] {
            let Caller::Certified(mut peer, at) = caller("w", PeerRole::Worker) else {
                unreachable!()
            };
            change(&mut peer);
            let refused = Caller::Certified(peer, at);
            assert_eq!(
                code(authorize(&world, &refused, &ALL)),
                skep_proto::Code::Permission
            );
        }
        let nobody = Caller::Unknown("127.0.0.1:1".parse().unwrap());
        assert!(authorize(&world, &nobody, &ALL).is_err());
        assert!(authorize_operator(&world, &nobody).is_err());
        assert!(authorize_operator(&world, &Caller::Local).is_ok());
        assert!(authorize_operator(&world, &caller("w", PeerRole::Worker)).is_err());
        assert!(authorize_operator(&world, &caller("ann", PeerRole::Operator)).is_ok());
    }

    #[test]
    fn an_open_connection_lives_on_with_its_nodes_newer_certificate() {
        let mut renewed = node("w", Role::Worker);
        renewed.cert_not_after_ns = now_ns() + 1_000_000_000_000;
        let Caller::Certified(mut peer, at) = caller("w", PeerRole::Worker) else {
            unreachable!()
        };
        peer.not_after_ns = 1;
        let old = Caller::Certified(peer, at);
        assert!(authorize(&world(vec![renewed], &[]), &old, &[PeerRole::Worker]).is_ok());
    }

    #[test]
    fn a_node_renews_for_another_role_or_other_roots() {
        let cluster = Cluster::default();
        let mut node = node("w", Role::Worker);
        node.cert_trust = trust_digest(&cluster);
        assert_eq!(needs_renewal(&cluster, &node), None);
        node.spec.as_mut().unwrap().role = Role::Manager.into();
        assert_eq!(needs_renewal(&cluster, &node), Some(Role::Manager));
        node.role = Role::Manager.into();
        assert_eq!(needs_renewal(&cluster, &node), None);
        node.cert_trust = "other".to_owned();
        assert_eq!(needs_renewal(&cluster, &node), Some(Role::Manager));
    }
}
