//! A port of a host belongs to one task.

use std::collections::BTreeMap;

use skep_proto::objects::Identified;
use skep_proto::v1::{PortMode, TaskState};

use crate::state::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut owners: BTreeMap<(&str, i32, u32), &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for task in world.tasks().filter(|t| t.holds_resources()) {
        if task.state() < TaskState::Assigned {
            continue;
        }
        // What it was made for; of a removed service, what it was given.
        let template = world
            .service(&task.service_id)
            .and_then(|s| s.template(task.template_version));
        let asked = template.and_then(|t| t.endpoint.as_ref());
        let ports = match template {
            Some(_) => asked.map(|e| e.ports.as_slice()).unwrap_or_default(),
            None => task.host_ports.as_slice(),
        };
        for port in ports {
            if port.mode() != PortMode::Host || port.published_port == 0 {
                continue;
            }
            let key = (task.node_id.as_str(), port.protocol, port.published_port);
            if let Some(other) = owners.insert(key, task.id()) {
                wrong.push(format!(
                    "port {} of node {} is given to tasks {other} and {}",
                    port.published_port,
                    task.node_id,
                    task.id()
                ));
            }
        }
    }
    wrong
}
