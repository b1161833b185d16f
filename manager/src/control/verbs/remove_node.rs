//! Taking a node out of the swarm for good.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Kind, NodeSpec, NodeState, RemoveNode, RemovedNode, Role, Task, TaskPatch, TaskState,
    TaskStatus,
};
use skep_proto::{Error, Result};

use super::{Context, Execution, patch_task, put, remove as removal};
use crate::control::resolve;
use crate::identity::wanted_role;
use crate::state::{Nanos, cluster};

/// A removed node is refused for this much longer than its certificate lives:
/// clocks differ.
pub(super) const REFUSED_MARGIN_NS: Nanos = 7 * 24 * 3_600 * 1_000_000_000;

/// The node goes, its tasks become ORPHANED so that the engine replaces them,
/// and its certificate is refused for as long as it could be shown.
pub(super) fn remove(context: &Context<'_>, verb: &RemoveNode) -> Result<Execution> {
    let found = resolve::node(context.world, &verb.node)?;
    let (id, name) = (found.id(), resolve::node_name(found));
    if wanted_role(found) == Role::Manager {
        let wanted = found.spec.as_ref().map_or(Role::Worker, NodeSpec::role);
        let still = if wanted == Role::Worker {
            " (it is being demoted: try again in a moment)"
        } else {
            ""
        };
        return Err(Error::precondition(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. \
             It must be demoted to worker before removal{still}"
        ))
        .on(format!("node {name}"))
        .hint(format!("skep node demote {name}, then skep node rm {name}")));
    }
    if matches!(found.state(), NodeState::Ready | NodeState::Suspect) && !verb.force {
        return Err(Error::precondition(format!("node {id} is not down and can't be removed"))
            .on(format!("node {name}"))
            .hint(format!(
                "run `skep swarm leave` on it, or remove it although it lives: skep node rm --force {name}"
            )));
    }
    let mut changes = Vec::new();
    let tasks: Vec<&Arc<Task>> = context
        .world
        .tasks_on_node(id)
        .filter(|t| !t.is_terminal())
        .collect();
    changes.extend(tasks.into_iter().map(|task| orphan(context, task)));
    changes.push(removal(Kind::Node, id));
    if let Some(stored) = context.world.cluster() {
        let mut next = (**stored).clone();
        next.removed_nodes
            .retain(|r| r.until_ns > context.now && r.node_id != id);
        // The expiry of a certificate that was never reported has to be assumed.
        let expiry = match found.cert_not_after_ns {
            0 => context
                .now
                .saturating_add(cluster::node_cert_expiry_ns(stored)),
            known => known.max(context.now),
        };
        next.removed_nodes.push(RemovedNode {
            node_id: id.to_owned(),
            until_ns: expiry.saturating_add(REFUSED_MARGIN_NS),
        });
        changes.push(put(next));
    }
    Ok(context.acknowledge(id, changes, Vec::new()))
}

fn orphan(context: &Context<'_>, task: &Task) -> super::Change {
    let status = task.status.clone().unwrap_or_default();
    patch_task(TaskPatch {
        id: task.id().to_owned(),
        status: Some(TaskStatus {
            state: TaskState::Orphaned.into(),
            at_ns: context.now,
            applied_at_ns: context.now,
            message: "Task belonged to a node that has been deleted".to_owned(),
            ..status
        }),
        ..TaskPatch::default()
    })
}
