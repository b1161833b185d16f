//! Tables and look-ups. How they change is in [`super::apply`].

use std::sync::Arc;

use imbl::OrdMap;
use skep_proto::objects::Identified;
use skep_proto::v1::{Cluster, Node, Object, Outcome, Service, Task};

use super::index::{Index, SlotKey};

/// Answers to requests that are remembered, so that a retry applies once. At
/// 500 writes a second this spans 20 s, more than any caller's deadline.
pub const OUTCOMES_MAX: usize = 10_000;

/// Everything that the swarm knows. A clone costs a few pointers and shares
/// what neither side changes afterwards.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub(super) version: u64,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) nodes: OrdMap<String, Arc<Node>>,
    pub(super) services: OrdMap<String, Arc<Service>>,
    pub(super) tasks: OrdMap<String, Arc<Task>>,
    pub(super) index: Index,
    /// Request id to the world version that answered it, and the answer.
    pub(super) outcomes: OrdMap<String, (u64, Arc<Outcome>)>,
    /// The same by age: (version, request id).
    pub(super) outcome_ages: OrdMap<(u64, String), ()>,
}

impl World {
    /// The number of transactions that made this world.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The cluster, once it has been founded.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The node with this id.
    pub fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    /// Every node, by id.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The service with this id.
    pub fn service(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.get(id)
    }

    /// The service with this name, in whatever case.
    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        let id = self.index.service_by_name.get(&name.to_lowercase())?;
        self.services.get(id)
    }

    /// Every service, by id.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The task with this id.
    pub fn task(&self, id: &str) -> Option<&Arc<Task>> {
        self.tasks.get(id)
    }

    /// Every task record, by id.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// How many task records there are.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Nodes with this hostname, in whatever case.
    pub fn nodes_named<'a>(
        &'a self,
        hostname: &str,
    ) -> impl Iterator<Item = &'a Arc<Node>> + use<'a> {
        let ids = self.index.nodes_by_hostname.get(&hostname.to_lowercase());
        ids.into_iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.nodes.get(id))
    }

    /// Every task record of a service, old ones too.
    pub fn tasks_of_service<'a>(
        &'a self,
        service_id: &str,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let ids = self.index.tasks_by_service.get(service_id);
        ids.into_iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.tasks.get(id))
    }

    /// Every task record that was placed on a node.
    pub fn tasks_on_node<'a>(
        &'a self,
        node_id: &str,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let ids = self.index.tasks_by_node.get(node_id);
        ids.into_iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.tasks.get(id))
    }

    /// Every task record of one slot.
    pub fn tasks_in_slot<'a>(
        &'a self,
        slot: &SlotKey,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let ids = self.index.tasks_by_slot.get(slot);
        ids.into_iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.tasks.get(id))
    }

    /// Slots of a service that have at least one record.
    pub fn slots_of_service<'a>(
        &'a self,
        service_id: &str,
    ) -> impl Iterator<Item = &'a SlotKey> + use<'a> {
        let from = SlotKey {
            service_id: service_id.to_owned(),
            slot: 0,
            node_id: String::new(),
        };
        let service_id = service_id.to_owned();
        self.index
            .tasks_by_slot
            .range(from..)
            .map(|(key, _)| key)
            .take_while(move |key| key.service_id == service_id)
    }

    /// What a request was told, if it was answered and is still remembered.
    pub fn outcome(&self, request_id: &str) -> Option<&Arc<Outcome>> {
        self.outcomes.get(request_id).map(|(_, outcome)| outcome)
    }

    /// Every object of every table, tables in order, ids in order.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let cluster = self.cluster.iter().map(|c| Object::from((**c).clone()));
        let nodes = self.nodes.values().map(|n| Object::from((**n).clone()));
        let services = self.services.values().map(|s| Object::from((**s).clone()));
        let tasks = self.tasks.values().map(|t| Object::from((**t).clone()));
        cluster.chain(nodes).chain(services).chain(tasks)
    }

    pub(super) fn put(&mut self, object: Object) -> Option<()> {
        use skep_proto::v1::object::Object as O;
        match object.object? {
            O::Cluster(cluster) => self.cluster = Some(Arc::new(cluster)),
            O::Node(node) => {
                let (id, node) = (node.id().to_owned(), Arc::new(node));
                let before = self.nodes.insert(id, node.clone());
                self.index.node(before.as_ref(), Some(&node));
            }
            O::Service(service) => {
                let (id, service) = (service.id().to_owned(), Arc::new(service));
                let before = self.services.insert(id, service.clone());
                self.index.service(before.as_ref(), Some(&service));
            }
            O::Task(task) => {
                let (id, task) = (task.id().to_owned(), Arc::new(task));
                let before = self.tasks.insert(id, task.clone());
                self.index.task(before.as_ref(), Some(&task));
            }
        }
        Some(())
    }

    pub(super) fn remember(&mut self, version: u64, outcome: Outcome) -> Option<String> {
        let id = outcome.request_id.clone();
        if let Some((old, _)) = self
            .outcomes
            .insert(id.clone(), (version, Arc::new(outcome)))
        {
            self.outcome_ages.remove(&(old, id.clone()));
        }
        self.outcome_ages.insert((version, id), ());
        if self.outcomes.len() <= OUTCOMES_MAX {
            return None;
        }
        let oldest = self.outcome_ages.get_min()?.0.clone();
        self.outcome_ages.remove(&oldest);
        self.outcomes.remove(&oldest.1);
        Some(oldest.1)
    }
}
