//! Which records are kept: those in use, and per slot the newest few of those
//! that are not. Templates that no record refers to are dropped with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{Cluster, Service, Task, TaskState};

use super::draft::Draft;
use super::slot::records;
use super::{Engine, Reason};
use crate::state::SlotKey;

/// Records per slot, the live one included, unless the cluster says otherwise.
const HISTORY_DEFAULT: i64 = 5;

/// Records that are kept per slot; negative: all.
pub(super) fn history_limit(cluster: &Cluster) -> i64 {
    let spec = cluster.spec.as_ref();
    spec.and_then(|s| s.task_history_limit)
        .unwrap_or(HISTORY_DEFAULT)
}

/// Nothing of the task runs, and nothing of it will.
fn is_over(task: &Task) -> bool {
    task.is_terminal()
        || (task.desired() > TaskState::Running && task.state() < TaskState::Assigned)
}

impl Engine {
    /// Deletes what the slot does not need any more.
    pub(super) fn reap(&mut self, draft: &mut Draft, key: &SlotKey) {
        let mut kept: Vec<Arc<Task>> = Vec::new();
        for task in records(&draft.world, key) {
            let never_placed =
                task.desired() > TaskState::Running && task.state() < TaskState::Assigned;
            let node_gone = !task.node_id.is_empty() && draft.world.node(&task.node_id).is_none();
            let removed = task.desired() == TaskState::Remove && (is_over(&task) || node_gone);
            // A global service has no slot on a node that is no more.
            let slot_gone = key.slot == 0 && node_gone;
            if never_placed || removed || slot_gone {
                self.forget(draft, &task);
            } else {
                kept.push(task);
            }
        }
        let limit = draft
            .world
            .cluster()
            .map_or(HISTORY_DEFAULT, |c| history_limit(c));
        let Ok(limit) = usize::try_from(limit) else {
            return;
        };
        // One record at least says that the slot is taken.
        let mut excess = kept.len().saturating_sub(limit.max(1));
        for task in &kept {
            if excess == 0 {
                break;
            }
            if is_over(task) && task.desired() > TaskState::Running {
                self.forget(draft, task);
                excess -= 1;
            }
        }
    }

    fn forget(&mut self, draft: &mut Draft, task: &Task) {
        let applied = draft.remove_task(task.id());
        self.observe(&applied);
        draft.reasons.push(Reason::Forgotten {
            task: task.short_name(),
            state: task.state(),
        });
    }
}

/// The service without templates that neither it nor a record refers to; `None`
/// when there are none such. `used`: template versions of its records.
pub(super) fn without_unused_templates(
    service: &Service,
    used: &BTreeMap<u64, usize>,
) -> Option<Service> {
    let keep = |version: u64| version == service.template_version || used.contains_key(&version);
    if service.templates.iter().all(|t| keep(t.version)) {
        return None;
    }
    let mut service = service.clone();
    service.templates.retain(|t| keep(t.version));
    Some(service)
}
