//! What the engine is told for an assignment: Swarm's names and labels, every
//! field of a container spec, and no restart policy, since restarting is the
//! swarm's decision.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountTmpfsOptions,
    MountType as EngineMount, PortBinding, PortMap, ResourcesUlimits,
};
use skep_proto::names::Words;
use skep_proto::v1::{
    Assignment, ContainerSpec, EndpointSpec, HealthCheck, Mount as MountSpec, MountType,
    PortConfig, PortMode, ResourceLimits,
};

use crate::runtime::template::{Context, expand};
use crate::runtime::{Owner, Result, RuntimeError, container_name, short_name};

/// The label that tells which cluster a container belongs to.
pub const LABEL_CLUSTER: &str = "io.skep.cluster";
/// The label with the assignment's generation when the container was made.
pub const LABEL_GENERATION: &str = "io.skep.generation";
/// The label with the task's id.
pub const LABEL_TASK: &str = "com.docker.swarm.task.id";
/// The label with the node's id.
pub const LABEL_NODE: &str = "com.docker.swarm.node.id";

/// The body of a create request, or why the spec cannot run here.
pub fn create_body(
    assignment: &Assignment,
    owner: &Owner,
    architecture: &str,
) -> Result<ContainerCreateBody> {
    let spec = assignment.spec.as_ref();
    let container = spec.and_then(|s| s.container.as_ref()).ok_or_else(|| {
        RuntimeError::Refused("the task has no container: task.container is empty".into())
    })?;
    let context = Context {
        assignment,
        owner,
        architecture,
    };
    let limits = spec
        .and_then(|s| s.resources.as_ref())
        .and_then(|r| r.limits.as_ref());
    let log = spec.and_then(|s| s.log_driver.as_ref());
    let (exposed, bindings) = ports(assignment.endpoint.as_ref());

    let host = HostConfig {
        log_config: log.map(|driver| HostConfigLogConfig {
            typ: given(&driver.name),
            config: Some(driver.options.clone().into_iter().collect()),
        }),
        port_bindings: bindings,
        mounts: Some(mounts(context, container)?),
        ..host_config(container, limits)?
    };
    Ok(ContainerCreateBody {
        hostname: given(&expand(context, "hostname", &container.hostname)?),
        user: given(&container.user),
        exposed_ports: exposed,
        tty: Some(container.tty),
        open_stdin: Some(container.open_stdin),
        env: Some(environment(context, &container.env)?),
        cmd: list(&container.args),
        entrypoint: list(&container.command),
        healthcheck: container.health.as_ref().map(health),
        image: Some(container.image.clone()),
        working_dir: given(&container.dir),
        labels: Some(labels(assignment, owner, container)),
        stop_signal: given(&container.stop_signal),
        stop_timeout: container.stop_grace_period_ns.map(grace_s),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// Whole seconds, rounded up, as the engine wants a grace.
pub fn grace_s(grace_ns: i64) -> i64 {
    grace_ns.max(0).saturating_add(999_999_999) / 1_000_000_000
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn labels(
    assignment: &Assignment,
    owner: &Owner,
    container: &ContainerSpec,
) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = container.labels.clone().into_iter().collect();
    let ours = [
        ("com.docker.swarm.task", String::new()),
        (LABEL_TASK, assignment.task_id.clone()),
        ("com.docker.swarm.task.name", container_name(assignment)),
        (LABEL_NODE, owner.node_id.clone()),
        ("com.docker.swarm.service.id", assignment.service_id.clone()),
        (
            "com.docker.swarm.service.name",
            assignment.service_name.clone(),
        ),
        (LABEL_CLUSTER, owner.cluster_id.clone()),
        (LABEL_GENERATION, assignment.generation.to_string()),
        ("io.skep.task", short_name(assignment)),
    ];
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    labels
}

/// Placeholders are filled in the values, not in the names.
fn environment(context: Context<'_>, env: &[String]) -> Result<Vec<String>> {
    env.iter()
        .map(|entry| match entry.split_once('=') {
            Some((name, value)) => Ok(format!(
                "{name}={}",
                expand(context, &format!("env {name}"), value)?
            )),
            None => Ok(entry.clone()),
        })
        .collect()
}

fn health(check: &HealthCheck) -> HealthConfig {
    let some = |ns: i64| (ns != 0).then_some(ns);
    HealthConfig {
        test: list(&check.test),
        interval: some(check.interval_ns),
        timeout: some(check.timeout_ns),
        retries: some(check.retries),
        start_period: some(check.start_period_ns),
        start_interval: some(check.start_interval_ns),
    }
}

fn host_config(container: &ContainerSpec, limits: Option<&ResourceLimits>) -> Result<HostConfig> {
    let some = |n: i64| (n != 0).then_some(n);
    let dns = container.dns.as_ref();
    Ok(HostConfig {
        memory: limits.and_then(|l| some(l.memory_bytes)),
        nano_cpus: limits.and_then(|l| some(l.nano_cpus)),
        pids_limit: limits.and_then(|l| some(l.pids)),
        init: container.init,
        readonly_rootfs: Some(container.read_only),
        group_add: list(&container.groups),
        cap_add: list(&container.cap_add),
        cap_drop: list(&container.cap_drop),
        dns: dns.and_then(|d| list(&d.nameservers)),
        dns_search: dns.and_then(|d| list(&d.search)),
        dns_options: dns.and_then(|d| list(&d.options)),
        extra_hosts: Some(hosts(&container.hosts)?),
        sysctls: (!container.sysctls.is_empty())
            .then(|| container.sysctls.clone().into_iter().collect()),
        ulimits: (!container.ulimits.is_empty()).then(|| {
            let limit = |u: &skep_proto::v1::Ulimit| ResourcesUlimits {
                name: Some(u.name.clone()),
                soft: Some(u.soft),
                hard: Some(u.hard),
            };
            container.ulimits.iter().map(limit).collect()
        }),
        ..HostConfig::default()
    })
}

/// `IP name…` lines become the engine's `name:IP`; only the first name counts.
fn hosts(lines: &[String]) -> Result<Vec<String>> {
    lines
        .iter()
        .map(|line| {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some(address), Some(name)) => Ok(format!("{name}:{address}")),
                _ => Err(RuntimeError::Refused(format!(
                    "hosts: \"{line}\" is not \"IP NAME\""
                ))),
            }
        })
        .collect()
}

fn mounts(context: Context<'_>, container: &ContainerSpec) -> Result<Vec<Mount>> {
    container
        .mounts
        .iter()
        .enumerate()
        .map(|(index, spec)| mount(context, index, spec))
        .collect()
}

fn mount(context: Context<'_>, index: usize, spec: &MountSpec) -> Result<Mount> {
    let source = expand(context, &format!("mounts[{index}].source"), &spec.source)?;
    let target = expand(context, &format!("mounts[{index}].target"), &spec.target)?;
    let refused = |what: String| Err(RuntimeError::Refused(format!("mounts[{index}]: {what}")));
    if !target.starts_with('/') {
        return refused(format!(
            "invalid mount target, must be an absolute path: {target}"
        ));
    }
    match spec.r#type() {
        MountType::Bind if !source.starts_with('/') => {
            return refused(format!(
                "invalid bind mount source, must be an absolute path: {source}"
            ));
        }
        MountType::Volume if source.starts_with('/') => {
            return refused(format!(
                "invalid volume mount source, must not be an absolute path: {source}"
            ));
        }
        MountType::Tmpfs if !source.is_empty() => {
            return refused(format!(
                "invalid tmpfs source, source must be empty: {source}"
            ));
        }
        _ => {}
    }
    let tmpfs =
        spec.r#type() == MountType::Tmpfs && (spec.tmpfs_size_bytes != 0 || spec.tmpfs_mode != 0);
    Ok(Mount {
        target: Some(target),
        source: given(&source),
        typ: Some(match spec.r#type() {
            MountType::Bind => EngineMount::BIND,
            MountType::Volume => EngineMount::VOLUME,
            MountType::Tmpfs => EngineMount::TMPFS,
        }),
        read_only: Some(spec.read_only),
        tmpfs_options: tmpfs.then(|| MountTmpfsOptions {
            size_bytes: (spec.tmpfs_size_bytes != 0).then_some(spec.tmpfs_size_bytes),
            mode: (spec.tmpfs_mode != 0).then_some(i64::from(spec.tmpfs_mode)),
            options: None,
        }),
        ..Mount::default()
    })
}

/// Only ports in host mode are the engine's business.
fn ports(endpoint: Option<&EndpointSpec>) -> (Option<Vec<String>>, Option<PortMap>) {
    let mut exposed = Vec::new();
    let mut bindings = PortMap::new();
    for port in host_ports(endpoint) {
        let key = format!("{}/{}", port.target_port, port.protocol().word());
        let host_port = match port.published_port {
            0 => String::new(),
            published => published.to_string(),
        };
        exposed.push(key.clone());
        bindings
            .entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: None,
                host_port: Some(host_port),
            });
    }
    exposed.dedup();
    let any = !exposed.is_empty();
    (any.then_some(exposed), any.then_some(bindings))
}

fn host_ports(endpoint: Option<&EndpointSpec>) -> impl Iterator<Item = &PortConfig> {
    endpoint
        .into_iter()
        .flat_map(|e| e.ports.iter())
        .filter(|p| p.mode() == PortMode::Host)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
