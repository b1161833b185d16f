//! A slot has one task that is meant to run. While an update starts the new one
//! first, the one that it replaces is beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{SlotKey, World};

pub(super) fn check(world: &World) -> Vec<String> {
    let mut live: BTreeMap<SlotKey, Vec<u64>> = BTreeMap::new();
    for task in world.tasks().filter(|t| t.is_live()) {
        live.entry(SlotKey::of(task))
            .or_default()
            .push(task.template_version);
    }
    let bad = |(key, live): (SlotKey, Vec<u64>)| {
        let service = world.service(&key.service_id);
        let updating = service.is_some_and(|s| s.update_status.is_some());
        let templates: BTreeSet<&u64> = live.iter().collect();
        let overlap = updating || templates.len() > 1;
        let most = if overlap { 2 } else { 1 };
        (live.len() > most).then(|| format!("{key:?} has {} live tasks", live.len()))
    };
    live.into_iter().filter_map(bad).collect()
}
