//! On which node a task runs: filter, score, place. Tasks of one template are
//! placed together: nodes are filtered once, then the best one takes a task and
//! goes back into the heap with its new score.
//!
//! Invariant: a task is given a node here and nowhere else, and only by a node
//! that passed every filter with what is taken on it at that moment.

pub mod constraint;
pub(super) mod filter;
mod queue;
mod usage;
pub(super) mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{Node, Service, Task, TaskPatch, TaskState, TaskStatus, Verdict};

use super::draft::Draft;
use super::{Engine, Reason};
use crate::state::seed::Rng;
use crate::state::{Nanos, World};

use filter::Wants;
use queue::Group;
pub(super) use queue::Queue;
pub(super) use usage::Usage;
use verdict::Tally;

/// Lowest is best: failures of late, tasks of this service, tasks in all, a
/// seeded tie, and the place in the list of candidates.
type Score = (usize, u32, u32, u64, usize);

impl Engine {
    /// Places what waits and might fit by now. Says whether it looked at
    /// anything.
    pub(super) fn schedule(&mut self, draft: &mut Draft) -> bool {
        let nodes = std::mem::take(&mut self.dirty.placing);
        let freed = std::mem::take(&mut self.usage.freed);
        let mut pinned = std::mem::take(&mut self.queue.dirty_pinned);
        for node in nodes.iter().chain(&freed) {
            pinned.extend(self.queue.pinned.get(node).into_iter().flatten().cloned());
        }
        let mut groups = std::mem::take(&mut self.queue.dirty_groups);
        if nodes.is_empty() {
            for group in self.queue.groups.keys() {
                if !groups.contains(group) && self.could_help(draft, group, &freed) {
                    groups.insert(group.clone());
                }
            }
        } else {
            groups.extend(self.queue.groups.keys().cloned());
        }
        let mut looked = !groups.is_empty() || !pinned.is_empty();
        for id in pinned {
            self.place_pinned(draft, &id);
        }
        for group in groups {
            self.place_group(draft, &group);
        }
        if !looked {
            // Nothing moves any more: what is in the way now is what to say.
            for group in std::mem::take(&mut self.queue.unplaced) {
                looked = true;
                self.judge_group(draft, &group);
            }
        }
        looked
    }

    /// Whether one of the nodes where something became free would do.
    fn could_help(&self, draft: &Draft, group: &Group, freed: &BTreeSet<String>) -> bool {
        if freed.is_empty() {
            return false;
        }
        let Some(service) = draft.service(&group.0) else {
            return false;
        };
        let wants = Wants::new(&service, group.1);
        freed.iter().any(|id| {
            let node = draft.world.node(id);
            node.is_some_and(|node| wants.fit(node, self.usage.of(id)).is_ok())
        })
    }

    fn place_pinned(&mut self, draft: &mut Draft, id: &str) {
        let Some(task) = draft.world.task(id).cloned() else {
            return;
        };
        let (Some(service), Some(node)) = (
            draft.service(&task.service_id),
            draft.world.node(&task.node_id).cloned(),
        ) else {
            return;
        };
        let wants = Wants::new(&service, task.template_version);
        match wants.fit(&node, self.usage.of(node.id())) {
            Ok(()) => self.assign(draft, &task, &node, &wants),
            Err(refused) => {
                let mut tally = Tally::default();
                tally.add(&wants, &node, refused);
                let verdict = tally.verdict(&wants, draft.now, true);
                self.refuse(draft, &[task], &verdict);
            }
        }
    }

    fn place_group(&mut self, draft: &mut Draft, group: &Group) {
        let Some(service) = draft.service(&group.0) else {
            return;
        };
        let wants = Wants::new(&service, group.1);
        let tasks = self.waiting(draft, group);
        let nodes: Vec<Arc<Node>> = draft.world.nodes().cloned().collect();
        let mut ties = draft
            .seed
            .generator("tie", &format!("{}.{}", group.0, group.1));
        let mut heap = BinaryHeap::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let tie = ties.next_u64();
            if wants.fit(node, self.usage.of(node.id())).is_ok() {
                heap.push(Reverse(self.score(&wants, node, draft.now, tie, i)));
            }
        }
        let mut waiting = tasks.as_slice();
        while let Some((task, rest)) = waiting.split_first() {
            if draft.is_full() {
                self.queue.dirty_groups.insert(group.clone());
                return;
            }
            let Some(Reverse((.., tie, i))) = heap.pop() else {
                break;
            };
            let Some(node) = nodes.get(i) else { continue };
            self.assign(draft, task, node, &wants);
            waiting = rest;
            if wants.fit(node, self.usage.of(node.id())).is_ok() {
                heap.push(Reverse(self.score(&wants, node, draft.now, tie, i)));
            }
        }
        if !waiting.is_empty() {
            self.queue.unplaced.insert(group.clone());
        }
    }

    /// Tells the tasks that are left of a group why they wait.
    fn judge_group(&mut self, draft: &mut Draft, group: &Group) {
        let Some(service) = draft.service(&group.0) else {
            return;
        };
        let tasks = self.waiting(draft, group);
        let wants = Wants::new(&service, group.1);
        let verdict = self.judge(&draft.world, &wants, draft.now);
        self.refuse(draft, &tasks, &verdict);
    }

    fn waiting(&self, draft: &Draft, group: &Group) -> Vec<Arc<Task>> {
        let ids = self.queue.groups.get(group).into_iter().flatten();
        ids.filter_map(|(_, id)| draft.world.task(id).cloned())
            .collect()
    }

    fn score(&self, wants: &Wants, node: &Node, now: Nanos, tie: u64, place: usize) -> Score {
        let used = self.usage.of(node.id());
        let failures = self
            .usage
            .failures(&wants.service_id, wants.template, node.id(), now);
        let here = used.live_of.get(&wants.service_id).copied().unwrap_or(0);
        (failures, here, used.live, tie, place)
    }

    fn judge(&self, world: &World, wants: &Wants, now: Nanos) -> Verdict {
        let mut tally = Tally::default();
        for node in world.nodes() {
            if let Err(refused) = wants.fit(node, self.usage.of(node.id())) {
                tally.add(wants, node, refused);
            }
        }
        tally.verdict(wants, now, false)
    }

    fn assign(&mut self, draft: &mut Draft, task: &Task, node: &Node, wants: &Wants) {
        let message = if task.node_id.is_empty() {
            "scheduler assigned task to node"
        } else {
            "scheduler confirmed task can run on preassigned node"
        };
        let applied = draft.patch(TaskPatch {
            id: task.id().to_owned(),
            node_id: Some(node.id().to_owned()),
            status: Some(TaskStatus {
                state: TaskState::Assigned.into(),
                at_ns: draft.now,
                applied_at_ns: draft.now,
                message: message.to_owned(),
                ..TaskStatus::default()
            }),
            reservations: Some(wants.reserved),
            host_ports: wants.host_ports.clone(),
            clear_verdict: task.verdict.is_some(),
            ..TaskPatch::default()
        });
        self.observe(&applied);
        self.sync(draft, task.id());
        draft.reasons.push(Reason::Placed {
            task: task.short_name(),
            node: name_of(node),
        });
    }

    /// Tells the tasks why they wait, where that is news to them.
    fn refuse(&mut self, draft: &mut Draft, tasks: &[Arc<Task>], verdict: &Verdict) {
        let mut told = 0;
        for task in tasks {
            if verdict::same(task.verdict.as_ref(), verdict) {
                continue;
            }
            told += 1;
            let applied = draft.patch(TaskPatch {
                id: task.id().to_owned(),
                verdict: Some(verdict.clone()),
                ..TaskPatch::default()
            });
            self.observe(&applied);
        }
        if let Some(task) = tasks.first().filter(|_| told > 0) {
            draft.reasons.push(Reason::Unplaced {
                service: task.service_name.clone(),
                tasks: told,
                verdict: verdict.summary.clone(),
            });
        }
    }
}

/// Why a task of `service` fits on no node, as things are in `world`; `None`
/// when it does fit on one.
pub(super) fn verdict_now(
    world: &World,
    service: &Service,
    task: &Task,
    now: Nanos,
) -> Option<Verdict> {
    let wants = Wants::new(service, task.template_version);
    let mut usage = Usage::default();
    for task in world.tasks() {
        usage.sync(world, task.id(), now);
    }
    let mut tally = Tally::default();
    let pinned = task.slot == 0;
    for node in world.nodes().filter(|n| !pinned || n.id() == task.node_id) {
        match wants.fit(node, usage.of(node.id())) {
            Ok(()) => return None,
            Err(refused) => tally.add(&wants, node, refused),
        }
    }
    Some(tally.verdict(&wants, now, pinned))
}

/// What people call a node.
pub(super) fn name_of(node: &Node) -> String {
    let name = node.spec.as_ref().map_or("", |s| s.name.as_str());
    let names = [name, node.hostname(), node.id()];
    names
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or_default()
        .to_owned()
}
