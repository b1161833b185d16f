//! The indexes that the engine and the readers ask for, kept by [`World::apply`].
//!
//! [`World::apply`]: super::World::apply

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use skep_proto::objects::Identified;
use skep_proto::v1::{Node, Service, Task};

/// Ids by what they are looked up by. Sets are in id order.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    pub service_by_name: OrdMap<String, String>,
    pub nodes_by_hostname: OrdMap<String, OrdSet<String>>,
    pub tasks_by_service: OrdMap<String, OrdSet<String>>,
    pub tasks_by_node: OrdMap<String, OrdSet<String>>,
    /// (service, slot, node of a global task) to every record of that slot.
    pub tasks_by_slot: OrdMap<SlotKey, OrdSet<String>>,
}

/// Names one instance of a service: a slot, or a node where there are no slots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The service's id.
    pub service_id: String,
    /// From 1; 0 for a global service.
    pub slot: u64,
    /// The node's id for a global service, else empty.
    pub node_id: String,
}

impl SlotKey {
    /// The slot that `task` fills.
    pub fn of(task: &Task) -> Self {
        Self {
            service_id: task.service_id.clone(),
            slot: task.slot,
            node_id: if task.slot == 0 {
                task.node_id.clone()
            } else {
                String::new()
            },
        }
    }
}

impl Index {
    pub fn service(&mut self, before: Option<&Arc<Service>>, after: Option<&Arc<Service>>) {
        if let Some(service) = before {
            self.service_by_name.remove(&service.name().to_lowercase());
        }
        if let Some(service) = after {
            self.service_by_name
                .insert(service.name().to_lowercase(), service.id().to_owned());
        }
    }

    pub fn node(&mut self, before: Option<&Arc<Node>>, after: Option<&Arc<Node>>) {
        if let Some(node) = before {
            remove(
                &mut self.nodes_by_hostname,
                &node.hostname().to_lowercase(),
                node.id(),
            );
        }
        if let Some(node) = after {
            insert(
                &mut self.nodes_by_hostname,
                node.hostname().to_lowercase(),
                node.id(),
            );
        }
    }

    pub fn task(&mut self, before: Option<&Arc<Task>>, after: Option<&Arc<Task>>) {
        let same_place = matches!((before, after), (Some(b), Some(a))
            if b.node_id == a.node_id && b.service_id == a.service_id && b.slot == a.slot);
        if same_place {
            return;
        }
        if let Some(task) = before {
            remove(&mut self.tasks_by_service, &task.service_id, task.id());
            remove(&mut self.tasks_by_node, &task.node_id, task.id());
            remove(&mut self.tasks_by_slot, &SlotKey::of(task), task.id());
        }
        if let Some(task) = after {
            insert(
                &mut self.tasks_by_service,
                task.service_id.clone(),
                task.id(),
            );
            if !task.node_id.is_empty() {
                insert(&mut self.tasks_by_node, task.node_id.clone(), task.id());
            }
            insert(&mut self.tasks_by_slot, SlotKey::of(task), task.id());
        }
    }
}

fn insert<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<String>>, key: K, id: &str) {
    index.entry(key).or_default().insert(id.to_owned());
}

fn remove<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<String>>, key: &K, id: &str) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
