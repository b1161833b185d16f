//! The cluster object: founding it, its spec, its tokens, its root certificate.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Cluster, InitCluster, JoinTokens, Kind, Node, NodeSpec, NodeState, NodeStatus, Role, RootCa,
    RotateRootCa, UpdateCluster,
};
use skep_proto::{Code, Error, Result};

use super::{Context, Execution, put, same_version};
use crate::identity::trust_digest;
use crate::state::{cluster, node};

const OBJECT: &str = "swarm default";

/// The first transaction of all.
pub(super) fn init(context: &Context<'_>, verb: &InitCluster) -> Result<Execution> {
    if let Some(founded) = context.world.cluster() {
        return Err(Error::new(
            Code::Exists,
            format!("this swarm was founded already: its id is {}", founded.id()),
        )
        .on(OBJECT)
        .hint("to found another one, leave this one first: skep swarm leave --force"));
    }
    let asked = verb
        .cluster
        .as_ref()
        .ok_or_else(|| Error::invalid("cluster", "is missing"))?;
    node::validate_id("cluster.meta.id", asked.id())?;
    let spec = asked.spec.clone().unwrap_or_default();
    cluster::validate(&spec).map_err(|e| e.on(OBJECT))?;
    let (root, tokens) = root_and_tokens(asked.root_ca.as_ref(), asked.join_tokens.as_ref())?;
    let first = verb.node.as_ref().ok_or_else(|| {
        Error::invalid("node", "is missing").hint("a swarm begins with its first manager")
    })?;
    node::validate_id("node.meta.id", first.id())?;
    let mut node_spec = first.spec.clone().unwrap_or_default();
    node_spec.role = Role::Manager.into();
    node::validate(&node_spec)?;
    let founded = Cluster {
        meta: asked.meta.clone(),
        spec: Some(cluster::canonical(&spec)),
        root_ca: Some(root.clone()),
        join_tokens: Some(tokens.clone()),
        removed_nodes: Vec::new(),
    };
    let manager = first_manager(context, first, node_spec);
    let id = asked.id().to_owned();
    Ok(context.answer(
        Kind::Cluster,
        &id,
        vec![put(founded), put(manager)],
        Vec::new(),
    ))
}

fn first_manager(context: &Context<'_>, first: &Node, spec: NodeSpec) -> Node {
    let mut manager = first.manager.clone();
    if let Some(manager) = &mut manager {
        manager.leader = false;
        manager.reachability = 0;
    }
    Node {
        role: Role::Manager.into(),
        spec: Some(spec),
        manager,
        status: Some(first.status.clone().unwrap_or_else(|| NodeStatus {
            state: NodeState::Unknown.into(),
            message: "founded the swarm; its worker is not heard of yet".to_owned(),
            since_ns: context.now,
            ..NodeStatus::default()
        })),
        ..first.clone()
    }
}

/// Another spec, new join tokens, or both.
pub(super) fn update(context: &Context<'_>, verb: &UpdateCluster) -> Result<Execution> {
    let found = founded(context)?;
    same_version(
        OBJECT,
        "skep swarm inspect",
        found.meta().version,
        verb.version,
    )?;
    let mut next = Arc::unwrap_or_clone(found.clone());
    if let Some(spec) = &verb.spec {
        cluster::validate(spec).map_err(|e| e.on(OBJECT))?;
        next.spec = Some(cluster::canonical(spec));
    }
    let digest = next
        .root_ca
        .as_ref()
        .map(|r| r.digest.clone())
        .unwrap_or_default();
    let tokens = next.join_tokens.get_or_insert_with(JoinTokens::default);
    for (rotate, field, secret, token) in [
        (
            verb.rotate_worker_token,
            "worker_token_secret",
            &verb.worker_token_secret,
            &mut tokens.worker,
        ),
        (
            verb.rotate_manager_token,
            "manager_token_secret",
            &verb.manager_token_secret,
            &mut tokens.manager,
        ),
    ] {
        if rotate {
            *token = cluster::join_token(field, &digest, secret)?;
        }
    }
    let changes = if next == **found {
        Vec::new()
    } else {
        vec![put(next)]
    };
    Ok(context.answer(Kind::Cluster, found.id(), changes, Vec::new()))
}

/// One step of the exchange of the root. The first brings the new root, which
/// goes on trusting the present one; the second drops the older one once every
/// node was given both. Anything else would part nodes that have to talk.
pub(super) fn rotate_root_ca(context: &Context<'_>, verb: &RotateRootCa) -> Result<Execution> {
    let found = founded(context)?;
    let present = found.root_ca.clone().unwrap_or_default();
    let root = verb
        .root_ca
        .as_ref()
        .ok_or_else(|| Error::invalid("root_ca", "is missing"))?;
    let tokens = verb.join_tokens.as_ref().or(found.join_tokens.as_ref());
    let (root, tokens) = root_and_tokens(Some(root), tokens)?;
    let begins = root.digest != present.digest;
    if begins {
        begin(&present, root)?;
    } else {
        end(context, found, root)?;
    }
    let next = Cluster {
        root_ca: Some(root.clone()),
        join_tokens: Some(tokens.clone()),
        ..(**found).clone()
    };
    Ok(context.answer(Kind::Cluster, found.id(), vec![put(next)], Vec::new()))
}

fn begin(present: &RootCa, new: &RootCa) -> Result<()> {
    if !present.previous_pem.is_empty() {
        return Err(Error::precondition(
            "the root is being exchanged already: some nodes have yet to renew",
        )
        .on(OBJECT)
        .hint("bring nodes that are down back, or remove them: skep node ls"));
    }
    if new.previous_pem != present.cert_pem || new.cross_pem.is_empty() {
        return Err(Error::precondition(
            "the new root does not follow the present one: it was exchanged in between",
        )
        .on(OBJECT)
        .hint("run `skep swarm ca --rotate` again"));
    }
    Ok(())
}

fn end(context: &Context<'_>, found: &Cluster, root: &RootCa) -> Result<()> {
    if !root.previous_pem.is_empty() {
        return Err(
            Error::invalid("root_ca.previous_pem", "is of a root that is not new").on(OBJECT),
        );
    }
    let trust = trust_digest(found);
    let behind = context
        .world
        .nodes()
        .filter(|n| n.cert_trust != trust)
        .count();
    if behind > 0 {
        return Err(Error::precondition(format!(
            "{behind} nodes do not trust the new root yet: the old one is still needed"
        ))
        .on(OBJECT)
        .hint("bring nodes that are down back, or remove them: skep node ls"));
    }
    Ok(())
}

fn founded<'a>(context: &Context<'a>) -> Result<&'a Arc<Cluster>> {
    context
        .world
        .cluster()
        .ok_or_else(|| Error::precondition("this swarm has not been founded yet"))
}

fn root_and_tokens<'a>(
    root: Option<&'a RootCa>,
    tokens: Option<&'a JoinTokens>,
) -> Result<(&'a RootCa, &'a JoinTokens)> {
    let root = root.ok_or_else(|| Error::invalid("root_ca", "is missing"))?;
    let tokens = tokens.ok_or_else(|| Error::invalid("join_tokens", "is missing"))?;
    cluster::validate_root(root)?;
    cluster::validate_tokens(root, tokens)?;
    Ok((root, tokens))
}
