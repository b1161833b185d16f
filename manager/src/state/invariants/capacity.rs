//! What is reserved on a node that takes tasks is not more than the node has.

use skep_proto::objects::Identified;
use skep_proto::v1::{Availability, NodeState};

use crate::state::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in world.nodes() {
        if node.state() != NodeState::Ready || node.availability() != Availability::Active {
            continue;
        }
        let (mut cpus, mut memory) = (0i64, 0i64);
        let live = world.tasks_on_node(node.id()).filter(|t| t.is_live());
        for task in live {
            cpus = cpus.saturating_add(task.reserved().nano_cpus);
            memory = memory.saturating_add(task.reserved().memory_bytes);
        }
        let has = node.capacity();
        if cpus > has.nano_cpus {
            wrong.push(format!(
                "node {}: {cpus} of {} nano CPUs reserved",
                node.id(),
                has.nano_cpus
            ));
        }
        if memory > has.memory_bytes {
            wrong.push(format!(
                "node {}: {memory} of {} bytes of memory reserved",
                node.id(),
                has.memory_bytes
            ));
        }
    }
    wrong
}
