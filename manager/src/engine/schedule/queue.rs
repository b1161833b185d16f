//! Tasks that wait for a node, grouped by what they ask for, and which of the
//! groups are worth another look.

use std::collections::{BTreeMap, BTreeSet};

use skep_proto::v1::{Task, TaskState};

use crate::state::World;

/// (service, template version): such tasks ask for the same.
pub(super) type Group = (String, u64);

/// Where a waiting task is filed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Group(Group, u64),
    Node(String),
}

/// Tasks that wait for a node.
#[derive(Debug, Default)]
pub(in crate::engine) struct Queue {
    /// Tasks by slot.
    pub(super) groups: BTreeMap<Group, BTreeSet<(u64, String)>>,
    /// Tasks of global services by the node that is theirs.
    pub(super) pinned: BTreeMap<String, BTreeSet<String>>,
    pub(super) dirty_groups: BTreeSet<Group>,
    pub(super) dirty_pinned: BTreeSet<String>,
    /// Groups some of whose tasks fit nowhere, to be told why at the end.
    pub(super) unplaced: BTreeSet<Group>,
    places: BTreeMap<String, Place>,
}

impl Queue {
    /// Takes a task as it is now; `id` alone when its record is gone.
    pub(in crate::engine) fn sync(&mut self, world: &World, id: &str) {
        let after = world.task(id).and_then(|task| place(task));
        let before = self.places.get(id);
        if before == after.as_ref() {
            return;
        }
        match self.places.remove(id) {
            Some(Place::Group(group, slot)) => {
                if let Some(tasks) = self.groups.get_mut(&group) {
                    tasks.remove(&(slot, id.to_owned()));
                    if tasks.is_empty() {
                        self.groups.remove(&group);
                        self.dirty_groups.remove(&group);
                        self.unplaced.remove(&group);
                    }
                }
            }
            Some(Place::Node(node)) => {
                self.dirty_pinned.remove(id);
                if let Some(tasks) = self.pinned.get_mut(&node) {
                    tasks.remove(id);
                    if tasks.is_empty() {
                        self.pinned.remove(&node);
                    }
                }
            }
            None => {}
        }
        match &after {
            Some(Place::Group(group, slot)) => {
                self.groups
                    .entry(group.clone())
                    .or_default()
                    .insert((*slot, id.to_owned()));
                self.dirty_groups.insert(group.clone());
            }
            Some(Place::Node(node)) => {
                self.pinned
                    .entry(node.clone())
                    .or_default()
                    .insert(id.to_owned());
                self.dirty_pinned.insert(id.to_owned());
            }
            None => return,
        }
        if let Some(after) = after {
            self.places.insert(id.to_owned(), after);
        }
    }

    /// A service's placement changed: what it waits for may be there now.
    pub(in crate::engine) fn service_changed(&mut self, service_id: &str) {
        let from = (service_id.to_owned(), 0);
        let groups = self.groups.range(from..).map(|(group, _)| group);
        let of_service = groups.take_while(|(service, _)| service == service_id);
        self.dirty_groups.extend(of_service.cloned());
    }
}

fn place(task: &Task) -> Option<Place> {
    if task.state() >= TaskState::Assigned || !task.is_live() {
        return None;
    }
    Some(if task.slot == 0 {
        Place::Node(task.node_id.clone())
    } else {
        Place::Group((task.service_id.clone(), task.template_version), task.slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_ends_waits_no_longer() {
        let mut queue = Queue::default();
        let mut world = World::default();
        let task = Task {
            slot: 1,
            service_id: "s".into(),
            desired: TaskState::Running.into(),
            meta: Some(skep_proto::v1::Meta {
                id: "t".into(),
                ..Default::default()
            }),
            ..Task::default()
        };
        let put = |world: &mut World, task: &Task| {
            world.apply(&skep_proto::v1::Transaction {
                changes: vec![skep_proto::v1::Change {
                    change: Some(skep_proto::v1::change::Change::Put(task.clone().into())),
                }],
                ..Default::default()
            });
        };
        put(&mut world, &task);
        queue.sync(&world, "t");
        assert_eq!(queue.dirty_groups.len(), 1);
        put(
            &mut world,
            &Task {
                desired: TaskState::Shutdown.into(),
                ..task
            },
        );
        queue.sync(&world, "t");
        assert!(queue.groups.is_empty() && queue.dirty_groups.is_empty());
    }
}
