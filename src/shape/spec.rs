//! A service's spec.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::v1::{self, MountType, service_spec::Mode as V1Mode};

use super::is_default;

/// What the operator wants of a service.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSpec {
    name: String,
    labels: BTreeMap<String, String>,
    task_template: TaskSpec,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_config: Option<UpdateConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_config: Option<UpdateConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_spec: Option<EndpointSpec>,
}

impl From<&v1::ServiceSpec> for ServiceSpec {
    fn from(spec: &v1::ServiceSpec) -> Self {
        let empty = v1::TaskSpec::default();
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            task_template: spec.task.as_ref().unwrap_or(&empty).into(),
            mode: match &spec.mode {
                Some(V1Mode::Global(_)) => Mode::Global {},
                Some(V1Mode::Replicated(r)) => Mode::Replicated {
                    replicas: r.replicas,
                },
                None => Mode::Replicated { replicas: 1 },
            },
            update_config: spec.update.as_ref().map(Into::into),
            rollback_config: spec.rollback.as_ref().map(Into::into),
            endpoint_spec: spec.endpoint.as_ref().map(Into::into),
        }
    }
}

/// How many tasks.
#[derive(Debug, Clone, Serialize)]
enum Mode {
    #[serde(rename_all = "PascalCase")]
    Replicated {
        replicas: u64,
    },
    Global {},
}

/// What a task is made from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskSpec {
    container_spec: ContainerSpec,
    resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy: Option<RestartPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_driver: Option<LogDriver>,
    force_update: u64,
    runtime: &'static str,
}

impl From<&v1::TaskSpec> for TaskSpec {
    fn from(task: &v1::TaskSpec) -> Self {
        let empty = v1::ContainerSpec::default();
        Self {
            container_spec: task.container.as_ref().unwrap_or(&empty).into(),
            resources: task.resources.as_ref().map(Into::into).unwrap_or_default(),
            restart_policy: task.restart.as_ref().map(Into::into),
            placement: task.placement.as_ref().map(Into::into),
            log_driver: task.log_driver.as_ref().map(|driver| LogDriver {
                name: driver.name.clone(),
                options: driver.options.clone(),
            }),
            force_update: task.force_update,
            runtime: "container",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerSpec {
    image: String,
    #[serde(skip_serializing_if = "is_default")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    command: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    args: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    hostname: String,
    #[serde(skip_serializing_if = "is_default")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    dir: String,
    #[serde(skip_serializing_if = "is_default")]
    user: String,
    #[serde(skip_serializing_if = "is_default")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    stop_signal: String,
    #[serde(rename = "TTY", skip_serializing_if = "is_default")]
    tty: bool,
    #[serde(skip_serializing_if = "is_default")]
    open_stdin: bool,
    #[serde(skip_serializing_if = "is_default")]
    read_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_grace_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthCheck>,
    #[serde(skip_serializing_if = "is_default")]
    hosts: Vec<String>,
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    dns_config: Option<DnsConfig>,
    #[serde(skip_serializing_if = "is_default")]
    sysctls: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    capability_add: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    capability_drop: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    ulimits: Vec<Ulimit>,
}

impl From<&v1::ContainerSpec> for ContainerSpec {
    fn from(c: &v1::ContainerSpec) -> Self {
        Self {
            image: c.image.clone(),
            labels: c.labels.clone(),
            command: c.command.clone(),
            args: c.args.clone(),
            hostname: c.hostname.clone(),
            env: c.env.clone(),
            dir: c.dir.clone(),
            user: c.user.clone(),
            groups: c.groups.clone(),
            init: c.init,
            stop_signal: c.stop_signal.clone(),
            tty: c.tty,
            open_stdin: c.open_stdin,
            read_only: c.read_only,
            mounts: c.mounts.iter().map(Into::into).collect(),
            stop_grace_period: c.stop_grace_period_ns,
            healthcheck: c.health.as_ref().map(Into::into),
            hosts: c.hosts.clone(),
            dns_config: c.dns.as_ref().map(|dns| DnsConfig {
                nameservers: dns.nameservers.clone(),
                search: dns.search.clone(),
                options: dns.options.clone(),
            }),
            sysctls: c.sysctls.clone(),
            capability_add: c.cap_add.clone(),
            capability_drop: c.cap_drop.clone(),
            ulimits: c
                .ulimits
                .iter()
                .map(|u| Ulimit {
                    name: u.name.clone(),
                    hard: u.hard,
                    soft: u.soft,
                })
                .collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    source: String,
    target: String,
    #[serde(skip_serializing_if = "is_default")]
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_default")]
    size_bytes: i64,
    #[serde(skip_serializing_if = "is_default")]
    mode: u32,
}

impl From<&v1::Mount> for Mount {
    fn from(mount: &v1::Mount) -> Self {
        let tmpfs = mount.tmpfs_size_bytes != 0 || mount.tmpfs_mode != 0;
        Self {
            kind: match mount.r#type() {
                MountType::Bind => "bind",
                MountType::Volume => "volume",
                MountType::Tmpfs => "tmpfs",
            },
            source: mount.source.clone(),
            target: mount.target.clone(),
            read_only: mount.read_only,
            tmpfs_options: tmpfs.then_some(TmpfsOptions {
                size_bytes: mount.tmpfs_size_bytes,
                mode: mount.tmpfs_mode,
            }),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    #[serde(skip_serializing_if = "is_default")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    timeout: i64,
    #[serde(skip_serializing_if = "is_default")]
    start_period: i64,
    #[serde(skip_serializing_if = "is_default")]
    start_interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    retries: i64,
}

impl From<&v1::HealthCheck> for HealthCheck {
    fn from(h: &v1::HealthCheck) -> Self {
        Self {
            test: h.test.clone(),
            interval: h.interval_ns,
            timeout: h.timeout_ns,
            start_period: h.start_period_ns,
            start_interval: h.start_interval_ns,
            retries: h.retries,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DnsConfig {
    #[serde(skip_serializing_if = "is_default")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    hard: i64,
    soft: i64,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Amounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservations: Option<Amounts>,
}

/// CPUs, memory and processes.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Amounts {
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_default")]
    nano_cpus: i64,
    #[serde(skip_serializing_if = "is_default")]
    memory_bytes: i64,
    #[serde(skip_serializing_if = "is_default")]
    pids: i64,
}

impl From<&v1::Resources> for Amounts {
    fn from(r: &v1::Resources) -> Self {
        Self {
            nano_cpus: r.nano_cpus,
            memory_bytes: r.memory_bytes,
            pids: 0,
        }
    }
}

impl From<&v1::ResourceRequirements> for Resources {
    fn from(r: &v1::ResourceRequirements) -> Self {
        Self {
            limits: r.limits.as_ref().map(|l| Amounts {
                nano_cpus: l.nano_cpus,
                memory_bytes: l.memory_bytes,
                pids: l.pids,
            }),
            reservations: r.reservations.as_ref().map(Into::into),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    condition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<i64>,
    max_attempts: u64,
    #[serde(skip_serializing_if = "is_default")]
    window: i64,
}

impl From<&v1::RestartPolicy> for RestartPolicy {
    fn from(r: &v1::RestartPolicy) -> Self {
        Self {
            condition: r.condition().word(),
            delay: r.delay_ns,
            max_attempts: r.max_attempts,
            window: r.window_ns,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Placement {
    #[serde(skip_serializing_if = "is_default")]
    constraints: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    max_replicas: u64,
    #[serde(skip_serializing_if = "is_default")]
    platforms: Vec<Platform>,
}

impl From<&v1::Placement> for Placement {
    fn from(p: &v1::Placement) -> Self {
        Self {
            constraints: p.constraints.clone(),
            max_replicas: p.max_replicas,
            platforms: p.platforms.iter().map(Into::into).collect(),
        }
    }
}

/// Architecture and operating system.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Platform {
    architecture: String,
    #[serde(rename = "OS")]
    os: String,
}

impl From<&v1::Platform> for Platform {
    fn from(p: &v1::Platform) -> Self {
        Self {
            architecture: p.architecture.clone(),
            os: p.os.clone(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogDriver {
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateConfig {
    parallelism: u64,
    #[serde(skip_serializing_if = "is_default")]
    delay: i64,
    failure_action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<i64>,
    max_failure_ratio: f64,
    order: &'static str,
}

impl From<&v1::UpdateConfig> for UpdateConfig {
    fn from(u: &v1::UpdateConfig) -> Self {
        Self {
            parallelism: u.parallelism,
            delay: u.delay_ns,
            failure_action: u.failure_action().word(),
            monitor: u.monitor_ns,
            max_failure_ratio: u.max_failure_ratio,
            order: u.order().word(),
        }
    }
}

/// What is published.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EndpointSpec {
    mode: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ports: Vec<Port>,
}

impl From<&v1::EndpointSpec> for EndpointSpec {
    fn from(e: &v1::EndpointSpec) -> Self {
        Self {
            mode: "vip",
            ports: e.ports.iter().map(Into::into).collect(),
        }
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Port {
    #[serde(skip_serializing_if = "is_default")]
    name: String,
    protocol: &'static str,
    target_port: u32,
    #[serde(skip_serializing_if = "is_default")]
    published_port: u32,
    publish_mode: &'static str,
}

impl From<&v1::PortConfig> for Port {
    fn from(p: &v1::PortConfig) -> Self {
        Self {
            name: p.name.clone(),
            protocol: p.protocol().word(),
            target_port: p.target_port,
            published_port: p.published_port,
            publish_mode: p.mode().word(),
        }
    }
}
