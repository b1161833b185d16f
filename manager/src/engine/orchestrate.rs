//! Which tasks should exist: so many slots for a replicated service, one for
//! each node that takes part for a global one. What happens within a slot is
//! the same for both.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, Node, NodeState, Resources, RestartHistory, Service, Task, TaskState,
};

use super::dirty::Wake;
use super::draft::Draft;
use super::reap::without_unused_templates;
use super::schedule::filter::Wants;
use super::slot::{NewTask, given_up_at, records};
use super::{Because, Engine};
use crate::state::SlotKey;

/// Whether a node is to have a task of a global service.
pub(super) fn takes_part(service: &Service, node: &Node) -> bool {
    node.state() == NodeState::Ready
        && node.availability() == Availability::Active
        && Wants::new(service, service.template_version)
            .suits(node)
            .is_ok()
}

fn slot_key(service_id: &str, slot: u64) -> SlotKey {
    SlotKey {
        service_id: service_id.to_owned(),
        slot,
        node_id: String::new(),
    }
}

fn node_key(service_id: &str, node_id: &str) -> SlotKey {
    SlotKey {
        service_id: service_id.to_owned(),
        slot: 0,
        node_id: node_id.to_owned(),
    }
}

impl Engine {
    /// A service is new, gone, or another: all its slots are looked at.
    pub(super) fn fleet(&mut self, draft: &mut Draft, service_id: &str) {
        self.dirty
            .slots
            .extend(draft.world.slots_of_service(service_id).cloned());
        self.queue.service_changed(service_id);
        self.dirty.services.insert(service_id.to_owned());
        match draft.service(service_id) {
            Some(service) if service.is_global() => {
                self.globals.insert(service_id.to_owned());
                let keys = draft.world.nodes().map(|n| node_key(service_id, n.id()));
                self.dirty.slots.extend(keys);
            }
            Some(_) => {}
            None => {
                self.globals.remove(service_id);
            }
        }
    }

    /// A node is new, gone, or another: whatever is on it is looked at, and
    /// whatever should be.
    pub(super) fn node(&mut self, draft: &mut Draft, node_id: &str) {
        self.dirty.let_sleep(&Wake::Node(node_id.to_owned()));
        let tasks: Vec<Arc<Task>> = draft.world.tasks_on_node(node_id).cloned().collect();
        self.dirty
            .slots
            .extend(tasks.iter().map(|t| SlotKey::of(t)));
        self.dirty
            .slots
            .extend(self.globals.iter().map(|id| node_key(id, node_id)));
        if let Some(at) = draft.world.node(node_id).and_then(|n| given_up_at(n))
            && at > draft.now
        {
            self.dirty.wake(at, Wake::Node(node_id.to_owned()));
        }
        if let Some(node) = draft.world.node(node_id)
            && node.state() == NodeState::Ready
            && node.availability() == Availability::Active
        {
            self.dirty.unfit.extend(unfit(draft, node, &tasks));
        }
    }

    /// Brings the number of tasks to what the service wants, and its rolling
    /// update a step on.
    pub(super) fn orchestrate(&mut self, draft: &mut Draft, service_id: &str) {
        self.dirty.let_sleep(&Wake::Service(service_id.to_owned()));
        let Some(service) = draft.service(service_id) else {
            return;
        };
        if !service.is_global() {
            self.scale(draft, &service);
        }
        if self.dirty.slots.is_empty() {
            self.update(draft, &service);
        } else {
            // Its turn comes when the slots have been looked at.
            self.dirty.services.insert(service_id.to_owned());
            return;
        }
        let Some(fleet) = self.fleets.get(service_id) else {
            return;
        };
        if let Some(service) = draft.service(service_id)
            && let Some(trimmed) = without_unused_templates(&service, &fleet.templates)
            && self.dirty.slots.is_empty()
        {
            let applied = draft.put_service(trimmed);
            self.observe(&applied);
        }
    }

    fn scale(&mut self, draft: &mut Draft, service: &Arc<Service>) {
        let fleet = self.fleets.entry(service.id().to_owned()).or_default();
        let occupied = u64::try_from(fleet.occupied.len()).unwrap_or(u64::MAX);
        let replicas = service.replicas();
        if occupied < replicas && service.current_template().is_some() {
            let taken: Vec<u64> = fleet.occupied.iter().map(|key| key.slot).collect();
            let wanted = usize::try_from(replicas - occupied).unwrap_or(usize::MAX);
            let free = (1..).filter(|slot| taken.binary_search(slot).is_err());
            for slot in free.take(wanted) {
                if draft.is_full() {
                    self.dirty.services.insert(service.id().to_owned());
                    return;
                }
                self.create(
                    draft,
                    service,
                    &slot_key(service.id(), slot),
                    NewTask {
                        template: service.template_version,
                        desired: TaskState::Running,
                        start_at_ns: 0,
                        restarts: RestartHistory::default(),
                        because: Because::Scale,
                    },
                );
            }
        } else if occupied > replicas {
            let keep = usize::try_from(replicas).unwrap_or(usize::MAX);
            let keys: Vec<SlotKey> = fleet.occupied.iter().cloned().collect();
            for key in victims(draft, keys, keep) {
                if draft.is_full() {
                    self.dirty.services.insert(service.id().to_owned());
                    return;
                }
                self.dissolve(draft, &key, Because::ScaleDown);
            }
        }
    }
}

/// Slots to give up so that `keep` remain: those without a node or with more
/// than one task first, then from the nodes that have most tasks of the
/// service, not running before running, high numbers before low ones.
fn victims(draft: &Draft, keys: Vec<SlotKey>, keep: usize) -> Vec<SlotKey> {
    let mut slots: Vec<(bool, SlotKey, String)> = keys
        .into_iter()
        .map(|key| {
            let live: Vec<_> = records(&draft.world, &key)
                .into_iter()
                .filter(|t| t.is_live())
                .collect();
            let running = live.iter().any(|t| t.state() == TaskState::Running);
            let node = match live.as_slice() {
                [one] => one.node_id.clone(),
                _ => String::new(),
            };
            (!running, key, node)
        })
        .collect();
    slots.sort();
    let mut on_node: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize, SlotKey)> = slots
        .into_iter()
        .enumerate()
        .map(|(place, (_, key, node))| {
            if node.is_empty() {
                return (usize::MAX, place, key);
            }
            let nth = on_node.entry(node).or_default();
            *nth += 1;
            (*nth, place, key)
        })
        .collect();
    ranked.sort();
    ranked
        .into_iter()
        .skip(keep)
        .map(|(_, _, key)| key)
        .collect()
}

/// Tasks that should no longer be on the node: it is not of their kind any
/// more, or has less than what is reserved on it.
fn unfit(draft: &Draft, node: &Node, tasks: &[Arc<Task>]) -> Vec<String> {
    let mut live: Vec<&Arc<Task>> = tasks
        .iter()
        .filter(|t| t.slot != 0 && t.is_live())
        .collect();
    live.sort_by_key(|t| t.meta().created_at_ns);
    let capacity = node.capacity();
    let mut wants: BTreeMap<&str, Wants> = BTreeMap::new();
    let mut used = Resources::default();
    let mut unfit = Vec::new();
    for task in live {
        let Some(service) = draft.world.service(&task.service_id) else {
            continue;
        };
        let wants = wants
            .entry(service.id())
            .or_insert_with(|| Wants::new(service, task.template_version));
        let reserved = task.reserved();
        let cpus = used.nano_cpus.saturating_add(reserved.nano_cpus);
        let memory = used.memory_bytes.saturating_add(reserved.memory_bytes);
        let too_much = (reserved.nano_cpus > 0 && cpus > capacity.nano_cpus)
            || (reserved.memory_bytes > 0 && memory > capacity.memory_bytes);
        if too_much || wants.suits(node).is_err() {
            unfit.push(task.id().to_owned());
        } else {
            used = Resources {
                nano_cpus: cpus,
                memory_bytes: memory,
            };
        }
    }
    unfit
}
