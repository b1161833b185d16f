//! From what was applied to marks in the mailboxes of those it concerns. The
//! work is proportional to what changed, whatever the number of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{Cluster, Node, Role, Service, Task};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::assignment::{changed_templates, concerns_node, manager_addr};
use super::authorize::is_member;
use super::reign::Reign;
use crate::identity::{needs_renewal, trust_digest};
use crate::state::{Applied, Changed, World};

/// Transactions that are noted before the mailboxes are marked.
const ROUND_MAX: usize = 64;

/// Follows the feed until the reign ends. What is waiting in the feed is taken
/// together; marks are set the moment it is empty.
pub(super) async fn route(reign: Arc<Reign>, mut feed: broadcast::Receiver<Arc<Applied>>) {
    loop {
        let mut round = Round::default();
        match feed.recv().await {
            Ok(applied) => round.note(&reign.shared.follow.world(), &applied),
            Err(RecvError::Lagged(missed)) => round.lagged(missed),
            Err(RecvError::Closed) => return,
        }
        for _ in 1..ROUND_MAX {
            match feed.try_recv() {
                Ok(applied) => round.note(&reign.shared.follow.world(), &applied),
                Err(TryRecvError::Lagged(missed)) => round.lagged(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        round.deliver(&reign);
    }
}

/// The role that a node should have a new certificate for, if it should.
pub(super) fn renewal_due(world: &World, node_id: &str) -> Option<Role> {
    needs_renewal(world.cluster()?, world.node(node_id)?)
}

/// What some transactions mean for the workers.
#[derive(Debug, Default)]
struct Round {
    version: u64,
    /// Tasks to be told, by node.
    tasks: BTreeMap<String, BTreeSet<String>>,
    /// Services whose tasks were placed or removed.
    services: BTreeSet<String>,
    managers: bool,
    /// Nodes whose role, wanted or real, or trust changed.
    roles: BTreeSet<String>,
    root: bool,
    cluster: bool,
    removed: bool,
    /// Transactions were missed: everybody starts again.
    all: bool,
}

impl Round {
    fn lagged(&mut self, missed: u64) {
        tracing::warn!(
            missed,
            "dispatch fell behind: every worker gets its full set"
        );
        self.all = true;
    }

    fn note(&mut self, world: &World, applied: &Applied) {
        self.version = self.version.max(applied.version);
        for changed in &applied.changed {
            match changed {
                Changed::Task(before, after) => self.task(before.as_deref(), after.as_deref()),
                Changed::Service(Some(before), Some(after)) => self.service(world, before, after),
                Changed::Service(_, _) => {}
                Changed::Node(before, after) => self.node(before.as_deref(), after.as_deref()),
                Changed::Cluster(before, after) => {
                    self.cluster_changed(before.as_deref(), after.as_deref());
                }
            }
        }
    }

    fn task(&mut self, before: Option<&Task>, after: Option<&Task>) {
        let old = before.filter(|t| t.is_placed());
        let new = after.filter(|t| t.is_placed());
        if let (Some(old), Some(new)) = (old, new)
            && old.node_id == new.node_id
        {
            if concerns_node(old, new) {
                self.mark(&new.node_id, new);
            }
            return;
        }
        for task in [old, new].into_iter().flatten() {
            self.mark(&task.node_id, task);
            self.services.insert(task.service_id.clone());
        }
    }

    fn service(&mut self, world: &World, before: &Service, after: &Service) {
        let versions = changed_templates(before, after);
        if versions.is_empty() {
            return;
        }
        for task in world.tasks_of_service(after.id()) {
            if task.holds_resources() && versions.contains(&task.template_version) {
                self.mark(&task.node_id, task);
            }
        }
    }

    fn node(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let Some(after) = after else {
            self.removed = true;
            self.managers = true;
            return;
        };
        let addr = |node: Option<&Node>| node.and_then(manager_addr).map(str::to_owned);
        self.managers |= addr(before) != addr(Some(after));
        let certified = |node: &Node| {
            let wanted = node.spec.as_ref().map(|s| s.role);
            let trust = node.cert_trust.clone();
            (node.role, wanted, node.manager.is_some(), trust)
        };
        if before.map(certified) != Some(certified(after)) {
            self.roles.insert(after.id().to_owned());
        }
    }

    fn cluster_changed(&mut self, before: Option<&Cluster>, after: Option<&Cluster>) {
        self.root |= before.map(trust_digest) != after.map(trust_digest);
        let removed = |c: Option<&Cluster>| c.map_or(0, |c| c.removed_nodes.len());
        self.removed |= removed(before) != removed(after);
        self.cluster = true;
    }

    fn mark(&mut self, node_id: &str, task: &Task) {
        self.tasks
            .entry(node_id.to_owned())
            .or_default()
            .insert(task.id().to_owned());
    }

    fn deliver(self, reign: &Reign) {
        let world = reign.shared.follow.world();
        if self.all || self.removed {
            reign.roster.retain(|id| is_member(&world, id));
        }
        if self.all || self.cluster {
            reign.timing();
            reign.stirred.notify_one();
        }
        if self.all || self.managers || self.root {
            for (node_id, session) in reign.roster.sessions() {
                if self.all {
                    session.mailbox.resync(world.version());
                }
                if self.all || self.managers {
                    session.mailbox.managers();
                }
                if let Some(role) = renewal_due(&world, &node_id) {
                    session.mailbox.renew(role);
                }
            }
        }
        for node_id in &self.roles {
            if let Some(session) = reign.roster.session(node_id)
                && let Some(role) = renewal_due(&world, node_id)
            {
                session.mailbox.renew(role);
            }
        }
        for (node_id, tasks) in self.tasks {
            if let Some(session) = reign.roster.session(&node_id) {
                session.mailbox.mark(self.version, tasks);
            }
        }
        if self.all {
            reign.logs.refresh_all();
        } else {
            reign.logs.refresh(&self.services);
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{Change, Kind, ManagerStatus, TaskState};

    use super::*;
    use crate::dispatch::testkit::{
        apply, cluster, desire, node, place, put, put_node, put_service, put_task, remove, report,
        world_of,
    };

    fn round(world: &mut World, changes: impl IntoIterator<Item = Change>) -> Round {
        let applied = apply(world, changes);
        let mut round = Round::default();
        round.note(world, &applied);
        round
    }

    #[test]
    fn only_the_nodes_that_a_change_concerns_are_marked() {
        let mut world = world_of([
            put_service("s1", "web", 1),
            put_task("t1", "s1", "n1", 1),
            put_task("t2", "s1", "n2", 1),
            put_task("t3", "s1", "", 1),
        ]);
        let marked = round(&mut world, [report("t1", TaskState::Running)]);
        assert!(marked.tasks.is_empty() && marked.services.is_empty());
        let marked = round(&mut world, [desire("t2", TaskState::Shutdown)]);
        assert_eq!(marked.tasks.keys().collect::<Vec<_>>(), ["n2"]);
        let marked = round(&mut world, [place("t3", "n1")]);
        assert!(marked.tasks["n1"].contains("t3") && marked.services.contains("s1"));
        let marked = round(&mut world, [remove(Kind::Task, "t2")]);
        assert!(marked.tasks["n2"].contains("t2"));
        assert_eq!(marked.version, world.version());
    }

    #[test]
    fn new_registry_credentials_reach_tasks_that_have_not_ended() {
        let mut world = world_of([
            put_service("s1", "web", 1),
            put_task("t1", "s1", "n1", 1),
            put_task("t2", "s1", "n2", 1),
            report("t2", TaskState::Failed),
        ]);
        let mut service = (**world.service("s1").unwrap()).clone();
        service.templates[0].task.as_mut().unwrap().container = Some(Default::default());
        let marked = round(&mut world, [put(service)]);
        assert_eq!(marked.tasks.keys().collect::<Vec<_>>(), ["n1"]);
    }

    #[test]
    fn managers_are_told_when_their_addresses_change_and_only_then() {
        let mut world = world_of([put_node("n1")]);
        let mut manager = node("n1");
        manager.manager = Some(ManagerStatus {
            addr: "10.0.0.1:2377".to_owned(),
            ..ManagerStatus::default()
        });
        assert!(round(&mut world, [put(manager.clone())]).managers);
        manager.status = Some(skep_proto::v1::NodeStatus::default());
        assert!(!round(&mut world, [put(manager)]).managers);
        assert!(round(&mut world, [remove(Kind::Node, "n1")]).managers);
    }

    #[test]
    fn a_new_root_and_a_new_role_ask_for_certificates() {
        let mut old = node("n1");
        old.cert_trust = trust_digest(&cluster());
        let mut world = world_of([put(cluster()), put(old.clone())]);
        assert_eq!(renewal_due(&world, "n1"), None);
        let mut promoted = old.clone();
        promoted.spec.as_mut().unwrap().role = Role::Manager.into();
        assert!(round(&mut world, [put(promoted)]).roles.contains("n1"));
        assert_eq!(renewal_due(&world, "n1"), Some(Role::Manager));
        round(&mut world, [put(old)]);
        let mut rotated = cluster();
        rotated.root_ca = Some(skep_proto::v1::RootCa {
            cert_pem: b"new".to_vec(),
            ..Default::default()
        });
        assert!(round(&mut world, [put(rotated)]).root);
        assert_eq!(renewal_due(&world, "n1"), Some(Role::Worker));
    }
}
