//! Records of tasks that are over are kept within the cluster's limit.

use std::collections::BTreeMap;

use crate::state::{SlotKey, World};

pub(super) fn check(world: &World) -> Vec<String> {
    let spec = world.cluster().and_then(|c| c.spec.as_ref());
    let limit = spec.and_then(|s| s.task_history_limit).unwrap_or(5);
    let Ok(limit) = usize::try_from(limit) else {
        return Vec::new();
    };
    let mut slots: BTreeMap<SlotKey, (usize, usize)> = BTreeMap::new();
    for task in world.tasks() {
        let (all, over) = slots.entry(SlotKey::of(task)).or_default();
        *all += 1;
        *over += usize::from(task.is_terminal());
    }
    let bad = |(key, (all, over)): (SlotKey, (usize, usize))| {
        let more = all > limit.max(1) && over > 0;
        more.then(|| {
            format!("{key:?} has {all} records, {over} of them over; the limit is {limit}")
        })
    };
    slots.into_iter().filter_map(bad).collect()
}
