//! What a worker is told about a task: the record and its service's template,
//! put together. Which changes of the world are worth telling.

use skep_proto::objects::Identified;
use skep_proto::v1::{Assignment, ManagerPeer, Managers, Node, Service, Task};

use crate::state::World;

/// What the node of `task` has to know, as of `world`. Of a service that was
/// removed meanwhile only what the record itself says: enough to stop the task.
pub fn assignment(world: &World, task: &Task) -> Assignment {
    let service = world.service(&task.service_id);
    let template = service.and_then(|s| s.template(task.template_version));
    Assignment {
        task_id: task.id().to_owned(),
        // Only compared, and only with what the same task was given before.
        generation: world.version(),
        desired: task.desired,
        service_id: task.service_id.clone(),
        service_name: service.map_or_else(|| task.service_name.clone(), |s| s.name().to_owned()),
        slot: task.slot,
        node_id: task.node_id.clone(),
        service_labels: service
            .and_then(|s| s.spec.as_ref())
            .map(|s| s.labels.clone())
            .unwrap_or_default(),
        spec: template.and_then(|t| t.task.clone()),
        endpoint: template.and_then(|t| t.endpoint.clone()),
    }
}

/// Every assignment of a node, in order of task ids.
pub fn assignments_of(world: &World, node_id: &str) -> Vec<Assignment> {
    world
        .tasks_on_node(node_id)
        .filter(|task| task.is_placed())
        .map(|task| assignment(world, task))
        .collect()
}

/// Whether the node has to be told of this change of a task that stays on it.
/// Its own reports are not echoed.
pub fn concerns_node(before: &Task, after: &Task) -> bool {
    before.desired != after.desired
        || before.template_version != after.template_version
        || before.service_id != after.service_id
        || before.slot != after.slot
}

/// Template versions of a service whose content changed in place: new registry
/// credentials, mostly, which restart nothing but may help a pull under way.
pub fn changed_templates(before: &Service, after: &Service) -> Vec<u64> {
    after
        .templates
        .iter()
        .filter(|new| {
            before
                .template(new.version)
                .is_some_and(|old| old.task != new.task || old.endpoint != new.endpoint)
        })
        .map(|t| t.version)
        .collect()
}

/// The managers that a worker may turn to, in order of node ids.
pub fn managers(world: &World) -> Managers {
    let managers = world.nodes().filter_map(|node| {
        let addr = manager_addr(node)?;
        Some(ManagerPeer {
            node_id: node.id().to_owned(),
            addr: addr.to_owned(),
        })
    });
    Managers {
        managers: managers.collect(),
    }
}

/// `host:port` of a node's cluster listener, if it is a manager with a known one.
pub fn manager_addr(node: &Node) -> Option<&str> {
    node.manager
        .as_ref()
        .map(|m| m.addr.as_str())
        .filter(|addr| !addr.is_empty())
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{TaskState, TaskStatus};

    use super::*;
    use crate::dispatch::testkit::{put_service, put_task, remove, world_of};
    use skep_proto::v1::Kind;

    #[test]
    fn an_assignment_is_the_record_and_its_template() {
        let world = world_of([put_service("s1", "web", 3), put_task("t1", "s1", "n1", 3)]);
        let told = assignments_of(&world, "n1");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].service_name, "web");
        assert_eq!(told[0].spec.as_ref().unwrap().force_update, 3);
        assert!(told[0].endpoint.is_some());
        assert_eq!(told[0].service_labels["tier"], "front");
        assert!(assignments_of(&world, "n2").is_empty());
    }

    #[test]
    fn a_task_of_a_removed_service_can_still_be_stopped() {
        let world = world_of([
            put_service("s1", "web", 3),
            put_task("t1", "s1", "n1", 3),
            remove(Kind::Service, "s1"),
        ]);
        let told = assignments_of(&world, "n1");
        assert_eq!(told[0].service_name, "web");
        assert_eq!(told[0].spec, None);
    }

    #[test]
    fn a_status_is_not_echoed_and_a_wish_is_told() {
        let before = Task::default();
        let mut after = before.clone();
        after.status = Some(TaskStatus {
            state: TaskState::Running.into(),
            ..TaskStatus::default()
        });
        assert!(!concerns_node(&before, &after));
        after.desired = TaskState::Shutdown.into();
        assert!(concerns_node(&before, &after));
    }
}
