//! A node.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1;

use super::spec::{Amounts, Platform};
use super::{Head, is_default};

/// A node as the swarm knows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    #[serde(flatten)]
    head: Head,
    spec: Spec,
    description: Description,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager_status: Option<ManagerStatus>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(skip_serializing_if = "is_default")]
    name: String,
    labels: BTreeMap<String, String>,
    role: &'static str,
    availability: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    hostname: String,
    platform: Platform,
    resources: Amounts,
    engine: Engine,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Engine {
    engine_version: String,
    #[serde(skip_serializing_if = "is_default")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    plugins: Vec<Plugin>,
    #[serde(skip_serializing_if = "is_default")]
    error: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Plugin {
    #[serde(rename = "Type")]
    kind: String,
    name: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    state: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    message: String,
    addr: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManagerStatus {
    #[serde(skip_serializing_if = "is_default")]
    leader: bool,
    reachability: &'static str,
    addr: String,
}

impl From<&v1::Node> for Node {
    fn from(node: &v1::Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let description = node.description.clone().unwrap_or_default();
        let engine = description.engine.unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        Self {
            head: Head::of(node.meta()),
            spec: Spec {
                role: spec.role().word(),
                availability: spec.availability().word(),
                name: spec.name,
                labels: spec.labels,
            },
            description: Description {
                hostname: description.hostname,
                platform: description
                    .platform
                    .as_ref()
                    .map(Into::into)
                    .unwrap_or_default(),
                resources: description
                    .resources
                    .as_ref()
                    .map(Into::into)
                    .unwrap_or_default(),
                engine: Engine {
                    engine_version: engine.version,
                    labels: engine.labels,
                    error: engine.error,
                    plugins: engine
                        .plugins
                        .into_iter()
                        .map(|p| Plugin {
                            kind: p.r#type,
                            name: p.name,
                        })
                        .collect(),
                },
            },
            status: Status {
                state: status.state().word(),
                message: status.message,
                addr: status.addr,
            },
            manager_status: node.manager.as_ref().map(|m| ManagerStatus {
                leader: m.leader,
                reachability: m.reachability().word(),
                addr: m.addr.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    #[test]
    fn a_worker_has_no_manager_status() {
        let mut node = v1::Node {
            spec: Some(v1::NodeSpec {
                availability: v1::Availability::Drain.into(),
                ..v1::NodeSpec::default()
            }),
            ..v1::Node::default()
        };
        let json = value(&Node::from(&node)).unwrap();
        assert_eq!(json["Spec"]["Availability"], "drain");
        assert_eq!(json["Spec"]["Role"], "worker");
        assert!(json.get("ManagerStatus").is_none());
        node.manager = Some(v1::ManagerStatus {
            leader: true,
            reachability: v1::Reachability::Reachable.into(),
            ..v1::ManagerStatus::default()
        });
        let json = value(&Node::from(&node)).unwrap();
        assert_eq!(json["ManagerStatus"]["Leader"], true);
        assert_eq!(json["ManagerStatus"]["Reachability"], "reachable");
    }
}
