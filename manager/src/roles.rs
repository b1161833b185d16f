//! Keeps the Raft group as the World says it should be, on the leader: a node
//! that said where its manager is enters the group, one that is to be a worker
//! leaves it, one that is gone is removed.
//!
//! Level-triggered: it compares and repairs, whatever it may have missed. A
//! crash in the middle of a join or a demotion is finished by the next leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_proto::Result;
use skep_proto::objects::Identified;
use skep_proto::v1::{ManagerStatus, Node, Role, SetManager, WriteRequest, write_request::Verb};
use tokio_util::sync::CancellationToken;

use crate::consensus::{Consensus, Member, MemberStatus, RaftId};
use crate::seam::{Follow, Write};
use crate::state::World;

/// Between two looks when nothing is heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// One repair may take this long.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be done to the group or its picture.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Repair {
    /// Another manager is to lead: the leader itself is to leave.
    HandOver,
    /// A manager is to be in the group.
    Add(RaftId, Member),
    /// A member is no longer to be one.
    Remove(RaftId),
    /// A node is, or is no longer, shown as a manager.
    Show(String, Option<ManagerStatus>),
}

/// Repairs for as long as this manager leads; ends with `shutdown`.
pub(crate) async fn follow(
    consensus: Consensus,
    write: Arc<dyn Write>,
    shutdown: CancellationToken,
) {
    let mut applied = consensus.applied();
    let mut leadership = consensus.leadership();
    loop {
        if leadership.borrow_and_update().is_self {
            let group = consensus.members();
            for repair in repairs(&consensus.world(), &group, consensus.raft_id()) {
                if let Err(error) = act(&consensus, &*write, &repair).await {
                    tracing::warn!(%error, ?repair, "the Raft group is not yet as it should be");
                }
            }
        }
        // Only a change of a node is of interest; a look costs little.
        let looked = Instant::now();
        loop {
            let left = LOOK_INTERVAL.saturating_sub(looked.elapsed());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(left) => break,
                changed = leadership.changed() => if changed.is_err() { return } else { break },
                applied = applied.recv() => match applied {
                    Ok(applied) => {
                        let nodes = |c: &crate::state::Changed| {
                            matches!(c, crate::state::Changed::Node(..))
                        };
                        if applied.changed.iter().any(nodes) { break }
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

/// What differs between what should be, what is, and what is shown.
fn repairs(world: &World, group: &[MemberStatus], own_raft_id: RaftId) -> Vec<Repair> {
    if world.cluster().is_none() {
        return Vec::new();
    }
    let mut repairs = Vec::new();
    let mut hand_over = false;
    for member in group {
        let node = world.node(&member.node_id).filter(|n| is_wanted(n));
        match node.map(|n| n.manager.as_ref()) {
            Some(Some(shown)) if shown.raft_id == member.raft_id => {}
            Some(None) => repairs.push(Repair::Show(
                member.node_id.clone(),
                Some(ManagerStatus {
                    raft_id: member.raft_id,
                    addr: member.addr.clone(),
                    ..ManagerStatus::default()
                }),
            )),
            // Gone, demoted, or in the group under a name that it has given up.
            None | Some(Some(_)) if member.raft_id == own_raft_id => hand_over = true,
            None | Some(Some(_)) => repairs.push(Repair::Remove(member.raft_id)),
        }
    }
    for node in world.nodes() {
        let Some(shown) = &node.manager else { continue };
        let entered = |m: &MemberStatus| m.raft_id == shown.raft_id && m.voter;
        if is_wanted(node) && node.role() == Role::Manager {
            if !group.iter().any(entered) {
                let member = Member {
                    node_id: node.id().to_owned(),
                    addr: shown.addr.clone(),
                };
                repairs.push(Repair::Add(shown.raft_id, member));
            }
        } else if !is_wanted(node) && !group.iter().any(|m| m.node_id == node.id()) {
            // Shown as a manager until the group has let it go: its certificate
            // becomes a worker's only then.
            repairs.push(Repair::Show(node.id().to_owned(), None));
        }
    }
    // Last: what comes after it is the next leader's to do.
    if hand_over {
        repairs.push(Repair::HandOver);
    }
    repairs
}

fn is_wanted(node: &Node) -> bool {
    node.spec
        .as_ref()
        .is_some_and(|spec| spec.role() == Role::Manager)
}

async fn act(consensus: &Consensus, write: &dyn Write, repair: &Repair) -> Result<()> {
    let deadline = Instant::now() + REPAIR_TIMEOUT;
    match repair {
        Repair::HandOver => consensus.transfer_away(deadline).await,
        Repair::Add(raft_id, member) => {
            consensus
                .add_member(*raft_id, member.clone(), deadline)
                .await
        }
        Repair::Remove(raft_id) => consensus.remove_member(*raft_id, deadline).await,
        Repair::Show(node_id, manager) => {
            let request = WriteRequest {
                verb: Some(Verb::SetManager(SetManager {
                    node_id: node_id.clone(),
                    manager: manager.clone(),
                })),
                ..WriteRequest::default()
            };
            write.write(request, deadline).await.map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{Change, Cluster, Meta, NodeSpec, Object, Transaction, change};

    fn node(id: &str, role: Role, raft_id: Option<u64>) -> Node {
        Node {
            meta: Some(Meta {
                id: id.into(),
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                role: role.into(),
                ..NodeSpec::default()
            }),
            role: Role::Manager.into(),
            manager: raft_id.map(|raft_id| ManagerStatus {
                raft_id,
                addr: format!("{id}:1"),
                ..ManagerStatus::default()
            }),
            ..Node::default()
        }
    }

    fn world(nodes: Vec<Node>) -> World {
        let cluster = Cluster {
            meta: Some(Meta {
                id: "c".into(),
                ..Meta::default()
            }),
            ..Cluster::default()
        };
        let mut objects = vec![Object::from(cluster)];
        objects.extend(nodes.into_iter().map(Object::from));
        let mut world = World::default();
        world.apply(&Transaction {
            at_ns: 1,
            changes: objects
                .into_iter()
                .map(|o| Change {
                    change: Some(change::Change::Put(o)),
                })
                .collect(),
            outcomes: Vec::new(),
        });
        world
    }

    fn member(id: &str, raft_id: u64) -> MemberStatus {
        MemberStatus {
            raft_id,
            node_id: id.into(),
            addr: format!("{id}:1"),
            voter: true,
            leader: false,
            reachable: true,
            lag: None,
        }
    }

    #[test]
    fn a_group_that_is_as_it_should_be_is_left_alone() {
        let world = world(vec![
            node("a", Role::Manager, Some(1)),
            node("b", Role::Worker, None),
        ]);
        assert_eq!(repairs(&world, &[member("a", 1)], 1), []);
    }

    #[test]
    fn a_demoted_manager_leaves_the_group_before_it_is_shown_as_a_worker() {
        let world = world(vec![
            node("a", Role::Manager, Some(1)),
            node("b", Role::Worker, Some(2)),
        ]);
        let both = [member("a", 1), member("b", 2)];
        assert_eq!(repairs(&world, &both, 1), [Repair::Remove(2)]);
        assert_eq!(repairs(&world, &both, 2), [Repair::HandOver]);
        assert_eq!(
            repairs(&world, &[member("a", 1)], 1),
            [Repair::Show("b".into(), None)]
        );
    }

    #[test]
    fn a_removed_node_leaves_the_group() {
        let world = world(vec![node("a", Role::Manager, Some(1))]);
        let both = [member("a", 1), member("gone", 2)];
        assert_eq!(repairs(&world, &both, 1), [Repair::Remove(2)]);
    }

    #[test]
    fn a_manager_that_says_where_it_is_enters_the_group() {
        let world = world(vec![
            node("a", Role::Manager, Some(1)),
            node("b", Role::Manager, Some(2)),
            node("c", Role::Manager, None),
        ]);
        let there = Member {
            node_id: "b".into(),
            addr: "b:1".into(),
        };
        assert_eq!(
            repairs(&world, &[member("a", 1)], 1),
            [Repair::Add(2, there)]
        );
    }

    #[test]
    fn a_name_that_a_node_gave_up_is_removed_from_the_group() {
        let world = world(vec![
            node("a", Role::Manager, Some(1)),
            node("b", Role::Manager, Some(3)),
        ]);
        let repairs = repairs(&world, &[member("a", 1), member("b", 2)], 1);
        assert_eq!(repairs.first(), Some(&Repair::Remove(2)));
        assert!(matches!(repairs.get(1), Some(Repair::Add(3, _))));
    }
}
