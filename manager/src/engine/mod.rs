//! What should happen: from what the swarm knows to what it does next. Pure,
//! and asked on the leader only.
//!
//! - [`Engine::observe`] marks what a transaction changed.
//! - [`Engine::decide`] goes from the marks to changes: which tasks should
//!   exist (`orchestrate`), what follows when one ends or its node is lost
//!   (`restart`, `adopt`), how a new template reaches them (`update`), on which
//!   node they run (`schedule`), which records are kept (`reap`). A room works
//!   on the world that the room before it left, so one decision is complete.
//! - [`explain()`] says in words what the swarm is waiting for.
//!
//! Invariant: the engine keeps nothing that it could not rebuild from the
//! World; timers are data of the World, what is kept of them here says when to
//! look. It reads no clock, does no I/O, and draws from the given seed only.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod adopt;
mod dirty;
mod draft;
mod explain;
mod fleet;
mod orchestrate;
mod reap;
mod reason;
mod restart;
pub mod schedule;
mod slot;
mod update;

use std::collections::BTreeSet;

use skep_proto::objects::Identified;
use skep_proto::v1::Change;

use crate::state::{Applied, Nanos, Seed, World};

use dirty::Dirty;
use draft::Draft;
use fleet::Fleets;
use schedule::{Queue, Usage};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use explain::explain;
pub use reason::{Because, Reason};

/// Changes of one decision, so that an entry of the log stays below 2 MB. What
/// is left over is decided at once after it: `wake_at` is `now`.
pub const CHANGES_MAX: usize = 4_000;

/// Looks of one decision at anything. Reached only if two rules undo each
/// other; the rest is then left to the next decision instead of none at all.
const LOOKS_MAX: usize = 500_000;

/// What the leader decides with: marks of what changed, and indexes of the
/// world that it would otherwise have to search.
#[derive(Debug)]
pub struct Engine {
    dirty: Dirty,
    fleets: Fleets,
    usage: Usage,
    queue: Queue,
    /// Services that have a task on each node.
    globals: BTreeSet<String>,
}

/// What to commit, when to ask again, and why.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// To be applied as one transaction, in this order.
    pub changes: Vec<Change>,
    /// When something is due even if nothing changes; never before `now`.
    pub wake_at: Option<Nanos>,
    /// Why, for the log.
    pub reasons: Vec<Reason>,
}

impl Engine {
    /// What a new leader starts with: everything has to be looked at.
    pub fn new(world: &World) -> Self {
        Self {
            dirty: Dirty::everything(world),
            fleets: Fleets::default(),
            usage: Usage::default(),
            queue: Queue::default(),
            globals: BTreeSet::new(),
        }
    }

    /// Marks what a transaction changed. Costs in proportion to that, and may
    /// be told the same twice.
    pub fn observe(&mut self, applied: &Applied) {
        self.dirty.observe(applied);
    }

    /// What follows from all that was observed, and from the time that has
    /// come. Once the changes are applied, the same question at the same `now`
    /// is answered with nothing, unless [`CHANGES_MAX`] cut the answer short:
    /// then `wake_at` is `now`.
    pub fn decide(&mut self, world: &World, now: Nanos, seed: Seed) -> Decision {
        let mut draft = Draft::new(world, now, seed);
        self.dirty.fire(now);
        let mut cut_short = true;
        for _ in 0..LOOKS_MAX {
            if draft.is_full() {
                break;
            }
            if !self.look(&mut draft) {
                cut_short = false;
                break;
            }
        }
        self.dirty.settle();
        let wake_at = if cut_short {
            Some(now)
        } else {
            self.dirty.next_timer()
        };
        let (changes, reasons) = draft.finish();
        Decision {
            changes,
            wake_at,
            reasons,
        }
    }

    /// Looks at one thing that is marked; `false` when nothing is.
    fn look(&mut self, draft: &mut Draft) -> bool {
        if self.dirty.take_all() {
            let ids = draft.world.services().map(|s| s.id().to_owned());
            self.dirty.fleets.extend(ids);
        } else if let Some(id) = self.dirty.nodes.pop_first() {
            self.node(draft, &id);
        } else if let Some(id) = self.dirty.fleets.pop_first() {
            self.fleet(draft, &id);
        } else if let Some(key) = self.dirty.slots.pop_first() {
            self.slot(draft, &key);
        } else if let Some(id) = self.dirty.services.pop_first() {
            self.orchestrate(draft, &id);
        } else {
            while let Some(id) = self.dirty.tasks.pop_first() {
                self.sync(draft, &id);
            }
            return self.schedule(draft);
        }
        true
    }

    fn sync(&mut self, draft: &Draft, task_id: &str) {
        self.usage.sync(&draft.world, task_id, draft.now);
        self.queue.sync(&draft.world, task_id);
    }
}
