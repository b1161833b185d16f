//! A service.

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1;

use super::spec::{EndpointSpec, Port, ServiceSpec};
use super::{Head, is_default};
use crate::ui::human;

/// A service with what the swarm made of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    #[serde(flatten)]
    head: Head,
    spec: ServiceSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_spec: Option<ServiceSpec>,
    endpoint: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_status: Option<UpdateStatus>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    spec: EndpointSpec,
    #[serde(skip_serializing_if = "is_default")]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStatus {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    message: String,
}

impl From<&v1::Service> for Service {
    fn from(service: &v1::Service) -> Self {
        let empty = v1::ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let time = |ns: i64| (ns != 0).then(|| human::rfc3339(ns));
        Self {
            head: Head::of(service.meta()),
            spec: spec.into(),
            previous_spec: service.previous_spec.as_ref().map(Into::into),
            endpoint: Endpoint {
                spec: spec.endpoint.as_ref().map(Into::into).unwrap_or_default(),
                ports: service
                    .current_template()
                    .and_then(|t| t.endpoint.as_ref())
                    .map(|e| EndpointSpec::from(e).ports)
                    .unwrap_or_default(),
            },
            update_status: service.update_status.as_ref().map(|u| UpdateStatus {
                state: u.state().word(),
                started_at: time(u.started_at_ns),
                completed_at: time(u.completed_at_ns),
                message: u.message.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{pretty, value};
    use super::*;

    #[test]
    fn a_service_reads_as_dockers() {
        let service = v1::Service {
            meta: Some(v1::Meta {
                id: "s1".into(),
                version: 7,
                created_at_ns: 1_767_323_045_600_000_000,
                ..v1::Meta::default()
            }),
            spec: Some(v1::ServiceSpec {
                name: "web".into(),
                mode: Some(v1::service_spec::Mode::Replicated(v1::Replicated {
                    replicas: 3,
                })),
                task: Some(v1::TaskSpec {
                    container: Some(v1::ContainerSpec {
                        image: "nginx".into(),
                        tty: true,
                        stop_grace_period_ns: Some(10_000_000_000),
                        registry_auth: "secret".into(),
                        ..v1::ContainerSpec::default()
                    }),
                    resources: Some(v1::ResourceRequirements {
                        limits: Some(v1::ResourceLimits {
                            nano_cpus: 500_000_000,
                            ..v1::ResourceLimits::default()
                        }),
                        reservations: None,
                    }),
                    restart: Some(v1::RestartPolicy::default()),
                    ..v1::TaskSpec::default()
                }),
                ..v1::ServiceSpec::default()
            }),
            ..v1::Service::default()
        };
        let shape = Service::from(&service);
        let json = value(&shape).unwrap();
        assert_eq!(json["Version"]["Index"], 7);
        assert_eq!(json["CreatedAt"], "2026-01-02T03:04:05.6Z");
        assert_eq!(json["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
        let container = &json["Spec"]["TaskTemplate"]["ContainerSpec"];
        assert_eq!(container["StopGracePeriod"], 10_000_000_000_i64);
        assert_eq!(container["TTY"], true);
        let limits = &json["Spec"]["TaskTemplate"]["Resources"]["Limits"];
        assert_eq!(limits["NanoCPUs"], 500_000_000);
        assert_eq!(
            json["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"],
            "any"
        );
        assert_eq!(json["Spec"]["Labels"], serde_json::json!({}));

        let text = pretty(&[shape]).unwrap();
        assert!(text.starts_with("[\n    {\n        \"ID\": \"s1\",\n        \"Version\""));
        assert!(!text.contains("secret"), "credentials are never shown");
    }
}
