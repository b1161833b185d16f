//! A decision in the making: the world as it will be, and the changes that
//! lead there, each object changed at most once.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Change, Kind, Object, Removal, Service, Task, TaskPatch, TaskState, Transaction, change, object,
};

use super::{CHANGES_MAX, Reason};
use crate::state::{Applied, Nanos, Seed, World};

/// Changes so far, on top of a world.
pub(super) struct Draft {
    pub world: World,
    pub now: Nanos,
    pub seed: Seed,
    /// World version that the decision will have: names new templates.
    pub version: u64,
    pub reasons: Vec<Reason>,
    /// `None` where a later change undid an earlier one.
    changes: Vec<Option<Change>>,
    /// Where the change of an object is, by table and id.
    at: BTreeMap<(Kind, String), usize>,
    /// Tasks that this decision creates.
    tasks_made: u64,
}

impl Draft {
    pub fn new(world: &World, now: Nanos, seed: Seed) -> Self {
        Self {
            version: world.version() + 1,
            world: world.clone(),
            now,
            seed,
            reasons: Vec::new(),
            changes: Vec::new(),
            at: BTreeMap::new(),
            tasks_made: 0,
        }
    }

    /// An id for a new task, unlike all others.
    pub fn task_id(&mut self) -> String {
        loop {
            self.tasks_made += 1;
            let id = self.seed.id("task", &self.tasks_made.to_string());
            if self.world.task(&id).is_none() {
                return id;
            }
        }
    }

    pub fn put_task(&mut self, task: Task) -> Applied {
        self.record(task.into())
    }

    pub fn put_service(&mut self, service: Service) -> Applied {
        self.record(service.into())
    }

    /// Changes part of a task.
    pub fn patch(&mut self, patch: TaskPatch) -> Applied {
        let key = (Kind::Task, patch.id.clone());
        let place = self.at.get(&key).copied();
        let applied = self.apply(change::Change::Task(patch.clone()));
        match place.and_then(|i| self.changes.get_mut(i)) {
            Some(Some(Change {
                change: Some(change::Change::Task(earlier)),
            })) => {
                merge(earlier, patch);
            }
            // It was created by this decision: it is created as it now is.
            Some(Some(Change {
                change:
                    Some(change::Change::Put(Object {
                        object: Some(object::Object::Task(task)),
                    })),
            })) => {
                if let Some(now) = self.world.task(&patch.id) {
                    *task = (**now).clone();
                }
            }
            _ => self.push(key, change::Change::Task(patch)),
        }
        applied
    }

    pub fn remove_task(&mut self, id: &str) -> Applied {
        let removal = change::Change::Remove(Removal {
            kind: Kind::Task.into(),
            id: id.to_owned(),
        });
        let applied = self.apply(removal.clone());
        let key = (Kind::Task, id.to_owned());
        let created_here = match self.at.remove(&key).and_then(|i| self.changes.get_mut(i)) {
            Some(place) => matches!(
                place.take(),
                Some(Change {
                    change: Some(change::Change::Put(_))
                })
            ),
            None => false,
        };
        if !created_here {
            self.push(key, removal);
        }
        applied
    }

    /// Sets what is wanted of a task.
    pub fn desire(&mut self, task: &Task, desired: TaskState) -> Applied {
        self.patch(TaskPatch {
            id: task.id().to_owned(),
            desired: Some(desired.into()),
            ..TaskPatch::default()
        })
    }

    pub fn finish(self) -> (Vec<Change>, Vec<Reason>) {
        (self.changes.into_iter().flatten().collect(), self.reasons)
    }

    /// No more fits into one entry of the log.
    pub fn is_full(&self) -> bool {
        self.changes.len() >= CHANGES_MAX
    }

    fn record(&mut self, object: Object) -> Applied {
        let kind = object.kind().unwrap_or(Kind::Unspecified);
        let key = (kind, object.id().to_owned());
        let put = change::Change::Put(object);
        let applied = self.apply(put.clone());
        match self.at.get(&key).and_then(|i| self.changes.get_mut(*i)) {
            Some(place) => *place = Some(Change { change: Some(put) }),
            None => self.push(key, put),
        }
        applied
    }

    fn push(&mut self, key: (Kind, String), change: change::Change) {
        self.at.insert(key, self.changes.len());
        self.changes.push(Some(Change {
            change: Some(change),
        }));
    }

    fn apply(&mut self, change: change::Change) -> Applied {
        self.world.apply(&Transaction {
            at_ns: self.now,
            changes: vec![Change {
                change: Some(change),
            }],
            outcomes: Vec::new(),
        })
    }

    /// The service as it is now.
    pub fn service(&self, id: &str) -> Option<Arc<Service>> {
        self.world.service(id).cloned()
    }
}

/// Makes `earlier` say what both say, the later one last.
fn merge(earlier: &mut TaskPatch, later: TaskPatch) {
    let TaskPatch {
        id: _,
        status,
        desired,
        node_id,
        verdict,
        clear_verdict,
        start_at_ns,
        reservations,
        host_ports,
    } = later;
    if status.is_some() {
        earlier.status = status;
    }
    earlier.desired = desired.or(earlier.desired);
    earlier.node_id = node_id.or(earlier.node_id.take());
    if clear_verdict {
        earlier.verdict = None;
        earlier.clear_verdict = true;
    }
    if verdict.is_some() {
        earlier.verdict = verdict;
        earlier.clear_verdict = false;
    }
    earlier.start_at_ns = start_at_ns.or(earlier.start_at_ns);
    if reservations.is_some() {
        earlier.reservations = reservations;
    }
    if !host_ports.is_empty() {
        earlier.host_ports = host_ports;
    }
}
