//! A slot has one task that is meant to run. Where an update starts the new one
//! first, the one that it replaces is beside it until the new one runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_proto::v1::{Service, Task, TaskState};

use crate::state::{SlotKey, World};

pub(super) fn check(world: &World) -> Vec<String> {
    let mut slots: BTreeMap<SlotKey, Vec<&Arc<Task>>> = BTreeMap::new();
    for task in world.tasks().filter(|t| t.is_live()) {
        slots.entry(SlotKey::of(task)).or_default().push(task);
    }
    let mut wrong = Vec::new();
    for (key, live) in slots {
        let service = world.service(&key.service_id);
        let templates: BTreeSet<u64> = live.iter().map(|t| t.template_version).collect();
        let overlap = templates.len() > 1 || service.is_some_and(|s| may_overlap(s));
        if live.len() > if overlap { 2 } else { 1 } {
            wrong.push(format!("{key:?} has {} live tasks", live.len()));
        }
        let running = live.iter().filter(|t| t.state() == TaskState::Running);
        let running = running.count();
        if running > 1 {
            wrong.push(format!("{key:?} has {running} tasks that run"));
        }
    }
    wrong
}

/// A change of placement replaces tasks by others of the same template.
fn may_overlap(service: &Service) -> bool {
    let task = service.spec.as_ref().and_then(|s| s.task.as_ref());
    let placed = task
        .and_then(|t| t.placement.as_ref())
        .is_some_and(|p| !p.constraints.is_empty() || !p.platforms.is_empty());
    placed || service.update_status.is_some()
}
