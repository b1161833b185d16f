//! Task templates of a service: which one new tasks are made from, and which
//! ones are kept because a task record still refers to them.

use std::collections::BTreeSet;

use skep_proto::objects::Identified;
use skep_proto::v1::{Service, ServiceSpec, Template};

use super::Context;
use crate::state::service::replaces_tasks;

/// The first template of a new service.
pub(super) fn first(context: &Context<'_>, service: &mut Service, spec: &ServiceSpec) {
    service.template_version = context.next_version();
    service.templates = vec![template(service.template_version, spec)];
}

/// Makes `spec`'s template the current one. Its version changes only when tasks
/// have to be replaced; a version that some task already has is taken up again,
/// so that going back on a change keeps the tasks that never left.
pub(super) fn follow(context: &Context<'_>, service: &mut Service, spec: &ServiceSpec) {
    let new = |version| template(version, spec);
    let in_use: BTreeSet<u64> = context
        .world
        .tasks_of_service(service.id())
        .map(|task| task.template_version)
        .collect();
    let current = service.template_version;
    service
        .templates
        .retain(|t| t.version == current || in_use.contains(&t.version));
    let fits = |t: &Template| {
        !replaces_tasks(
            (t.task.as_ref(), t.endpoint.as_ref()),
            (spec.task.as_ref(), spec.endpoint.as_ref()),
        )
    };
    let known = service
        .current_template()
        .filter(|t| fits(t))
        .or_else(|| service.templates.iter().rev().find(|t| fits(t)))
        .map(|t| t.version);
    let version = known.unwrap_or_else(|| context.next_version());
    service.template_version = version;
    // What does not replace tasks still has to reach them.
    service
        .templates
        .retain(|t| t.version != version && in_use.contains(&t.version));
    service.templates.push(new(version));
}

fn template(version: u64, spec: &ServiceSpec) -> Template {
    Template {
        version,
        task: spec.task.clone(),
        endpoint: spec.endpoint.clone(),
    }
}
