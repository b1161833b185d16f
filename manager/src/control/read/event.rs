//! What has just happened, as events: one per object that changed in a way that
//! an operator would notice, in the order in which it was committed.

use std::collections::BTreeMap;

use skep_proto::Result;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Cluster, Event, FilterTerm, Kind, Node, NodeSpec, Role, Service, Task, UpdateStatus,
    event::Action,
};

use super::filter::Terms;
use crate::control::resolve;
use crate::state::{Applied, Changed, Nanos, World};

type Attributes = BTreeMap<String, String>;

/// Which events a watcher wants.
#[derive(Debug, Clone)]
pub struct EventFilter {
    terms: Terms,
    tasks: bool,
    /// Ids that the nodes and services of the filter had when it was made.
    nodes: Vec<String>,
    services: Vec<String>,
}

/// An event with what it can be chosen by.
#[derive(Debug, Clone)]
pub struct Happened {
    /// What is sent.
    pub event: Event,
    labels: BTreeMap<String, String>,
    node_id: String,
    service_id: String,
}

impl EventFilter {
    /// Reads the terms of a watch; `tasks`: task events too.
    pub fn new(
        world: &World,
        self_node_id: &str,
        terms: &[FilterTerm],
        tasks: bool,
    ) -> Result<Self> {
        let terms = Terms::new(
            terms,
            &["type", "event", "node", "service", "label", "scope"],
        )?;
        terms.words("type", &["swarm", "node", "service", "task"])?;
        terms.words("event", &["create", "update", "remove"])?;
        terms.words("scope", &["swarm"])?;
        let tasks = tasks
            || terms
                .values("type")
                .iter()
                .any(|t| t.eq_ignore_ascii_case("task"));
        let node = |reference: &String| {
            let reference = if reference == "self" {
                self_node_id
            } else {
                reference
            };
            resolve::node(world, reference)
                .map_or_else(|_| reference.to_owned(), |n| n.id().to_owned())
        };
        // What is not there yet may be made under that name while it is watched.
        let service = |reference: &String| {
            resolve::service(world, reference)
                .map_or_else(|_| reference.clone(), |s| s.id().to_owned())
        };
        Ok(Self {
            nodes: terms.values("node").iter().map(node).collect(),
            services: terms.values("service").iter().map(service).collect(),
            terms,
            tasks,
        })
    }

    /// Whether the watcher wants this one.
    pub fn wants(&self, happened: &Happened) -> bool {
        let event = &happened.event;
        let name = event.attributes.get("name");
        let is = |ids: &[String], id: &str, kind: Kind| {
            ids.iter().any(|wanted| {
                (!id.is_empty() && wanted == id)
                    || (event.kind() == kind
                        && name.is_some_and(|n| n.eq_ignore_ascii_case(wanted)))
            })
        };
        (self.tasks || event.kind() != Kind::Task)
            && self
                .terms
                .any("type", |t| event.kind().word().eq_ignore_ascii_case(t))
            && self
                .terms
                .any("event", |a| word(event.action()).eq_ignore_ascii_case(a))
            && self.terms.labels("label", Some(&happened.labels))
            && (self.nodes.is_empty() || is(&self.nodes, &happened.node_id, Kind::Node))
            && (self.services.is_empty() || is(&self.services, &happened.service_id, Kind::Service))
    }
}

/// The events of one transaction.
pub fn events(applied: &Applied) -> impl Iterator<Item = Happened> + '_ {
    applied.changed.iter().filter_map(|changed| {
        let mut happened = match changed {
            Changed::Cluster(before, after) => cluster(before.as_deref(), after.as_deref()),
            Changed::Node(before, after) => node(before.as_deref(), after.as_deref()),
            Changed::Service(before, after) => service(before.as_deref(), after.as_deref()),
            Changed::Task(before, after) => task(before.as_deref(), after.as_deref()),
        }?;
        let (kind, id) = changed.key();
        happened.event.kind = kind.into();
        happened.event.id = id.to_owned();
        happened.event.at_ns = applied.at_ns;
        happened.event.version = applied.version;
        Some(happened)
    })
}

/// The events of another manager leading: the nodes of both, if there are two.
pub fn leader_events(world: &World, old: &str, new: &str, at_ns: Nanos) -> Vec<Happened> {
    let one = |id: &str, leads: bool| {
        let node = world.node(id)?;
        let mut attributes = Attributes::new();
        changed(
            &mut attributes,
            "leader",
            (!leads).to_string(),
            leads.to_string(),
        );
        let mut happened = of_node(node, Action::Update, attributes);
        happened.event.id = id.to_owned();
        happened.event.kind = Kind::Node.into();
        happened.event.at_ns = at_ns;
        happened.event.version = world.version();
        Some(happened)
    };
    [(old, false), (new, true)]
        .into_iter()
        .filter(|_| old != new)
        .filter_map(|(id, leads)| one(id, leads))
        .collect()
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Remove => "remove",
    }
}

fn changed(
    attributes: &mut Attributes,
    what: &str,
    old: impl Into<String>,
    new: impl Into<String>,
) {
    let (old, new) = (old.into(), new.into());
    if old != new {
        attributes.insert(format!("{what}.old"), old);
        attributes.insert(format!("{what}.new"), new);
    }
}

fn happened(action: Action, attributes: Attributes, labels: BTreeMap<String, String>) -> Happened {
    Happened {
        event: Event {
            action: action.into(),
            attributes,
            ..Event::default()
        },
        labels,
        node_id: String::new(),
        service_id: String::new(),
    }
}

/// The object that an event is about and the one before it: `None` when there is
/// neither, or when nothing worth telling changed.
fn pair<'a, T>(
    before: Option<&'a T>,
    after: Option<&'a T>,
) -> Option<(Action, &'a T, Option<&'a T>)> {
    match (before, after) {
        (None, Some(new)) => Some((Action::Create, new, None)),
        (Some(old), Some(new)) => Some((Action::Update, new, Some(old))),
        (Some(old), None) => Some((Action::Remove, old, None)),
        (None, None) => None,
    }
}

fn cluster(before: Option<&Cluster>, after: Option<&Cluster>) -> Option<Happened> {
    let (action, cluster, old) = pair(before, after)?;
    if old.is_some_and(|old| {
        old.spec == cluster.spec
            && old.root_ca == cluster.root_ca
            && old.join_tokens == cluster.join_tokens
    }) {
        return None;
    }
    let spec = cluster.spec.clone().unwrap_or_default();
    let attributes = [("name".to_owned(), spec.name)].into();
    Some(happened(action, attributes, spec.labels))
}

fn node(before: Option<&Node>, after: Option<&Node>) -> Option<Happened> {
    let (action, node, old) = pair(before, after)?;
    let mut attributes = Attributes::new();
    if let Some(old) = old {
        let role = |n: &Node| n.spec.as_ref().map_or(Role::Worker, NodeSpec::role).word();
        changed(
            &mut attributes,
            "availability",
            old.availability().word(),
            node.availability().word(),
        );
        changed(&mut attributes, "role", role(old), role(node));
        changed(
            &mut attributes,
            "state",
            old.state().word(),
            node.state().word(),
        );
        let same = old.spec == node.spec
            && old.description == node.description
            && old.manager == node.manager
            && old.role == node.role;
        if same && attributes.is_empty() {
            return None;
        }
    }
    Some(of_node(node, action, attributes))
}

fn of_node(node: &Node, action: Action, mut attributes: Attributes) -> Happened {
    attributes.insert("name".to_owned(), resolve::node_name(node).to_owned());
    let labels = node
        .spec
        .as_ref()
        .map(|s| s.labels.clone())
        .unwrap_or_default();
    Happened {
        node_id: node.id().to_owned(),
        ..happened(action, attributes, labels)
    }
}

fn service(before: Option<&Service>, after: Option<&Service>) -> Option<Happened> {
    let (action, service, old) = pair(before, after)?;
    let mut attributes = Attributes::new();
    if let Some(old) = old {
        let image = |s: &Service| {
            let container = s.spec.as_ref().and_then(|spec| spec.container());
            container.map_or("", |c| c.image.as_str()).to_owned()
        };
        let update = |s: &Service| {
            s.update_status
                .as_ref()
                .map(UpdateStatus::state)
                .map_or("", Words::word)
        };
        changed(&mut attributes, "image", image(old), image(service));
        changed(
            &mut attributes,
            "replicas",
            old.replicas().to_string(),
            service.replicas().to_string(),
        );
        changed(&mut attributes, "updatestate", update(old), update(service));
        // Templates that are tidied away are nobody's news.
        if old.spec == service.spec && old.update_status == service.update_status {
            return None;
        }
    }
    attributes.insert("name".to_owned(), service.name().to_owned());
    let labels = service
        .spec
        .as_ref()
        .map(|s| s.labels.clone())
        .unwrap_or_default();
    Some(Happened {
        service_id: service.id().to_owned(),
        ..happened(action, attributes, labels)
    })
}

fn task(before: Option<&Task>, after: Option<&Task>) -> Option<Happened> {
    let (action, task, old) = pair(before, after)?;
    let mut attributes = Attributes::new();
    if let Some(old) = old {
        let error = |t: &Task| {
            t.status
                .as_ref()
                .map(|s| s.error.clone())
                .unwrap_or_default()
        };
        changed(
            &mut attributes,
            "state",
            old.state().word(),
            task.state().word(),
        );
        changed(
            &mut attributes,
            "desired",
            old.desired().word(),
            task.desired().word(),
        );
        changed(&mut attributes, "node", &*old.node_id, &*task.node_id);
        changed(&mut attributes, "error", error(old), error(task));
        if attributes.is_empty() && old.status == task.status && old.verdict == task.verdict {
            return None;
        }
    }
    attributes.insert("name".to_owned(), task.name());
    attributes.insert("service".to_owned(), task.service_id.clone());
    attributes.insert("state".to_owned(), task.state().word().to_owned());
    attributes.insert("desired".to_owned(), task.desired().word().to_owned());
    if !task.node_id.is_empty() {
        attributes.insert("node".to_owned(), task.node_id.clone());
    }
    Some(Happened {
        node_id: task.node_id.clone(),
        service_id: task.service_id.clone(),
        ..happened(action, attributes, BTreeMap::new())
    })
}
