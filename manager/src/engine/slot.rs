//! One slot (or one node of a global service): every rule about its tasks, in
//! the order in which they follow from each other.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Meta, Node, NodeState, RestartHistory, Service, Task, TaskPatch, TaskState, TaskStatus,
};

use super::dirty::Wake;
use super::draft::Draft;
use super::schedule::filter::Wants;
use super::{Because, Engine, Reason};
use crate::state::{Applied, Nanos, SlotKey, World};

/// After so long without a word the tasks of a node count as lost.
const DOWN_NS_MAX: Nanos = 24 * 3_600 * 1_000_000_000;

/// The records of a slot, oldest first.
pub(super) fn records(world: &World, key: &SlotKey) -> Vec<Arc<Task>> {
    let mut records: Vec<Arc<Task>> = world.tasks_in_slot(key).cloned().collect();
    if records.len() > 1 {
        records.sort_by(|a, b| age(a).cmp(&age(b)));
    }
    records
}

fn age(task: &Task) -> (Nanos, u64, &str) {
    let meta = task.meta();
    (meta.created_at_ns, meta.version, task.id())
}

/// When nothing more is expected of a node that is down.
pub(super) fn given_up_at(node: &Node) -> Option<Nanos> {
    let status = node
        .status
        .as_ref()
        .filter(|s| s.state() == NodeState::Down)?;
    Some(status.since_ns.saturating_add(DOWN_NS_MAX))
}

/// It came to an end that nobody asked for: it exited, failed, or never started.
pub(super) fn ended_by_itself(task: &Task) -> bool {
    matches!(
        task.state(),
        TaskState::Complete | TaskState::Failed | TaskState::Rejected
    )
}

/// Whether a task has to be replaced for its service to be up to date: it is of
/// an older template, or on a node that the service's placement rules out now.
pub(super) fn is_outdated(world: &World, service: &Service, wants: &Wants, task: &Task) -> bool {
    task.template_version != service.template_version
        || world
            .node(&task.node_id)
            .is_some_and(|node| wants.suits(node).is_err())
}

/// What a new task of a slot begins with.
pub(super) struct NewTask {
    pub template: u64,
    pub desired: TaskState,
    pub start_at_ns: Nanos,
    pub restarts: RestartHistory,
    pub because: Because,
}

impl Engine {
    /// Looks at one slot.
    pub(super) fn slot(&mut self, draft: &mut Draft, key: &SlotKey) {
        self.dirty.let_sleep(&Wake::Slot(key.clone()));
        self.orphan(draft, key);
        if draft.service(&key.service_id).is_some() {
            let ended = self.end_lost(draft, key);
            self.adopt(draft, key);
            self.settle_overlap(draft, key);
            self.restart(draft, key, ended);
            self.promote(draft, key);
        } else {
            self.dissolve(draft, key, Because::ServiceRemoved);
        }
        self.reap(draft, key);
        self.summarise(draft, key);
    }

    /// All tasks of the slot are to stop and be forgotten.
    pub(super) fn dissolve(&mut self, draft: &mut Draft, key: &SlotKey, because: Because) {
        for task in records(&draft.world, key) {
            if task.desired() != TaskState::Remove {
                self.stop(draft, &task, TaskState::Remove, because);
            }
        }
    }

    /// Sets a task to stop: with a record kept (SHUTDOWN) or without (REMOVE).
    pub(super) fn stop(
        &mut self,
        draft: &mut Draft,
        task: &Task,
        desired: TaskState,
        because: Because,
    ) {
        let applied = draft.desire(task, desired);
        self.observe(&applied);
        if !task.is_terminal() || because == Because::Ended(task.state()) {
            draft.reasons.push(Reason::Stopped {
                task: task.short_name(),
                because,
            });
        }
    }

    /// Makes a task for the slot; it is placed later in the same decision.
    pub(super) fn create(
        &mut self,
        draft: &mut Draft,
        service: &Service,
        key: &SlotKey,
        new: NewTask,
    ) -> Applied {
        let task = Task {
            meta: Some(Meta {
                id: draft.task_id(),
                ..Meta::default()
            }),
            service_id: key.service_id.clone(),
            service_name: service.name().to_owned(),
            slot: key.slot,
            node_id: key.node_id.clone(),
            template_version: new.template,
            desired: new.desired.into(),
            start_at_ns: new.start_at_ns,
            restarts: Some(new.restarts),
            status: Some(TaskStatus {
                state: TaskState::Pending.into(),
                at_ns: draft.now,
                applied_at_ns: draft.now,
                message: "pending task scheduling".to_owned(),
                ..TaskStatus::default()
            }),
            ..Task::default()
        };
        draft.reasons.push(Reason::Created {
            task: task.short_name(),
            because: new.because,
        });
        let applied = draft.put_task(task);
        self.observe(&applied);
        applied
    }

    /// Nobody can say what became of a task whose node was removed, or has been
    /// silent for a day.
    fn orphan(&mut self, draft: &mut Draft, key: &SlotKey) {
        for task in records(&draft.world, key) {
            if task.is_terminal() || task.node_id.is_empty() {
                continue;
            }
            let node = draft.world.node(&task.node_id);
            let message = match node {
                None => "Task belonged to a node that has been deleted",
                Some(node) if given_up_at(node).is_some_and(|at| at <= draft.now) => {
                    "Task belonged to a node that has been down for a day"
                }
                Some(_) => continue,
            };
            let status = task.status.clone().unwrap_or_default();
            let applied = draft.patch(TaskPatch {
                id: task.id().to_owned(),
                status: Some(TaskStatus {
                    state: TaskState::Orphaned.into(),
                    at_ns: draft.now,
                    applied_at_ns: draft.now,
                    message: message.to_owned(),
                    ..status
                }),
                ..TaskPatch::default()
            });
            self.observe(&applied);
        }
    }

    /// At most one task of the slot is up to date and meant to run, and at most
    /// one that is not, until the new one runs.
    fn settle_overlap(&mut self, draft: &mut Draft, key: &SlotKey) {
        let live: Vec<Arc<Task>> = records(&draft.world, key)
            .into_iter()
            .filter(|t| t.is_live())
            .collect();
        if live.len() < 2 {
            return;
        }
        let Some(service) = draft.service(&key.service_id) else {
            return;
        };
        let wants = Wants::new(&service, service.template_version);
        let (old, new): (Vec<_>, Vec<_>) = live
            .into_iter()
            .partition(|t| is_outdated(&draft.world, &service, &wants, t));
        let best = |tasks: &[Arc<Task>]| {
            tasks
                .iter()
                .max_by_key(|t| (t.state(), t.meta().created_at_ns))
                .cloned()
        };
        let (best_old, best_new) = (best(&old), best(&new));
        let new_runs = best_new
            .as_ref()
            .is_some_and(|t| t.state() == TaskState::Running && t.desired() == TaskState::Running);
        for task in old.iter().chain(&new) {
            let is = |best: &Option<Arc<Task>>| best.as_ref().is_some_and(|b| b.id() == task.id());
            let stays = is(&best_new) || (is(&best_old) && !new_runs);
            if !stays {
                self.stop(draft, task, TaskState::Shutdown, Because::Superseded);
            }
        }
    }

    /// Whether a node has stopped a task for certain, or may never tell.
    pub(super) fn is_off(draft: &Draft, task: &Task) -> bool {
        task.is_terminal()
            || draft
                .world
                .node(&task.node_id)
                .is_none_or(|n| n.state() == NodeState::Down)
    }
}
