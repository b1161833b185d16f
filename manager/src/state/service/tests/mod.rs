//! Tables: every field with a range, one row per way to break it.

use skep_proto::v1::service_spec::Mode;
use skep_proto::v1::{
    ContainerSpec, DnsConfig, EndpointSpec, Global, HealthCheck, LogDriver, Mount, Placement,
    PortConfig, Replicated, ResourceLimits, ResourceRequirements, Resources, RestartPolicy,
    ServiceSpec, TaskSpec, Ulimit, UpdateConfig,
};

use super::*;

mod container;
mod policies;

/// The least that a service is.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        task: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: "alpine:3".to_owned(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(Mode::Replicated(Replicated { replicas: 1 })),
        ..ServiceSpec::default()
    }
}

fn task(edit: impl FnOnce(&mut TaskSpec)) -> ServiceSpec {
    let mut spec = spec("web");
    edit(spec.task.as_mut().unwrap());
    spec
}

/// A spec whose container is changed by `edit`.
pub(crate) fn container(edit: impl FnOnce(&mut ContainerSpec)) -> ServiceSpec {
    task(|t| edit(t.container.as_mut().unwrap()))
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn mounts(mounts: Vec<Mount>) -> ServiceSpec {
    container(|c| c.mounts = mounts)
}

fn mount(kind: i32, source: &str, target: &str) -> Mount {
    Mount {
        r#type: kind,
        source: source.to_owned(),
        target: target.to_owned(),
        ..Mount::default()
    }
}

fn ports(ports: &[(u32, u32, i32)]) -> ServiceSpec {
    let ports = ports
        .iter()
        .map(|(target_port, published_port, mode)| PortConfig {
            target_port: *target_port,
            published_port: *published_port,
            mode: *mode,
            ..PortConfig::default()
        })
        .collect();
    ServiceSpec {
        endpoint: Some(EndpointSpec { ports }),
        ..spec("web")
    }
}

fn resources(limits: ResourceLimits, reservations: Resources) -> ServiceSpec {
    task(|t| {
        t.resources = Some(ResourceRequirements {
            limits: Some(limits),
            reservations: Some(reservations),
        });
    })
}

fn health(test: &[&str], interval_ns: i64, retries: i64) -> ServiceSpec {
    container(|c| {
        c.health = Some(HealthCheck {
            test: strings(test),
            interval_ns,
            retries,
            ..HealthCheck::default()
        });
    })
}

fn restart(policy: RestartPolicy) -> ServiceSpec {
    task(|t| t.restart = Some(policy))
}

fn update(config: UpdateConfig) -> ServiceSpec {
    ServiceSpec {
        update: Some(config),
        ..spec("web")
    }
}

fn constraints(constraints: &[&str]) -> ServiceSpec {
    task(|t| {
        t.placement = Some(Placement {
            constraints: strings(constraints),
            ..Placement::default()
        });
    })
}

fn ulimit(name: &str, soft: i64, hard: i64) -> Ulimit {
    Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    }
}

#[track_caller]
fn refused(spec: ServiceSpec, field: &str) {
    match validate(&spec) {
        Ok(_) => panic!("{field} was accepted"),
        Err(error) => {
            assert_eq!(error.field, field, "{error}");
            assert!(!error.message.is_empty());
        }
    }
}
