//! What each write means: the world and a verb in, changes and an answer out.
//!
//! Invariant: pure. Clock and ids are arguments; secrets come ready-made from
//! the face that took the request, for what is drawn from a seed is no secret.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod cluster;
mod constraints;
mod node;
mod remove_node;
mod service;
mod session;
mod template;
mod update_service;

use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{
    Change, Kind, NodePatch, Object, Removal, TaskPatch, Transaction, WriteRequest, WriteResponse,
    change,
};
use skep_proto::{Error, Result};

use super::redact;
use crate::state::{Nanos, Seed, World};

/// What a verb does to a world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Execution {
    /// To be applied as one world version; empty when all is as it should be.
    pub changes: Vec<Change>,
    /// What the caller is told once they are committed.
    pub response: WriteResponse,
}

/// Turns one verb into changes of `world`, whose next version they become.
/// `now` is the proposer's clock; `seed` is fresh for each request.
/// Nothing is changed when it fails.
pub fn execute(world: &World, request: &WriteRequest, now: Nanos, seed: Seed) -> Result<Execution> {
    let verb = request
        .verb
        .as_ref()
        .ok_or_else(|| Error::invalid("verb", "the request has no verb that this version knows"))?;
    if world.cluster().is_none() && !matches!(verb, Verb::InitCluster(_)) {
        return Err(Error::precondition("this swarm has not been founded yet")
            .hint("run `skep swarm init` first"));
    }
    let context = Context { world, now, seed };
    match verb {
        Verb::CreateService(verb) => service::create(&context, verb),
        Verb::UpdateService(verb) => update_service::update(&context, verb),
        Verb::ScaleService(verb) => update_service::scale(&context, verb),
        Verb::RemoveService(verb) => service::remove(&context, verb),
        Verb::UpdateNode(verb) => node::update(&context, verb),
        Verb::RemoveNode(verb) => remove_node::remove(&context, verb),
        Verb::RegisterNode(verb) => node::register(&context, verb),
        Verb::SetManager(verb) => node::set_manager(&context, verb),
        Verb::CertificateIssued(verb) => node::certificate_issued(&context, verb),
        Verb::UpdateCluster(verb) => cluster::update(&context, verb),
        Verb::InitCluster(verb) => cluster::init(&context, verb),
        Verb::RotateRootCa(verb) => cluster::rotate_root_ca(&context, verb),
        Verb::NodeSeen(verb) => session::node_seen(&context, verb),
        Verb::NodeLost(verb) => session::node_lost(&context, verb),
        Verb::ReportStatuses(verb) => session::report_statuses(&context, verb),
    }
}

/// What every verb is given.
struct Context<'a> {
    world: &'a World,
    now: Nanos,
    seed: Seed,
}

impl Context<'_> {
    /// The version that the world has after this verb.
    fn next_version(&self) -> u64 {
        self.world.version() + 1
    }

    /// The answer about one object: as it is once `changes` are applied.
    fn answer(
        &self,
        kind: Kind,
        id: &str,
        changes: Vec<Change>,
        warnings: Vec<String>,
    ) -> Execution {
        let mut after = self.world.clone();
        if !changes.is_empty() {
            after.apply(&Transaction {
                at_ns: self.now,
                changes: changes.clone(),
                outcomes: Vec::new(),
            });
        }
        let object: Option<Object> = match kind {
            Kind::Cluster => after.cluster().map(|o| (**o).clone().into()),
            Kind::Node => after.node(id).map(|o| (**o).clone().into()),
            Kind::Service => after.service(id).map(|o| (**o).clone().into()),
            Kind::Task => after.task(id).map(|o| (**o).clone().into()),
            Kind::Unspecified => None,
        };
        Execution {
            changes,
            response: WriteResponse {
                id: id.to_owned(),
                object: object.map(redact::object),
                warnings,
                version: after.version(),
            },
        }
    }

    /// The answer to a report, which nobody reads an object out of.
    fn acknowledge(&self, id: &str, changes: Vec<Change>, warnings: Vec<String>) -> Execution {
        let version = if changes.is_empty() {
            self.world.version()
        } else {
            self.next_version()
        };
        Execution {
            changes,
            response: WriteResponse {
                id: id.to_owned(),
                object: None,
                warnings,
                version,
            },
        }
    }
}

/// Refuses an update that was made from something else than what is stored.
fn same_version(object: &str, inspect: &str, stored: u64, given: u64) -> Result<()> {
    if given == 0 {
        return Err(Error::invalid(
            "version",
            "an update has to name the version it was made from",
        )
        .on(object)
        .hint(format!("`{inspect}` shows it as Version.Index")));
    }
    if given != stored {
        return Err(Error::new(
            skep_proto::Code::OutOfSequence,
            format!("update out of sequence: it was made from version {given}, but {object} is at {stored}"),
        )
        .on(object)
        .hint(format!("somebody changed it in between: read it again (`{inspect}`) and repeat the change")));
    }
    Ok(())
}

fn put(object: impl Into<Object>) -> Change {
    Change {
        change: Some(change::Change::Put(object.into())),
    }
}

fn remove(kind: Kind, id: &str) -> Change {
    Change {
        change: Some(change::Change::Remove(Removal {
            kind: kind.into(),
            id: id.to_owned(),
        })),
    }
}

fn patch_node(patch: NodePatch) -> Change {
    Change {
        change: Some(change::Change::Node(patch)),
    }
}

fn patch_task(patch: TaskPatch) -> Change {
    Change {
        change: Some(change::Change::Task(patch)),
    }
}

#[cfg(test)]
pub(in crate::control) mod tests;
