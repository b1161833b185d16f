//! What is taken on each node: kept by task, so that hearing of a task twice
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use skep_proto::objects::Identified;
use skep_proto::v1::{PortConfig, PortMode, Task, TaskState};

use crate::state::{Nanos, World};

/// Failures that weigh on a node are not older than this.
const FAILURES_WINDOW_NS: Nanos = 5 * 60 * 1_000_000_000;
/// Fewer failures than this do not count against a node.
const FAILURES_MIN: usize = 5;
/// More failures than this of one template on one node are not remembered.
const FAILURES_MAX: usize = 20;

/// Protocol and port.
pub(super) type HostPort = (i32, u32);

/// What the tasks on one node take.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct NodeUse {
    /// Tasks that are meant to run there.
    pub live: u32,
    /// The same by service.
    pub live_of: BTreeMap<String, u32>,
    pub nano_cpus: i64,
    pub memory_bytes: i64,
    pub ports: BTreeMap<HostPort, u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Claim {
    node: String,
    service: String,
    live: bool,
    nano_cpus: i64,
    memory_bytes: i64,
    ports: BTreeSet<HostPort>,
}

/// What is taken on all nodes, and where tasks failed lately.
#[derive(Debug, Default)]
pub(in crate::engine) struct Usage {
    nodes: BTreeMap<String, NodeUse>,
    claims: BTreeMap<String, Claim>,
    /// (service, template version) to node to when its tasks failed there.
    failures: BTreeMap<(String, u64), BTreeMap<String, BTreeMap<String, Nanos>>>,
    /// Nodes where something became free since they were last asked for.
    pub freed: BTreeSet<String>,
}

static NOTHING: NodeUse = NodeUse {
    live: 0,
    live_of: BTreeMap::new(),
    nano_cpus: 0,
    memory_bytes: 0,
    ports: BTreeMap::new(),
};

impl Usage {
    pub(super) fn of(&self, node_id: &str) -> &NodeUse {
        self.nodes.get(node_id).unwrap_or(&NOTHING)
    }

    /// Failures of this template on this node that weigh on it; 0 while few.
    pub(super) fn failures(&self, service: &str, template: u64, node: &str, now: Nanos) -> usize {
        let key = (service.to_owned(), template);
        let times = self.failures.get(&key).and_then(|nodes| nodes.get(node));
        let since = now.saturating_sub(FAILURES_WINDOW_NS);
        let count = times.map_or(0, |t| t.values().filter(|at| **at > since).count());
        if count < FAILURES_MIN { 0 } else { count }
    }

    /// Takes a task as it is now; `id` alone when its record is gone.
    pub(in crate::engine) fn sync(&mut self, world: &World, id: &str, now: Nanos) {
        let before = self.claims.remove(id);
        let after = world.task(id).and_then(|task| {
            self.note_failure(task, now);
            claim(task)
        });
        if before == after {
            if let Some(claim) = before {
                self.claims.insert(id.to_owned(), claim);
            }
            return;
        }
        if let Some(before) = &before {
            self.add(before, -1);
            self.freed.insert(before.node.clone());
        }
        if let Some(after) = after {
            self.add(&after, 1);
            self.claims.insert(id.to_owned(), after);
        }
    }

    /// Forgets where tasks of a service failed.
    pub(in crate::engine) fn forget_service(&mut self, service_id: &str) {
        self.failures
            .retain(|(service, _), _| service != service_id);
    }

    fn note_failure(&mut self, task: &Task, now: Nanos) {
        if !matches!(task.state(), TaskState::Failed | TaskState::Rejected) || task.slot == 0 {
            return;
        }
        let since = now.saturating_sub(FAILURES_WINDOW_NS);
        let at = task.status.as_ref().map_or(0, |s| s.applied_at_ns);
        if at <= since || task.node_id.is_empty() {
            return;
        }
        let key = (task.service_id.clone(), task.template_version);
        let times = self
            .failures
            .entry(key)
            .or_default()
            .entry(task.node_id.clone())
            .or_default();
        times.retain(|_, at| *at > since);
        if times.len() < FAILURES_MAX {
            times.insert(task.id().to_owned(), at);
        }
    }

    fn add(&mut self, claim: &Claim, sign: i64) {
        let node = self.nodes.entry(claim.node.clone()).or_default();
        node.nano_cpus = node.nano_cpus.saturating_add(sign * claim.nano_cpus);
        node.memory_bytes = node.memory_bytes.saturating_add(sign * claim.memory_bytes);
        if claim.live {
            node.live = moved(node.live, sign);
            let of = node.live_of.entry(claim.service.clone()).or_default();
            *of = moved(*of, sign);
            if *of == 0 {
                node.live_of.remove(&claim.service);
            }
        }
        for port in &claim.ports {
            let users = node.ports.entry(*port).or_default();
            *users = moved(*users, sign);
            if *users == 0 {
                node.ports.remove(port);
            }
        }
    }
}

fn moved(count: u32, sign: i64) -> u32 {
    if sign < 0 {
        count.saturating_sub(1)
    } else {
        count.saturating_add(1)
    }
}

/// What a task takes of its node, until it has ended.
fn claim(task: &Task) -> Option<Claim> {
    if !task.holds_resources() {
        return None;
    }
    let bound = task.status.iter().flat_map(|s| &s.ports);
    let bound = bound.filter(|p| p.mode() == PortMode::Host && p.published_port != 0);
    Some(Claim {
        node: task.node_id.clone(),
        service: task.service_id.clone(),
        live: task.is_live(),
        nano_cpus: task.reserved().nano_cpus,
        memory_bytes: task.reserved().memory_bytes,
        ports: task.host_ports.iter().chain(bound).map(key).collect(),
    })
}

/// What two tasks of a node cannot have both.
pub(super) fn key(port: &PortConfig) -> HostPort {
    (port.protocol, port.published_port)
}
