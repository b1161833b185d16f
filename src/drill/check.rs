//! Whether the leader may be ended at all.

use skep_proto::objects::Identified;
use skep_proto::v1::{Node, Reachability};
use skep_proto::{Error, Result};

/// Who is to be ended and who has to carry on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivors {
    /// The leader's node id.
    pub leader: String,
    /// Node ids of the other managers that can be reached.
    pub others: Vec<String>,
}

/// Finds the leader and the survivors, and refuses where ending it would leave
/// fewer managers than a quorum.
pub fn plan(nodes: &[Node]) -> Result<Survivors> {
    let managers: Vec<&Node> = nodes.iter().filter(|n| n.manager.is_some()).collect();
    let status = |node: &Node| node.manager.clone().unwrap_or_default();
    let leader = managers
        .iter()
        .find(|n| status(n).leader)
        .ok_or_else(|| Error::precondition("the swarm has no leader to end"))?;
    let others: Vec<String> = managers
        .iter()
        .filter(|n| n.id() != leader.id() && status(n).reachability() == Reachability::Reachable)
        .map(|n| n.id().to_owned())
        .collect();
    let quorum = managers.len() / 2 + 1;
    if others.len() < quorum {
        return Err(Error::precondition(format!(
            "ending the leader {} would leave {} of {} managers, and {quorum} are needed for a quorum",
            leader.hostname(),
            others.len(),
            managers.len(),
        ))
        .hint(match managers.len() {
            1 | 2 => "a swarm survives the loss of a manager from three on: \
                      skep swarm join-token manager, or skep node promote NODE"
                .to_owned(),
            _ => "bring the other managers back first: skep node ls shows which are unreachable"
                .to_owned(),
        }));
    }
    Ok(Survivors {
        leader: leader.id().to_owned(),
        others,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{ManagerStatus, Meta, NodeDescription};

    fn manager(name: &str, leader: bool, reachable: bool) -> Node {
        let reachability = if reachable {
            Reachability::Reachable
        } else {
            Reachability::Unreachable
        };
        Node {
            meta: Some(Meta {
                id: name.into(),
                ..Meta::default()
            }),
            description: Some(NodeDescription {
                hostname: name.into(),
                ..NodeDescription::default()
            }),
            manager: Some(ManagerStatus {
                leader,
                reachability: reachability.into(),
                ..ManagerStatus::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn three_managers_survive_the_leader() {
        let nodes = [
            manager("a", false, true),
            manager("b", true, true),
            manager("c", false, true),
            Node::default(),
        ];
        let plan = plan(&nodes).unwrap();
        assert_eq!(plan.leader, "b");
        assert_eq!(plan.others, ["a", "c"]);
    }

    #[test]
    fn a_quorum_is_never_drilled_away() {
        for nodes in [
            vec![manager("a", true, true)],
            vec![manager("a", true, true), manager("b", false, true)],
            vec![
                manager("a", true, true),
                manager("b", false, true),
                manager("c", false, false),
            ],
        ] {
            let error = plan(&nodes).unwrap_err();
            assert!(error.message.contains("quorum"), "{}", error.message);
            assert!(!error.hint.is_empty());
        }
    }
}
