//! How a world becomes the next one.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Change, Cluster, Kind, Meta, Node, NodePatch, Object, Removal, Service, Task, TaskPatch,
    Transaction, change, object,
};

use super::World;

/// What one transaction changed, for everybody who follows the world.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The world's version after it.
    pub version: u64,
    /// The proposer's clock.
    pub at_ns: i64,
    /// In the order in which it was written.
    pub changed: Vec<Changed>,
    /// Requests that are now remembered.
    pub remembered: Vec<String>,
    /// Requests that were forgotten to make room.
    pub forgotten: Vec<String>,
}

/// One object before and after. A removal has no `after`, a creation no `before`.
#[derive(Debug, Clone)]
pub enum Changed {
    /// The cluster object.
    Cluster(Option<Arc<Cluster>>, Option<Arc<Cluster>>),
    /// A node.
    Node(Option<Arc<Node>>, Option<Arc<Node>>),
    /// A service.
    Service(Option<Arc<Service>>, Option<Arc<Service>>),
    /// A task.
    Task(Option<Arc<Task>>, Option<Arc<Task>>),
}

impl Changed {
    /// The table and id of what changed.
    pub fn key(&self) -> (Kind, &str) {
        fn either<'a, T: Identified>(b: &'a Option<Arc<T>>, a: &'a Option<Arc<T>>) -> &'a str {
            a.as_ref().or(b.as_ref()).map_or("", |o| o.id())
        }
        match self {
            Self::Cluster(b, a) => (Kind::Cluster, either(b, a)),
            Self::Node(b, a) => (Kind::Node, either(b, a)),
            Self::Service(b, a) => (Kind::Service, either(b, a)),
            Self::Task(b, a) => (Kind::Task, either(b, a)),
        }
    }

    /// The object as it is now; `None` when it was removed.
    pub fn after(&self) -> Option<Object> {
        match self {
            Self::Cluster(_, a) => a.as_ref().map(|o| (**o).clone().into()),
            Self::Node(_, a) => a.as_ref().map(|o| (**o).clone().into()),
            Self::Service(_, a) => a.as_ref().map(|o| (**o).clone().into()),
            Self::Task(_, a) => a.as_ref().map(|o| (**o).clone().into()),
        }
    }
}

impl World {
    /// Applies a transaction. The same world and the same transaction give the
    /// same result everywhere. A change of what is not there is ignored: it was
    /// removed by an earlier transaction.
    pub fn apply(&mut self, transaction: &Transaction) -> Applied {
        self.version += 1;
        let mut applied = Applied {
            at_ns: transaction.at_ns,
            ..Applied::default()
        };
        for change in &transaction.changes {
            if let Some(changed) = self.apply_one(change, transaction.at_ns) {
                applied.changed.push(changed);
            }
        }
        for outcome in &transaction.outcomes {
            applied.remembered.push(outcome.request_id.clone());
            applied
                .forgotten
                .extend(self.remember(self.version, outcome.clone()));
        }
        applied.version = self.version;
        applied
    }

    fn apply_one(&mut self, change: &Change, at_ns: i64) -> Option<Changed> {
        match change.change.as_ref()? {
            change::Change::Put(object) => self.apply_put(object, at_ns),
            change::Change::Remove(removal) => self.apply_remove(removal),
            change::Change::Task(patch) => self.patch_task(patch, at_ns),
            change::Change::Node(patch) => self.patch_node(patch, at_ns),
            change::Change::Boundary(_) => {
                self.version += 1;
                None
            }
        }
    }

    fn apply_put(&mut self, object: &Object, at_ns: i64) -> Option<Changed> {
        match object.object.as_ref()? {
            object::Object::Cluster(new) => {
                let before = self.cluster.clone();
                let mut new = new.clone();
                let same = before.as_ref().is_some_and(|b| b.spec == new.spec);
                new.meta = Some(self.stamp(before.as_deref(), new.id(), same, at_ns));
                self.put(new.into());
                Some(Changed::Cluster(before, self.cluster.clone()))
            }
            object::Object::Node(new) => {
                let before = self.nodes.get(new.id()).cloned();
                let mut new = new.clone();
                let same = before.as_ref().is_some_and(|b| b.spec == new.spec);
                new.meta = Some(self.stamp(before.as_deref(), new.id(), same, at_ns));
                let id = new.id().to_owned();
                self.put(new.into());
                Some(Changed::Node(before, self.nodes.get(&id).cloned()))
            }
            object::Object::Service(new) => {
                let before = self.services.get(new.id()).cloned();
                let mut new = new.clone();
                let same = before.as_ref().is_some_and(|b| b.spec == new.spec);
                new.meta = Some(self.stamp(before.as_deref(), new.id(), same, at_ns));
                let id = new.id().to_owned();
                self.put(new.into());
                Some(Changed::Service(before, self.services.get(&id).cloned()))
            }
            object::Object::Task(new) => {
                let before = self.tasks.get(new.id()).cloned();
                let mut new = new.clone();
                new.meta = Some(self.stamp(before.as_deref(), new.id(), true, at_ns));
                let id = new.id().to_owned();
                self.put(new.into());
                Some(Changed::Task(before, self.tasks.get(&id).cloned()))
            }
        }
    }

    /// The bookkeeping of an object that is put: the spec's version moves only
    /// when the spec did, so that progress never outdates an operator's update.
    fn stamp<T: Identified>(
        &self,
        before: Option<&T>,
        id: &str,
        same_spec: bool,
        at_ns: i64,
    ) -> Meta {
        let old = before.map(T::meta);
        Meta {
            id: id.to_owned(),
            version: match old {
                Some(old) if same_spec => old.version,
                _ => self.version,
            },
            status_version: self.version,
            created_at_ns: old.map_or(at_ns, |m| m.created_at_ns),
            updated_at_ns: at_ns,
        }
    }

    fn apply_remove(&mut self, removal: &Removal) -> Option<Changed> {
        match removal.kind() {
            Kind::Node => {
                let before = self.nodes.remove(&removal.id)?;
                self.index.node(Some(&before), None);
                Some(Changed::Node(Some(before), None))
            }
            Kind::Service => {
                let before = self.services.remove(&removal.id)?;
                self.index.service(Some(&before), None);
                Some(Changed::Service(Some(before), None))
            }
            Kind::Task => {
                let before = self.tasks.remove(&removal.id)?;
                self.index.task(Some(&before), None);
                Some(Changed::Task(Some(before), None))
            }
            Kind::Cluster | Kind::Unspecified => None,
        }
    }

    fn touch(&self, meta: &mut Option<Meta>, at_ns: i64) {
        if let Some(meta) = meta {
            meta.status_version = self.version;
            meta.updated_at_ns = at_ns;
        }
    }

    fn patch_task(&mut self, patch: &TaskPatch, at_ns: i64) -> Option<Changed> {
        let before = self.tasks.get(&patch.id).cloned()?;
        let mut task = (*before).clone();
        self.touch(&mut task.meta, at_ns);
        if let Some(status) = &patch.status {
            task.status = Some(status.clone());
        }
        if let Some(desired) = patch.desired {
            task.desired = desired;
        }
        if let Some(node_id) = &patch.node_id {
            task.node_id = node_id.clone();
        }
        if let Some(start_at_ns) = patch.start_at_ns {
            task.start_at_ns = start_at_ns;
        }
        if let Some(reservations) = &patch.reservations {
            task.reservations = Some(*reservations);
        }
        if !patch.host_ports.is_empty() {
            task.host_ports = patch.host_ports.clone();
        }
        if let Some(verdict) = &patch.verdict {
            task.verdict = Some(verdict.clone());
        }
        if patch.clear_verdict {
            task.verdict = None;
        }
        self.put(task.into());
        Some(Changed::Task(
            Some(before),
            self.tasks.get(&patch.id).cloned(),
        ))
    }

    fn patch_node(&mut self, patch: &NodePatch, at_ns: i64) -> Option<Changed> {
        let before = self.nodes.get(&patch.id).cloned()?;
        let mut node = (*before).clone();
        self.touch(&mut node.meta, at_ns);
        if let Some(status) = &patch.status {
            node.status = Some(status.clone());
        }
        if let Some(description) = &patch.description {
            node.description = Some(description.clone());
        }
        if let Some(role) = patch.role {
            node.role = role;
        }
        if let Some(manager) = &patch.manager {
            node.manager = Some(manager.clone());
        }
        if patch.clear_manager {
            node.manager = None;
        }
        if let Some(not_after) = patch.cert_not_after_ns {
            node.cert_not_after_ns = not_after;
        }
        if let Some(trust) = &patch.cert_trust {
            node.cert_trust = trust.clone();
        }
        self.put(node.into());
        Some(Changed::Node(
            Some(before),
            self.nodes.get(&patch.id).cloned(),
        ))
    }
}
