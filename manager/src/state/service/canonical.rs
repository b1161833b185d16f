//! One form for all specs that mean the same. What is compared and stored is
//! canonical, so that the order of env, labels or ports restarts nothing.

use std::collections::BTreeMap;

use skep_proto::v1::{
    ContainerSpec, EndpointSpec, Placement, Replicated, ServiceSpec, TaskSpec, service_spec::Mode,
};

use super::{STOP_GRACE_PERIOD_NS_DEFAULT, placeholder};
use crate::state::check;

/// The canonical form: lists whose order carries no meaning are sorted and
/// without repetitions, messages that say nothing are absent, a missing mode
/// is one replica. The canonical form of a canonical spec is itself.
pub fn canonical(spec: &ServiceSpec) -> ServiceSpec {
    let mut spec = spec.clone();
    spec.mode
        .get_or_insert(Mode::Replicated(Replicated { replicas: 1 }));
    if let Some(task) = &mut spec.task {
        canonical_task(task);
    }
    if let Some(endpoint) = &mut spec.endpoint {
        endpoint.ports.sort_by(|a, b| {
            let key = |p: &skep_proto::v1::PortConfig| {
                (
                    p.target_port,
                    p.protocol,
                    p.mode,
                    p.published_port,
                    p.name.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
    }
    absent_if_default(&mut spec.endpoint);
    spec
}

/// Whether a task of the old template has to be replaced to become one of the
/// new template. Both are canonical. Registry credentials, restart policy and
/// placement act on tasks that already run.
pub fn replaces_tasks(
    old: (Option<&TaskSpec>, Option<&EndpointSpec>),
    new: (Option<&TaskSpec>, Option<&EndpointSpec>),
) -> bool {
    old.1 != new.1 || old.0.map(essence) != new.0.map(essence)
}

/// A capability's full name: `net_admin` is `CAP_NET_ADMIN`; `ALL` stays.
pub(super) fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    if name == "ALL" || name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    }
}

fn essence(task: &TaskSpec) -> TaskSpec {
    let mut task = task.clone();
    task.restart = None;
    task.placement = None;
    if let Some(container) = &mut task.container {
        container.registry_auth.clear();
        container
            .stop_grace_period_ns
            .get_or_insert(STOP_GRACE_PERIOD_NS_DEFAULT);
    }
    task
}

fn canonical_task(task: &mut TaskSpec) {
    if let Some(container) = &mut task.container {
        canonical_container(container);
    }
    if let Some(resources) = &mut task.resources {
        absent_if_default(&mut resources.limits);
        absent_if_default(&mut resources.reservations);
    }
    absent_if_default(&mut task.resources);
    absent_if_default(&mut task.restart);
    if let Some(placement) = &mut task.placement {
        canonical_placement(placement);
    }
    absent_if_default(&mut task.placement);
    absent_if_default(&mut task.log_driver);
}

fn canonical_container(container: &mut ContainerSpec) {
    container.env = last_of_each_name(&container.env);
    for list in [&mut container.cap_add, &mut container.cap_drop] {
        for name in list.iter_mut() {
            *name = capability(name);
        }
        sort(list);
    }
    for line in &mut container.hosts {
        *line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    sort(&mut container.hosts);
    sort(&mut container.groups);
    container.ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    for mount in &mut container.mounts {
        // A label's key within a placeholder may have slashes of its own.
        if !placeholder::has_any(&mount.target) {
            mount.target = check::clean_path(&mount.target);
        }
    }
    container.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    absent_if_default(&mut container.dns);
    absent_if_default(&mut container.health);
}

/// Of a variable that is given twice the last counts, as in a shell.
fn last_of_each_name(env: &[String]) -> Vec<String> {
    let by_name: BTreeMap<&str, &String> = env
        .iter()
        .map(|variable| (variable.split('=').next().unwrap_or_default(), variable))
        .collect();
    by_name.into_values().cloned().collect()
}

fn canonical_placement(placement: &mut Placement) {
    for constraint in &mut placement.constraints {
        *constraint = spaceless(constraint);
    }
    sort(&mut placement.constraints);
    placement
        .platforms
        .sort_by(|a, b| (&a.os, &a.architecture).cmp(&(&b.os, &b.architecture)));
    placement.platforms.dedup();
}

/// `node.role == manager` as `node.role==manager`.
fn spaceless(constraint: &str) -> String {
    let at = ["==", "!="]
        .iter()
        .filter_map(|operator| constraint.find(operator).map(|at| (at, *operator)))
        .min();
    match at {
        Some((at, operator)) => {
            let (key, rest) = constraint.split_at(at);
            let value = rest.strip_prefix(operator).unwrap_or(rest);
            format!("{}{operator}{}", key.trim(), value.trim())
        }
        None => constraint.trim().to_owned(),
    }
}

fn sort(list: &mut Vec<String>) {
    list.sort();
    list.dedup();
}

fn absent_if_default<T: Default + PartialEq>(message: &mut Option<T>) {
    if message.as_ref().is_some_and(|m| *m == T::default()) {
        *message = None;
    }
}
