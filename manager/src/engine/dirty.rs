//! What has to be looked at, and when. Marks cost what the change costs.

use std::collections::{BTreeMap, BTreeSet};

use skep_proto::objects::Identified;
use skep_proto::v1::{Cluster, Node, NodeState, Service, Task, TaskState};

use crate::state::{Applied, Changed, Nanos, SlotKey, World};

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    Slot(SlotKey),
    Service(String),
    Node(String),
}

/// Marks since the last decision.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Nodes whose tasks may have to move.
    pub nodes: BTreeSet<String>,
    /// Services all of whose slots may be concerned.
    pub fleets: BTreeSet<String>,
    pub slots: BTreeSet<SlotKey>,
    /// Services whose number of tasks or rolling update may go on.
    pub services: BTreeSet<String>,
    /// Tasks whose use of a node, or wait for one, may be another.
    pub tasks: BTreeSet<String>,
    /// Nodes that may take tasks which they refused before.
    pub placing: BTreeSet<String>,
    /// Nodes that were down and are back.
    pub returned: BTreeSet<String>,
    /// Tasks that their node should no longer have.
    pub unfit: BTreeSet<String>,
    /// When a task that ended had begun to run.
    pub ran_since: BTreeMap<String, Nanos>,
    timers: BTreeSet<(Nanos, Wake)>,
    due: BTreeMap<Wake, Nanos>,
    all: bool,
}

impl Dirty {
    /// Everything, as a new leader finds it.
    pub fn everything(world: &World) -> Self {
        let mut dirty = Self::default();
        let down = world.nodes().filter(|n| n.state() == NodeState::Down);
        dirty.nodes.extend(down.map(|n| n.id().to_owned()));
        dirty
            .placing
            .extend(world.nodes().map(|n| n.id().to_owned()));
        dirty
            .fleets
            .extend(world.services().map(|s| s.id().to_owned()));
        for task in world.tasks() {
            dirty.tasks.insert(task.id().to_owned());
            dirty.slots.insert(SlotKey::of(task));
        }
        dirty
    }

    pub fn observe(&mut self, applied: &Applied) {
        for changed in &applied.changed {
            match changed {
                Changed::Cluster(before, after) => {
                    self.cluster(before.as_deref(), after.as_deref());
                }
                Changed::Node(before, after) => self.node(before.as_deref(), after.as_deref()),
                Changed::Service(before, after) => {
                    self.service(before.as_deref(), after.as_deref());
                }
                Changed::Task(before, after) => self.task(before.as_deref(), after.as_deref()),
            }
        }
    }

    fn cluster(&mut self, before: Option<&Cluster>, after: Option<&Cluster>) {
        let limit = |c: Option<&Cluster>| c.map(super::reap::history_limit);
        if limit(before) != limit(after) {
            self.all = true;
        }
    }

    fn node(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let Some(node) = after.or(before) else { return };
        let same = match (before, after) {
            (Some(b), Some(a)) => same_for_tasks(b, a),
            _ => false,
        };
        if same {
            return;
        }
        self.nodes.insert(node.id().to_owned());
        self.placing.insert(node.id().to_owned());
        let was_down = before.is_some_and(|n| n.state() == NodeState::Down);
        if was_down && after.is_some_and(|n| n.state() == NodeState::Ready) {
            self.returned.insert(node.id().to_owned());
        }
    }

    fn service(&mut self, before: Option<&Service>, after: Option<&Service>) {
        let Some(service) = after.or(before) else {
            return;
        };
        let began = |s: &Service| s.update_status.as_ref().map(|u| u.started_at_ns);
        let task = |s: &'_ Service| s.spec.as_ref().map(|spec| spec.task.clone());
        let same = match (before, after) {
            (Some(b), Some(a)) => {
                b.template_version == a.template_version
                    && began(b) == began(a)
                    && (b.spec == a.spec || task(b) == task(a))
            }
            _ => false,
        };
        if !same {
            self.fleets.insert(service.id().to_owned());
        }
        self.services.insert(service.id().to_owned());
    }

    fn task(&mut self, before: Option<&Task>, after: Option<&Task>) {
        for task in [before, after].into_iter().flatten() {
            self.slots.insert(SlotKey::of(task));
            self.tasks.insert(task.id().to_owned());
        }
        if let (Some(before), Some(after)) = (before, after)
            && before.state() == TaskState::Running
            && after.is_terminal()
        {
            let since = before.status.as_ref().map_or(0, |s| s.applied_at_ns);
            self.ran_since.insert(after.id().to_owned(), since);
        }
    }

    /// Looks at it again at `at`, or earlier if that was said before.
    pub fn wake(&mut self, at: Nanos, what: Wake) {
        let at = self.due.get(&what).map_or(at, |earlier| at.min(*earlier));
        self.let_sleep(&what);
        self.due.insert(what.clone(), at);
        self.timers.insert((at, what));
    }

    /// It is being looked at: what it waited for is said anew.
    pub fn let_sleep(&mut self, what: &Wake) {
        if let Some(at) = self.due.remove(what) {
            self.timers.remove(&(at, what.clone()));
        }
    }

    /// Marks what is due.
    pub fn fire(&mut self, now: Nanos) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let what = self.timers.pop_first().map(|(_, what)| what);
            if let Some(what) = &what {
                self.due.remove(what);
            }
            match what {
                Some(Wake::Slot(key)) => {
                    self.slots.insert(key);
                }
                Some(Wake::Service(id)) => {
                    self.services.insert(id);
                }
                Some(Wake::Node(id)) => {
                    self.nodes.insert(id);
                }
                None => break,
            }
        }
    }

    pub fn next_timer(&self) -> Option<Nanos> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether everything is to be looked at; asked once.
    pub fn take_all(&mut self) -> bool {
        std::mem::take(&mut self.all)
    }

    /// Forgets what was of interest to one decision only.
    pub fn settle(&mut self) {
        if self.slots.is_empty() {
            self.returned.clear();
            self.unfit.clear();
            self.ran_since.clear();
        }
    }
}

/// Nothing changed that a task on the node, or one that wants to be, depends on.
fn same_for_tasks(before: &Node, after: &Node) -> bool {
    let addr = |n: &Node| n.status.as_ref().map(|s| s.addr.clone());
    before.state() == after.state()
        && before.spec == after.spec
        && before.role == after.role
        && before.description == after.description
        && addr(before) == addr(after)
}
