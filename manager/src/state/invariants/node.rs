//! No task is meant to run on a node that does not exist, and none is assigned
//! without a node.

use skep_proto::objects::Identified;
use skep_proto::v1::TaskState;

use crate::state::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for task in world.tasks().filter(|t| !t.is_terminal()) {
        if !task.node_id.is_empty() && world.node(&task.node_id).is_none() {
            wrong.push(format!(
                "task {} is on node {}, which is gone",
                task.id(),
                task.node_id
            ));
        }
        if task.state() >= TaskState::Assigned && task.node_id.is_empty() {
            wrong.push(format!("task {} is assigned to no node", task.id()));
        }
    }
    wrong
}
