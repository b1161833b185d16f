//! Nodes: how one joins, what an operator wants of it, and which role it has.
//!
//! `spec.role` is what the operator wants; `role` is what the node's newest
//! certificate says; `manager` is set while it is in the Raft group.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    CertificateIssued, Kind, ManagerStatus, Node, NodePatch, NodeSpec, NodeState, NodeStatus,
    RegisterNode, Role, SetManager, UpdateNode,
};
use skep_proto::{Code, Error, Result};

use super::{Context, Execution, patch_node, put, same_version};
use crate::control::resolve;
use crate::identity::{trust_digest, wanted_role};
use crate::state::{cluster, node};

/// What the operator wants of a node from now on.
pub(super) fn update(context: &Context<'_>, verb: &UpdateNode) -> Result<Execution> {
    let found = resolve::node(context.world, &verb.node)?;
    let name = resolve::node_name(found);
    let object = format!("node {name}");
    same_version(
        &object,
        &format!("skep node inspect {name}"),
        found.meta().version,
        verb.version,
    )?;
    let spec = verb
        .spec
        .as_ref()
        .ok_or_else(|| Error::invalid("spec", "is missing").on(object.as_str()))?;
    node::validate(spec).map_err(|e| e.on(object.as_str()))?;
    if let Some(other) = same_name(context, found, &spec.name) {
        return Err(Error::new(
            Code::Exists,
            format!(
                "name {} conflicts with an existing object: node {} has it",
                spec.name,
                other.id()
            ),
        )
        .at("name")
        .on(object));
    }
    let wanted = |n: &Node| n.spec.as_ref().map_or(Role::Worker, NodeSpec::role);
    if wanted(found) == Role::Manager && spec.role() == Role::Worker {
        let managers = context.world.nodes().filter(|n| wanted(n) == Role::Manager);
        if managers.count() <= 1 {
            return Err(
                Error::precondition("attempting to demote the last manager of the swarm")
                    .on(object)
                    .hint("promote another node first: skep node promote NODE"),
            );
        }
    }
    let changes = if found.spec.as_ref() == Some(spec) {
        Vec::new()
    } else {
        let mut node = Arc::unwrap_or_clone(found.clone());
        node.spec = Some(spec.clone());
        vec![put(node)]
    };
    Ok(context.answer(Kind::Node, found.id(), changes, Vec::new()))
}

fn same_name<'a>(context: &Context<'a>, found: &Node, name: &str) -> Option<&'a Arc<Node>> {
    if name.is_empty() {
        return None;
    }
    context.world.nodes().find(|other| {
        other.id() != found.id() && resolve::node_name(other).eq_ignore_ascii_case(name)
    })
}

/// A node that is new, or the same one asking again; what an operator wants of
/// a known node stays as it is.
pub(super) fn register(context: &Context<'_>, verb: &RegisterNode) -> Result<Execution> {
    let asked = verb
        .node
        .as_ref()
        .ok_or_else(|| Error::invalid("node", "is missing"))?;
    let id = asked.id();
    node::validate_id("node.meta.id", id)?;
    let spec = asked.spec.clone().unwrap_or_default();
    node::validate(&spec)?;
    if let Some(cluster) = context.world.cluster()
        && cluster::is_removed(cluster, id)
    {
        return Err(removed(id));
    }
    let node = match context.world.node(id) {
        Some(known) => Node {
            description: asked
                .description
                .clone()
                .or_else(|| known.description.clone()),
            cert_not_after_ns: asked.cert_not_after_ns.max(known.cert_not_after_ns),
            cert_trust: asked.cert_trust.clone(),
            ..(**known).clone()
        },
        None => Node {
            role: spec.role,
            spec: Some(spec),
            status: Some(asked.status.clone().unwrap_or_else(|| NodeStatus {
                state: NodeState::Unknown.into(),
                message: "joined; not heard of yet".to_owned(),
                since_ns: context.now,
                ..NodeStatus::default()
            })),
            manager: None,
            ..asked.clone()
        },
    };
    let changes = match context.world.node(id) {
        Some(known) if **known == node => Vec::new(),
        _ => vec![put(node)],
    };
    Ok(context.answer(Kind::Node, id, changes, Vec::new()))
}

/// A node entered or left the Raft group.
pub(super) fn set_manager(context: &Context<'_>, verb: &SetManager) -> Result<Execution> {
    let id = &verb.node_id;
    let Some(node) = context.world.node(id) else {
        return match &verb.manager {
            Some(_) => Err(Error::not_found("node", id)),
            None => Ok(context.acknowledge(id, Vec::new(), Vec::new())),
        };
    };
    let manager = verb.manager.clone().map(stored);
    if node.manager == manager {
        return Ok(context.answer(Kind::Node, id, Vec::new(), Vec::new()));
    }
    let patch = NodePatch {
        id: id.clone(),
        clear_manager: manager.is_none(),
        manager,
        ..NodePatch::default()
    };
    Ok(context.answer(Kind::Node, id, vec![patch_node(patch)], Vec::new()))
}

/// What of a manager's status is stored; the rest is filled in on reading.
fn stored(manager: ManagerStatus) -> ManagerStatus {
    ManagerStatus {
        raft_id: manager.raft_id,
        addr: manager.addr,
        ..ManagerStatus::default()
    }
}

/// A node is about to be handed a certificate. Refused when it was made for
/// roots that are trusted no longer, or for a role that it is not to have.
pub(super) fn certificate_issued(
    context: &Context<'_>,
    verb: &CertificateIssued,
) -> Result<Execution> {
    let id = &verb.node_id;
    let cluster = context.world.cluster();
    let Some(node) = context.world.node(id) else {
        return Err(match cluster {
            Some(c) if cluster::is_removed(c, id) => removed(id),
            _ => Error::not_found("node", id),
        });
    };
    let object = format!("node {}", resolve::node_name(node));
    let again = "renew the certificate again";
    if cluster.is_some_and(|c| trust_digest(c) != verb.trust) {
        return Err(Error::precondition(
            "the trusted roots changed while the certificate was made",
        )
        .on(object)
        .hint(again));
    }
    if verb.role() == Role::Manager && wanted_role(node) != Role::Manager {
        return Err(
            Error::precondition("the node was demoted while the certificate was made")
                .on(object)
                .hint(again),
        );
    }
    let patch = NodePatch {
        id: id.clone(),
        role: Some(verb.role),
        cert_not_after_ns: Some(verb.not_after_ns.max(node.cert_not_after_ns)),
        cert_trust: Some(verb.trust.clone()),
        ..NodePatch::default()
    };
    Ok(context.answer(Kind::Node, id, vec![patch_node(patch)], Vec::new()))
}

/// The refusal for a node that an operator removed.
pub(super) fn removed(id: &str) -> Error {
    Error::permission(format!("node {id} was removed from the swarm"))
        .on(format!("node {id}"))
        .hint("on that host, run `skep swarm leave --force`, then join with a fresh token")
}
