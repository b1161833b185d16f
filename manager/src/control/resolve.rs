//! From what a person calls an object to the object: its full id, its name in
//! whatever case, or the beginning of its id if only one begins so.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{Node, Service, Task};
use skep_proto::{Code, Error, Result};

use crate::state::World;

/// Matches that an error names.
const MATCHES_SHOWN_MAX: usize = 5;

/// The service that `reference` means.
pub fn service<'a>(world: &'a World, reference: &str) -> Result<&'a Arc<Service>> {
    not_empty("service", reference)?;
    if let Some(service) = world
        .service(reference)
        .or_else(|| world.service_named(reference))
    {
        return Ok(service);
    }
    let matches = world.services().filter(|s| s.id().starts_with(reference));
    one("service", reference, matches.collect(), |s| {
        s.name().to_owned()
    })
}

/// The node that `reference` means: besides its id, its hostname or the name
/// that an operator gave it.
pub fn node<'a>(world: &'a World, reference: &str) -> Result<&'a Arc<Node>> {
    not_empty("node", reference)?;
    if let Some(node) = world.node(reference) {
        return Ok(node);
    }
    let named: Vec<_> = world
        .nodes()
        .filter(|n| {
            n.hostname().eq_ignore_ascii_case(reference)
                || node_name(n).eq_ignore_ascii_case(reference)
        })
        .collect();
    if !named.is_empty() {
        return one("node", reference, named, |n| n.id().to_owned());
    }
    let matches = world.nodes().filter(|n| n.id().starts_with(reference));
    one("node", reference, matches.collect(), |n| {
        node_name(n).to_owned()
    })
}

/// The task that `reference` means: besides its id, its container's name, or
/// `web.3`, which means the newest record of that slot that has not ended.
pub fn task<'a>(world: &'a World, reference: &str) -> Result<&'a Arc<Task>> {
    not_empty("task", reference)?;
    if let Some(task) = world.task(reference) {
        return Ok(task);
    }
    if let Some((service, rest)) = reference.split_once('.')
        && let Some(service) = world.service_named(service)
    {
        let named = |task: &&Arc<Task>| {
            rest.strip_prefix(&format!("{}.", slot_of(task)))
                .is_some_and(|id| id == task.id())
                || rest.eq_ignore_ascii_case(&slot_of(task))
        };
        let newest = world
            .tasks_of_service(service.id())
            .filter(named)
            .max_by_key(|t| (!t.is_terminal(), t.is_live(), t.meta().created_at_ns));
        return newest.ok_or_else(|| Error::not_found("task", reference));
    }
    let matches = world.tasks().filter(|t| t.id().starts_with(reference));
    one("task", reference, matches.collect(), |t| t.short_name())
}

/// What a node goes by: the name an operator gave it, else its hostname.
pub fn node_name(node: &Node) -> &str {
    match &node.spec {
        Some(spec) if !spec.name.is_empty() => &spec.name,
        _ => node.hostname(),
    }
}

fn slot_of(task: &Task) -> String {
    if task.slot == 0 {
        task.node_id.clone()
    } else {
        task.slot.to_string()
    }
}

fn not_empty(kind: &str, reference: &str) -> Result<()> {
    if reference.is_empty() {
        return Err(Error::invalid(kind, format!("no {kind} is named"))
            .hint("give its id, its name, or the beginning of its id"));
    }
    Ok(())
}

fn one<'a, T: Identified>(
    kind: &str,
    reference: &str,
    matches: Vec<&'a Arc<T>>,
    name: impl Fn(&T) -> String,
) -> Result<&'a Arc<T>> {
    if let [only] = matches.as_slice() {
        return Ok(only);
    }
    if matches.is_empty() {
        return Err(Error::not_found(kind, reference));
    }
    let shown: Vec<String> = matches
        .iter()
        .take(MATCHES_SHOWN_MAX)
        .map(|o| format!("{} ({})", o.id(), name(o)))
        .collect();
    let more = if matches.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    Err(Error::new(
        Code::Ambiguous,
        format!(
            "{kind} {reference} is ambiguous ({} matches found): {}{more}",
            matches.len(),
            shown.join(", ")
        ),
    )
    .on(format!("{kind} {reference}"))
    .hint("write more of the id"))
}
