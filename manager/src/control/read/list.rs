//! One object by what it is called, and all that fit some filters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    GetRequest, Kind, ListRequest, ListResponse, Node, NodeSpec, Object, Role, Service, Task,
    TaskState,
};
use skep_proto::{Error, Result};

use super::View;
use super::filter::Terms;
use crate::control::resolve;
use crate::state::World;

const SELF: &str = "self";

/// One object.
pub fn get(world: &World, view: &View, request: &GetRequest) -> Result<Object> {
    let reference = request.reference.as_str();
    Ok(match kind(request.kind)? {
        Kind::Cluster => view.object((**founded(world)?).clone()),
        Kind::Node => view.object((**node(world, view, reference)?).clone()),
        Kind::Service => view.object((**resolve::service(world, reference)?).clone()),
        Kind::Task => view.object((**resolve::task(world, reference)?).clone()),
        Kind::Unspecified => return Err(no_kind()),
    })
}

/// Every object of one kind that fits, in the order of ids.
pub fn list(world: &World, view: &View, request: &ListRequest) -> Result<ListResponse> {
    let objects: Vec<Object> = match kind(request.kind)? {
        Kind::Cluster => {
            Terms::new(&request.filters, &[])?;
            vec![view.object((**founded(world)?).clone())]
        }
        Kind::Node => nodes(world, request)?
            .map(|n| view.object((**n).clone()))
            .collect(),
        Kind::Service => services(world, request)?
            .map(|s| view.object((**s).clone()))
            .collect(),
        Kind::Task => tasks(world, view, request)?
            .into_iter()
            .map(|t| view.object((**t).clone()))
            .collect(),
        Kind::Unspecified => return Err(no_kind()),
    };
    Ok(ListResponse {
        objects,
        version: world.version(),
    })
}

fn kind(value: i32) -> Result<Kind> {
    Kind::try_from(value).map_err(|_| no_kind())
}

fn no_kind() -> Error {
    Error::invalid("kind", "is not a kind of object that there is")
        .hint("it can be swarm, node, service, task")
}

fn founded(world: &World) -> Result<&Arc<skep_proto::v1::Cluster>> {
    world.cluster().ok_or_else(|| {
        Error::unavailable("this manager does not know its swarm yet")
            .hint("ask another manager, or again in a moment")
    })
}

fn node<'a>(world: &'a World, view: &View, reference: &str) -> Result<&'a Arc<Node>> {
    let reference = if reference == SELF {
        &view.self_node_id
    } else {
        reference
    };
    resolve::node(world, reference)
}

fn nodes<'a>(
    world: &'a World,
    request: &ListRequest,
) -> Result<impl Iterator<Item = &'a Arc<Node>>> {
    let terms = Terms::new(
        &request.filters,
        &["id", "name", "label", "node.label", "role", "membership"],
    )?;
    terms.words("role", &[Role::Worker.word(), Role::Manager.word()])?;
    terms.words("membership", &["accepted", "pending"])?;
    Ok(world.nodes().filter(move |node| {
        let spec = node.spec.as_ref();
        let engine = node.description.as_ref().and_then(|d| d.engine.as_ref());
        let role = spec.map_or(Role::Worker, NodeSpec::role).word();
        terms.prefix("id", node.id())
            && (terms.prefix("name", node.hostname())
                || terms.prefix("name", resolve::node_name(node)))
            && terms.labels("label", engine.map(|e| &e.labels))
            && terms.labels("node.label", spec.map(|s| &s.labels))
            && terms.any("role", |wanted| role.eq_ignore_ascii_case(wanted))
            && terms.any("membership", |wanted| {
                wanted.eq_ignore_ascii_case("accepted")
            })
    }))
}

fn services<'a>(
    world: &'a World,
    request: &ListRequest,
) -> Result<impl Iterator<Item = &'a Arc<Service>>> {
    let terms = Terms::new(
        &request.filters,
        &["id", "name", "label", "mode", "runtime"],
    )?;
    terms.words(
        "mode",
        &["replicated", "global", "replicated-job", "global-job"],
    )?;
    terms.words("runtime", RUNTIMES)?;
    Ok(world.services().filter(move |service| {
        let mode = if service.is_global() {
            "global"
        } else {
            "replicated"
        };
        terms.prefix("id", service.id())
            && terms.prefix("name", service.name())
            && terms.labels("label", service.spec.as_ref().map(|s| &s.labels))
            && terms.any("mode", |wanted| mode.eq_ignore_ascii_case(wanted))
            && terms.any("runtime", is_container)
    }))
}

const RUNTIMES: &[&str] = &["container", "plugin"];

fn is_container(runtime: &str) -> bool {
    runtime.eq_ignore_ascii_case("container")
}

fn tasks<'a>(world: &'a World, view: &View, request: &ListRequest) -> Result<Vec<&'a Arc<Task>>> {
    let terms = Terms::new(
        &request.filters,
        &[
            "id",
            "name",
            "label",
            "service",
            "node",
            "desired-state",
            "runtime",
            "_up-to-date",
        ],
    )?;
    terms.words("runtime", RUNTIMES)?;
    terms.words("_up-to-date", &["true", "false", "1", "0"])?;
    let states: Vec<&str> = TaskState::ALL.iter().map(|(_, word)| *word).collect();
    terms.words("desired-state", &states)?;
    let of_services = services_meant(world, terms.values("service"))?;
    let mut on_nodes = BTreeSet::new();
    for reference in terms.values("node") {
        on_nodes.insert(node(world, view, reference)?.id().to_owned());
    }
    // The narrowest table first: a service's tasks, or a node's, are few.
    let candidates: Vec<&Arc<Task>> = if !terms.values("service").is_empty() {
        of_services
            .iter()
            .flat_map(|id| world.tasks_of_service(id))
            .collect()
    } else if !on_nodes.is_empty() {
        on_nodes
            .iter()
            .flat_map(|id| world.tasks_on_node(id))
            .collect()
    } else {
        world.tasks().collect()
    };
    let mut labels: BTreeMap<&str, bool> = BTreeMap::new();
    let mut fit: Vec<&Arc<Task>> = candidates
        .into_iter()
        .filter(|task| {
            let service = world.service(&task.service_id);
            let labelled = *labels.entry(&task.service_id).or_insert_with(|| {
                terms.labels(
                    "label",
                    service.and_then(|s| s.spec.as_ref()).map(|s| &s.labels),
                )
            });
            let current = service.is_some_and(|s| s.template_version == task.template_version);
            labelled
                && terms.prefix("id", task.id())
                && terms.prefix("name", &task.name())
                && (on_nodes.is_empty() || on_nodes.contains(&task.node_id))
                && terms.any("desired-state", |word| {
                    TaskState::from_word(word) == Some(task.desired())
                })
                && terms.any("runtime", is_container)
                && terms.any("_up-to-date", |wanted| {
                    current == matches!(wanted, "true" | "1")
                })
        })
        .collect();
    fit.sort_by(|a, b| a.id().cmp(b.id()));
    fit.dedup_by(|a, b| a.id() == b.id());
    Ok(fit)
}

/// Ids of the services that are meant; a service that is gone is found by its
/// whole id for as long as it has task records.
fn services_meant(world: &World, references: &[String]) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for reference in references {
        let gone = || world.tasks_of_service(reference).next().is_some();
        match resolve::service(world, reference) {
            Ok(service) => ids.insert(service.id().to_owned()),
            Err(_) if gone() => ids.insert(reference.clone()),
            Err(error) => return Err(error),
        };
    }
    Ok(ids)
}
