//! A task.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1;

use super::spec::{Port, TaskSpec};
use super::{Head, is_default};
use crate::ui::human;

/// A task with the template that it was made from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    #[serde(flatten)]
    head: Head,
    name: String,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<TaskSpec>,
    #[serde(rename = "ServiceID")]
    service_id: String,
    #[serde(skip_serializing_if = "is_default")]
    slot: u64,
    #[serde(rename = "NodeID", skip_serializing_if = "is_default")]
    node_id: String,
    status: Status,
    desired_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    timestamp: String,
    state: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    message: String,
    #[serde(skip_serializing_if = "is_default")]
    err: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_status: Option<Container>,
    port_status: Ports,
}

#[derive(Debug, Clone, Serialize)]
struct Container {
    #[serde(rename = "ContainerID")]
    id: String,
    #[serde(rename = "PID")]
    pid: i64,
    #[serde(rename = "ExitCode")]
    exit_code: i32,
    #[serde(rename = "OOMKilled", skip_serializing_if = "is_default")]
    oom_killed: bool,
    #[serde(rename = "Health", skip_serializing_if = "is_default")]
    health: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ports {
    #[serde(skip_serializing_if = "is_default")]
    ports: Vec<Port>,
}

/// Why it waits for a node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    summary: String,
    nodes: u32,
    refusals: Vec<Refusal>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    filter: String,
    nodes: u32,
    reason: String,
    nearest: String,
    missing: String,
    remedy: String,
}

impl Task {
    /// The task; `service` is where its template is looked up.
    pub fn new(task: &v1::Task, service: Option<&v1::Service>) -> Self {
        let empty = v1::TaskStatus::default();
        let status = task.status.as_ref().unwrap_or(&empty);
        Self {
            head: Head::of(task.meta()),
            name: task.name(),
            labels: BTreeMap::new(),
            spec: service
                .and_then(|s| s.template(task.template_version))
                .and_then(|t| t.task.as_ref())
                .map(Into::into),
            service_id: task.service_id.clone(),
            slot: task.slot,
            node_id: task.node_id.clone(),
            status: Status {
                timestamp: human::rfc3339(status.at_ns),
                state: status.state().word(),
                message: status.message.clone(),
                err: status.error.clone(),
                container_status: status.container.as_ref().map(|c| Container {
                    id: c.container_id.clone(),
                    pid: c.pid,
                    exit_code: c.exit_code.unwrap_or_default(),
                    oom_killed: c.oom_killed,
                    health: c.health.clone(),
                }),
                port_status: Ports {
                    ports: status.ports.iter().map(Into::into).collect(),
                },
            },
            desired_state: task.desired().word(),
            verdict: task.verdict.as_ref().map(|v| Verdict {
                summary: v.summary.clone(),
                nodes: v.nodes,
                refusals: v
                    .refusals
                    .iter()
                    .map(|r| Refusal {
                        filter: filter_word(r.filter()).to_owned(),
                        nodes: r.nodes,
                        reason: r.reason.clone(),
                        nearest: r.nearest.clone(),
                        missing: r.missing.clone(),
                        remedy: r.remedy.clone(),
                    })
                    .collect(),
            }),
        }
    }
}

/// A scheduling filter in a word.
pub fn filter_word(filter: v1::Filter) -> &'static str {
    match filter {
        v1::Filter::State => "state",
        v1::Filter::Availability => "availability",
        v1::Filter::Constraint => "constraint",
        v1::Filter::Platform => "platform",
        v1::Filter::Resources => "resources",
        v1::Filter::HostPort => "host port",
        v1::Filter::MaxReplicas => "max replicas",
        v1::Filter::Plugin => "plugin",
    }
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    #[test]
    fn a_task_carries_the_template_it_was_made_from() {
        let template = |version: u64, image: &str| v1::Template {
            version,
            task: Some(v1::TaskSpec {
                container: Some(v1::ContainerSpec {
                    image: image.into(),
                    ..v1::ContainerSpec::default()
                }),
                ..v1::TaskSpec::default()
            }),
            endpoint: None,
        };
        let service = v1::Service {
            templates: vec![template(1, "old"), template(2, "new")],
            template_version: 2,
            ..v1::Service::default()
        };
        let task = v1::Task {
            service_name: "web".into(),
            slot: 3,
            template_version: 1,
            desired: v1::TaskState::Running.into(),
            status: Some(v1::TaskStatus {
                state: v1::TaskState::Failed.into(),
                error: "task: non-zero exit (1)".into(),
                container: Some(v1::ContainerStatus {
                    exit_code: Some(1),
                    ..v1::ContainerStatus::default()
                }),
                ..v1::TaskStatus::default()
            }),
            ..v1::Task::default()
        };
        let json = value(&Task::new(&task, Some(&service))).unwrap();
        assert_eq!(json["Spec"]["ContainerSpec"]["Image"], "old");
        assert_eq!(json["Status"]["ContainerStatus"]["ExitCode"], 1);
        assert_eq!(json["Status"]["Err"], "task: non-zero exit (1)");
        assert_eq!(json["DesiredState"], "running");
        assert_eq!(json["Slot"], 3);
    }
}
