//! The swarm itself.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_proto::objects::Identified;
use skep_proto::v1;

use super::Head;

/// The swarm with its tokens, without its keys.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Cluster {
    #[serde(flatten)]
    head: Head,
    spec: Spec,
    #[serde(rename = "TLSInfo")]
    tls_info: TlsInfo,
    root_rotation_in_progress: bool,
    join_tokens: JoinTokens,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    name: String,
    labels: BTreeMap<String, String>,
    orchestration: Orchestration,
    dispatcher: Dispatcher,
    #[serde(rename = "CAConfig")]
    ca_config: CaConfig,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Orchestration {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_history_retention_limit: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Dispatcher {
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_period: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CaConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    node_cert_expiry: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TlsInfo {
    trust_root: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct JoinTokens {
    worker: String,
    manager: String,
}

impl From<&v1::Cluster> for Cluster {
    fn from(cluster: &v1::Cluster) -> Self {
        let spec = cluster.spec.clone().unwrap_or_default();
        let root = cluster.root_ca.as_ref();
        let tokens = cluster.join_tokens.clone().unwrap_or_default();
        Self {
            head: Head::of(cluster.meta()),
            spec: Spec {
                name: spec.name,
                labels: spec.labels,
                orchestration: Orchestration {
                    task_history_retention_limit: spec.task_history_limit,
                },
                dispatcher: Dispatcher {
                    heartbeat_period: spec.heartbeat_period_ns,
                },
                ca_config: CaConfig {
                    node_cert_expiry: spec.node_cert_expiry_ns,
                },
            },
            tls_info: TlsInfo {
                trust_root: root
                    .map(|r| String::from_utf8_lossy(&r.cert_pem).into_owned())
                    .unwrap_or_default(),
            },
            root_rotation_in_progress: root.is_some_and(|r| !r.previous_pem.is_empty()),
            join_tokens: JoinTokens {
                worker: tokens.worker,
                manager: tokens.manager,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pretty;
    use super::*;

    #[test]
    fn the_key_of_the_swarm_is_not_shown() {
        let cluster = v1::Cluster {
            root_ca: Some(v1::RootCa {
                cert_pem: b"CERT".to_vec(),
                key_pem: b"PRIVATE".to_vec(),
                ..v1::RootCa::default()
            }),
            ..v1::Cluster::default()
        };
        let text = pretty(&Cluster::from(&cluster)).unwrap();
        assert!(text.contains("\"TrustRoot\": \"CERT\""));
        assert!(!text.contains("PRIVATE"));
    }
}
