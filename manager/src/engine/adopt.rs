//! A node that was given up comes back with its tasks still running. Where the
//! replacement does not run yet, the old task keeps the slot: one start less,
//! and no moment without a running task.

use std::sync::Arc;

use skep_proto::v1::{Availability, NodeState, Task, TaskState};

use super::draft::Draft;
use super::schedule::filter::Wants;
use super::schedule::name_of;
use super::slot::{is_outdated, records};
use super::{Because, Engine, Reason};
use crate::state::SlotKey;

impl Engine {
    pub(super) fn adopt(&mut self, draft: &mut Draft, key: &SlotKey) {
        if self.dirty.returned.is_empty() {
            return;
        }
        let Some(service) = draft.service(&key.service_id) else {
            return;
        };
        let records = records(&draft.world, key);
        let wants = Wants::new(&service, service.template_version);
        let came_back = |task: &&Arc<Task>| {
            task.desired() == TaskState::Shutdown
                && task.state() == TaskState::Running
                && self.dirty.returned.contains(&task.node_id)
                && draft.world.node(&task.node_id).is_some_and(|n| {
                    n.state() == NodeState::Ready && n.availability() == Availability::Active
                })
                && !is_outdated(&draft.world, &service, &wants, task)
        };
        let Some(old) = records.iter().rfind(came_back) else {
            return;
        };
        let live: Vec<&Arc<Task>> = records.iter().filter(|t| t.is_live()).collect();
        if live.iter().any(|t| t.state() >= TaskState::Running) {
            return;
        }
        for task in live {
            self.stop(draft, task, TaskState::Remove, Because::Superseded);
        }
        let applied = draft.desire(old, TaskState::Running);
        self.observe(&applied);
        let node = draft
            .world
            .node(&old.node_id)
            .map(|n| name_of(n))
            .unwrap_or_default();
        draft.reasons.push(Reason::Adopted {
            task: old.short_name(),
            node,
        });
    }
}
