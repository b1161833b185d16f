//! A node is given no more tasks of a service than the service allows. Only new
//! ones count: lowering the limit stops nothing.

use std::collections::BTreeMap;

use skep_proto::objects::Identified;
use skep_proto::v1::TaskState;

use crate::state::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for service in world.services() {
        let task = service.spec.as_ref().and_then(|s| s.task.as_ref());
        let most = task
            .and_then(|t| t.placement.as_ref())
            .map_or(0, |p| p.max_replicas);
        if most == 0 {
            continue;
        }
        let mut tasks: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for task in world.tasks_of_service(service.id()).filter(|t| t.is_live()) {
            if task.node_id.is_empty() {
                continue;
            }
            let made_since = task.meta().created_at_ns >= service.meta().updated_at_ns;
            let (count, new) = tasks.entry(&task.node_id).or_default();
            *count += 1;
            *new |= made_since && task.state() == TaskState::Assigned;
        }
        for (node, (count, new)) in tasks {
            if new && count > most {
                wrong.push(format!(
                    "{} has {count} tasks on node {node}, at most {most} allowed",
                    service.name()
                ));
            }
        }
    }
    wrong
}
