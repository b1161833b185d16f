//! Changing a service: its spec, back to the one before, or only its replicas.

use std::sync::Arc;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    Kind, Replicated, ScaleService, Service, ServiceSpec, UpdateService, UpdateStatus,
    service_spec::Mode, update_status,
};
use skep_proto::{Code, Error, Result};

use super::service::accept;
use super::{Context, Execution, put, same_version, template};
use crate::control::resolve;
use crate::state::service::{REPLICAS_MAX, canonical, registry};

/// A new spec, or the previous one again. Either way what an earlier update
/// came to is forgotten, so a paused one goes on.
pub(super) fn update(context: &Context<'_>, verb: &UpdateService) -> Result<Execution> {
    let found = resolve::service(context.world, &verb.service)?;
    let (object, inspect) = names(found);
    same_version(&object, &inspect, found.meta().version, verb.version)?;
    let old = found.spec.clone().unwrap_or_default();
    if verb.rollback {
        let previous = found.previous_spec.clone().ok_or_else(|| {
            Error::precondition(format!(
                "service {} does not have a previous spec",
                found.name()
            ))
            .on(object)
            .hint("only an updated service can be rolled back, to what it was before the update")
        })?;
        let mut service = replaced(context, found, old, previous);
        if service.template_version != found.template_version {
            service.update_status = Some(UpdateStatus {
                state: update_status::State::RollbackStarted.into(),
                started_at_ns: context.now,
                message: "manually requested rollback".to_owned(),
                ..UpdateStatus::default()
            });
        }
        return Ok(answer(context, found, service, Vec::new()));
    }
    let spec = verb
        .spec
        .as_ref()
        .ok_or_else(|| Error::invalid("spec", "is missing").on(object.as_str()))?;
    let mut spec = spec.clone();
    // An update that says nothing of the mode does not mean one replica.
    if spec.mode.is_none() {
        spec.mode = old.mode;
    }
    let mut warnings = accept(&spec)?;
    if spec.name != old.name {
        return Err(
            Error::new(Code::Unsupported, "renaming services is not supported")
                .at("name")
                .on(object)
                .hint("create a service with the new name, then remove this one"),
        );
    }
    if spec.is_global() != old.is_global() {
        return Err(
            Error::new(Code::Unsupported, "service mode change is not allowed")
                .at("mode")
                .on(object)
                .hint("remove the service and create it anew in the other mode"),
        );
    }
    keep_registry_auth(&old, &mut spec, &mut warnings);
    let service = replaced(context, found, old, canonical(&spec));
    Ok(answer(context, found, service, warnings))
}

/// Another number of replicas, whatever else changed in between. While an
/// update is under way or paused, scaling neither ends nor resumes it, and a
/// rollback keeps the new number.
pub(super) fn scale(context: &Context<'_>, verb: &ScaleService) -> Result<Execution> {
    let found = resolve::service(context.world, &verb.service)?;
    let (object, _) = names(found);
    let old = found.spec.clone().unwrap_or_default();
    if old.is_global() {
        return Err(Error::precondition(format!(
            "service {} is global: it has one task on each node, and no number of replicas",
            found.name()
        ))
        .on(object)
        .hint("scale can only be used with replicated services"));
    }
    if verb.replicas > REPLICAS_MAX {
        return Err(Error::invalid(
            "replicas",
            format!("is {}; at most {REPLICAS_MAX} are allowed", verb.replicas),
        )
        .on(object));
    }
    let mode = Some(Mode::Replicated(Replicated {
        replicas: verb.replicas,
    }));
    if old.mode == mode {
        return Ok(context.answer(Kind::Service, found.id(), Vec::new(), Vec::new()));
    }
    let mut service = Arc::unwrap_or_clone(found.clone());
    if is_updating(found) {
        if let Some(previous) = &mut service.previous_spec {
            previous.mode = mode;
        }
    } else {
        service.previous_spec = Some(old.clone());
        service.update_status = None;
    }
    service.spec = Some(ServiceSpec { mode, ..old });
    Ok(context.answer(Kind::Service, found.id(), vec![put(service)], Vec::new()))
}

/// The service with another spec, the old one remembered.
fn replaced(context: &Context<'_>, found: &Service, old: ServiceSpec, new: ServiceSpec) -> Service {
    let mut service = found.clone();
    if old != new {
        template::follow(context, &mut service, &new);
        service.previous_spec = Some(old);
        service.spec = Some(new);
    }
    service.update_status = None;
    service
}

fn answer(
    context: &Context<'_>,
    found: &Service,
    service: Service,
    warnings: Vec<String>,
) -> Execution {
    let changes = if service == *found {
        Vec::new()
    } else {
        vec![put(service)]
    };
    context.answer(Kind::Service, found.id(), changes, warnings)
}

fn is_updating(service: &Service) -> bool {
    use update_status::State;
    service.update_status.as_ref().is_some_and(|status| {
        !matches!(status.state(), State::Completed | State::RollbackCompleted)
    })
}

/// Nobody is shown credentials, so a spec that was read and sent back has none:
/// they stay, unless the image now comes from somebody else.
fn keep_registry_auth(old: &ServiceSpec, new: &mut ServiceSpec, warnings: &mut Vec<String>) {
    let Some(old) = old.container().filter(|c| !c.registry_auth.is_empty()) else {
        return;
    };
    let Some(new) = new.task.as_mut().and_then(|t| t.container.as_mut()) else {
        return;
    };
    if !new.registry_auth.is_empty() {
        return;
    }
    let (before, after) = (registry(&old.image), registry(&new.image));
    if before == after {
        new.registry_auth.clone_from(&old.registry_auth);
    } else {
        warnings.push(format!(
            "the registry credentials were for {before} and are not kept for {after}: \
             send new ones if it needs any (--with-registry-auth)"
        ));
    }
}

fn names(service: &Service) -> (String, String) {
    (
        format!("service {}", service.name()),
        format!("skep service inspect {}", service.name()),
    )
}
