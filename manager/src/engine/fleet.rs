//! What is known of each slot of a service, so that scaling and rolling updates
//! need not look at every task: kept by slot, rebuilt whenever one changes.

use std::collections::{BTreeMap, BTreeSet};

use skep_proto::objects::Identified;
use skep_proto::v1::{NodeState, Service, Task, TaskState};
use std::sync::Arc;

use super::draft::Draft;
use super::orchestrate::takes_part;
use super::schedule::filter::Wants;
use super::slot::{ended_by_itself, is_outdated, records};
use super::{Engine, update};
use crate::state::{Nanos, SlotKey};

/// One slot in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Summary {
    /// It counts as one of the replicas.
    occupied: bool,
    turn: Turn,
    templates: BTreeSet<u64>,
}

/// Where a slot is in the rolling update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing to do.
    Current,
    /// Waits for its turn.
    Outdated,
    /// Waits for its turn, and for its node to be heard of again.
    Unreachable,
    /// Its new task does not run yet.
    InFlight,
    /// Its new task ran, or ended, at this time.
    Done(Nanos),
}

/// The slots of one service.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    summaries: BTreeMap<SlotKey, Summary>,
    pub occupied: BTreeSet<SlotKey>,
    pub outdated: BTreeSet<SlotKey>,
    pub unreachable: BTreeSet<SlotKey>,
    pub in_flight: BTreeSet<SlotKey>,
    pub done: BTreeSet<(Nanos, SlotKey)>,
    /// Template version to the number of slots with a record of it.
    pub templates: BTreeMap<u64, usize>,
}

/// All fleets, by service.
pub(super) type Fleets = BTreeMap<String, Fleet>;

impl Fleet {
    /// Says whether anything is another than before.
    fn set(&mut self, key: &SlotKey, new: Option<Summary>) -> bool {
        let old = self.summaries.get(key);
        if old == new.as_ref() {
            return false;
        }
        if let Some(old) = self.summaries.remove(key) {
            self.occupied.remove(key);
            self.outdated.remove(key);
            self.unreachable.remove(key);
            self.in_flight.remove(key);
            if let Turn::Done(at) = old.turn {
                self.done.remove(&(at, key.clone()));
            }
            for template in old.templates {
                if let Some(count) = self.templates.get_mut(&template) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.templates.remove(&template);
                    }
                }
            }
        }
        let Some(new) = new else { return true };
        if new.occupied {
            self.occupied.insert(key.clone());
        }
        match new.turn {
            Turn::Current => {}
            Turn::Outdated => {
                self.outdated.insert(key.clone());
            }
            Turn::Unreachable => {
                self.unreachable.insert(key.clone());
            }
            Turn::InFlight => {
                self.in_flight.insert(key.clone());
            }
            Turn::Done(at) => {
                self.done.insert((at, key.clone()));
            }
        }
        for template in &new.templates {
            *self.templates.entry(*template).or_default() += 1;
        }
        self.summaries.insert(key.clone(), new);
        true
    }
}

impl Engine {
    /// Notes what has become of a slot.
    pub(super) fn summarise(&mut self, draft: &Draft, key: &SlotKey) {
        let records = records(&draft.world, key);
        let service = draft.service(&key.service_id);
        let summary = match &service {
            Some(service) if !records.is_empty() => Some(summary(draft, service, key, &records)),
            _ => None,
        };
        let fleet = self.fleets.entry(key.service_id.clone()).or_default();
        if fleet.set(key, summary) {
            self.dirty.services.insert(key.service_id.clone());
        }
        if service.is_none() && fleet.summaries.is_empty() {
            self.fleets.remove(&key.service_id);
            self.usage.forget_service(&key.service_id);
        }
    }
}

fn summary(draft: &Draft, service: &Service, key: &SlotKey, records: &[Arc<Task>]) -> Summary {
    Summary {
        occupied: records.iter().any(|t| t.desired() != TaskState::Remove),
        turn: turn(draft, service, key, records),
        templates: records.iter().map(|t| t.template_version).collect(),
    }
}

fn turn(draft: &Draft, service: &Service, key: &SlotKey, records: &[Arc<Task>]) -> Turn {
    let wants = Wants::new(service, service.template_version);
    let outdated = |task: &Task| is_outdated(&draft.world, service, &wants, task);
    if let Some(began) = update::began(service) {
        let made = |t: &&Arc<Task>| {
            t.template_version == service.template_version
                && t.meta().created_at_ns >= began
                && t.desired() != TaskState::Remove
        };
        let at = |t: &Arc<Task>| t.status.as_ref().map_or(0, |s| s.applied_at_ns);
        // One that was stopped on the way proves nothing: its node was lost.
        let through = |t: &&Arc<Task>| {
            ended_by_itself(t)
                || (t.state() == TaskState::Running && t.desired() <= TaskState::Running)
        };
        if let Some(done) = records.iter().filter(made).filter(through).map(at).min() {
            return Turn::Done(done);
        }
        if records.iter().any(|t| made(&t) && t.is_live()) {
            return Turn::InFlight;
        }
    }
    let live: Vec<&Arc<Task>> = records.iter().filter(|t| t.is_live()).collect();
    let wanted = key.slot != 0
        || draft
            .world
            .node(&key.node_id)
            .is_some_and(|n| takes_part(service, n));
    let Some(task) = live.first() else {
        let last = records.iter().rfind(|t| t.desired() != TaskState::Remove);
        let behind = last.is_some_and(|t| t.template_version != service.template_version);
        return if behind && wanted {
            Turn::Outdated
        } else {
            Turn::Current
        };
    };
    // Its turn has been: the new task failed for good, and the old one stays.
    let tried = records
        .iter()
        .rfind(|t| t.desired() != TaskState::Remove)
        .is_some_and(|t| t.template_version == service.template_version && ended_by_itself(t));
    if tried || !live.iter().all(|t| outdated(t)) || !wanted {
        return Turn::Current;
    }
    let heard_of = |id: &str| {
        id.is_empty()
            || draft
                .world
                .node(id)
                .is_none_or(|n| matches!(n.state(), NodeState::Ready | NodeState::Down))
    };
    if heard_of(&task.node_id) {
        Turn::Outdated
    } else {
        Turn::Unreachable
    }
}
