//! Creating and removing a service.

use skep_proto::objects::Identified;
use skep_proto::v1::{CreateService, Kind, Meta, RemoveService, Service, ServiceSpec};
use skep_proto::{Code, Error, Result};

use super::{Context, Execution, constraints, put, remove as removal, template};
use crate::control::resolve;
use crate::state::service;

/// A new service. Its tasks are the engine's to make.
pub(super) fn create(context: &Context<'_>, verb: &CreateService) -> Result<Execution> {
    let spec = verb
        .spec
        .as_ref()
        .ok_or_else(|| Error::invalid("spec", "is missing"))?;
    let warnings = accept(spec)?;
    if let Some(other) = context.world.service_named(&spec.name) {
        return Err(Error::new(
            Code::Exists,
            format!(
                "name conflicts with an existing object: service {} already exists ({})",
                other.name(),
                other.id()
            ),
        )
        .at("name")
        .on(format!("service {}", other.name()))
        .hint(format!(
            "choose another name, or change the existing one with `skep service update {}`",
            other.name()
        )));
    }
    let spec = service::canonical(spec);
    let id = context.seed.id("service", &spec.name);
    if context.world.service(&id).is_some() {
        return Err(Error::internal("a new service drew an id that is in use").hint("try again"));
    }
    let mut new = Service {
        meta: Some(Meta {
            id: id.clone(),
            ..Meta::default()
        }),
        ..Service::default()
    };
    template::first(context, &mut new, &spec);
    new.spec = Some(spec);
    Ok(context.answer(Kind::Service, &id, vec![put(new)], warnings))
}

/// The service is gone at once, and its name free; the engine ends its tasks.
pub(super) fn remove(context: &Context<'_>, verb: &RemoveService) -> Result<Execution> {
    let found = resolve::service(context.world, &verb.service)?;
    let id = found.id().to_owned();
    let changes = vec![removal(Kind::Service, &id)];
    Ok(context.acknowledge(&id, changes, Vec::new()))
}

/// Every rule that a spec has to keep, whoever sends it.
pub(super) fn accept(spec: &ServiceSpec) -> Result<Vec<String>> {
    let object = |error: Error| {
        if error.object.is_empty() && !spec.name.is_empty() {
            error.on(format!("service {}", spec.name))
        } else {
            error
        }
    };
    let warnings = service::validate(spec).map_err(object)?;
    let placement = spec.task.as_ref().and_then(|t| t.placement.as_ref());
    if let Some(placement) = placement {
        constraints::check("task.placement.constraints", &placement.constraints).map_err(object)?;
    }
    Ok(warnings)
}
