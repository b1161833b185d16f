//! Whatever an object refers to is there.

use skep_proto::objects::Identified;

use crate::state::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for service in world.services() {
        if service.current_template().is_none() {
            wrong.push(format!(
                "service {} has no current template",
                service.name()
            ));
        }
    }
    for task in world.tasks() {
        let Some(service) = world.service(&task.service_id) else {
            if task.is_live() {
                wrong.push(format!("task {} is live, its service is gone", task.id()));
            }
            continue;
        };
        if service.template(task.template_version).is_none() {
            wrong.push(format!(
                "task {} is of template {}, which service {} does not have",
                task.id(),
                task.template_version,
                service.name()
            ));
        }
        if service.is_global() != (task.slot == 0) {
            wrong.push(format!("task {} has slot {}", task.id(), task.slot));
        }
    }
    wrong
}
