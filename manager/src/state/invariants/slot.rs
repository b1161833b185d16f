//! A slot has one task that is meant to run; during an update that starts the
//! new one first, one of the old template beside it.

use std::collections::BTreeMap;

use crate::state::{SlotKey, World};

pub(super) fn check(world: &World) -> Vec<String> {
    let mut live: BTreeMap<SlotKey, Vec<bool>> = BTreeMap::new();
    for task in world.tasks().filter(|t| t.is_live()) {
        let service = world.service(&task.service_id);
        let current = service.is_some_and(|s| s.template_version == task.template_version);
        live.entry(SlotKey::of(task)).or_default().push(current);
    }
    let bad = |(key, live): (SlotKey, Vec<bool>)| {
        let overlap = world
            .service(&key.service_id)
            .is_some_and(|s| s.update_status.is_some());
        let most = if overlap { 2 } else { 1 };
        (live.len() > most).then(|| format!("{key:?} has {} live tasks", live.len()))
    };
    live.into_iter().filter_map(bad).collect()
}
