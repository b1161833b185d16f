//! What the manager that takes a write adds to it before it goes to the leader:
//! whatever the caller left out, and secrets, which no seed may give.

use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{RotateRootCa, UpdateCluster, WriteRequest};
use skep_proto::{Error, Result};

use super::call::Call;
use crate::identity::{begin_rotation, join_token, random_id};
use crate::state::World;

/// Longest id of a request, characters: all of them are remembered for a while.
const REQUEST_ID_LEN_MAX: usize = 128;
const SELF: &str = "self";

/// Completes `request`, which reached the manager on node `self_node_id`.
pub(super) fn prepare(
    request: &mut WriteRequest,
    call: &Call,
    world: &World,
    self_node_id: &str,
) -> Result<()> {
    if request.request_id.len() > REQUEST_ID_LEN_MAX {
        return Err(Error::invalid(
            "request_id",
            format!("has more than {REQUEST_ID_LEN_MAX} characters"),
        ));
    }
    // With an id even an answer that got lost on the way to us is found again.
    if request.request_id.is_empty() {
        request.request_id = random_id()?;
    }
    let verb = request
        .verb
        .as_mut()
        .ok_or_else(|| Error::invalid("verb", "the request has no verb that this version knows"))?;
    call.allow(verb)?;
    match verb {
        Verb::UpdateNode(verb) if verb.node == SELF => self_node_id.clone_into(&mut verb.node),
        Verb::RemoveNode(verb) if verb.node == SELF => self_node_id.clone_into(&mut verb.node),
        // Another manager has prepared what it passes on.
        Verb::UpdateCluster(verb) if !call.from_manager => token_secrets(verb)?,
        Verb::RotateRootCa(verb) if verb.root_ca.is_none() => *verb = new_root(world)?,
        _ => {}
    }
    Ok(())
}

fn token_secrets(verb: &mut UpdateCluster) -> Result<()> {
    for (rotate, secret) in [
        (verb.rotate_worker_token, &mut verb.worker_token_secret),
        (verb.rotate_manager_token, &mut verb.manager_token_secret),
    ] {
        secret.clear();
        if rotate {
            let token = join_token("")?;
            *secret = token.rsplit('-').next().unwrap_or_default().to_owned();
        }
    }
    Ok(())
}

fn new_root(world: &World) -> Result<RotateRootCa> {
    let cluster = world
        .cluster()
        .ok_or_else(|| Error::unavailable("this manager does not know its swarm yet"))?;
    begin_rotation(cluster)
}
