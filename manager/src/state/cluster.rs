//! The rules of the cluster's spec and of its join tokens.

use skep_proto::token::{JoinToken, root_digest};
use skep_proto::v1::{Cluster, ClusterSpec, JoinTokens, Role, RootCa};
use skep_proto::{Error, Result};

use super::{Nanos, check};

/// The one name that a cluster has.
pub const NAME: &str = "default";
/// Task records kept per slot, the live one included, when the spec says nothing.
pub const TASK_HISTORY_LIMIT_DEFAULT: i64 = 5;
/// How often a worker says that it lives, when the spec says nothing.
pub const HEARTBEAT_PERIOD_NS_DEFAULT: Nanos = 500_000_000;
/// How long node certificates live, when the spec says nothing: 90 days.
pub const NODE_CERT_EXPIRY_NS_DEFAULT: Nanos = 90 * 24 * 3_600 * 1_000_000_000;
/// The shortest life of a node certificate: an hour.
pub const NODE_CERT_EXPIRY_NS_MIN: Nanos = 3_600 * 1_000_000_000;
/// Shorter periods would make heartbeats the swarm's main work.
pub const HEARTBEAT_PERIOD_NS_MIN: Nanos = 50_000_000;
/// Longer ones would leave a lost node's tasks missing for minutes.
pub const HEARTBEAT_PERIOD_NS_MAX: Nanos = 60 * 1_000_000_000;
/// More history per slot would fill every manager's memory.
pub const TASK_HISTORY_LIMIT_MAX: i64 = 1_000;

/// Refuses what a cluster's spec cannot say.
pub fn validate(spec: &ClusterSpec) -> Result<()> {
    if !spec.name.is_empty() && spec.name != NAME {
        return Err(Error::invalid(
            "name",
            format!(
                "modification of cluster name is not allowed: {:?}",
                spec.name
            ),
        )
        .hint(format!("leave it {NAME:?}")));
    }
    check::labels("labels", &spec.labels)?;
    if let Some(limit) = spec.task_history_limit
        && limit > TASK_HISTORY_LIMIT_MAX
    {
        return Err(Error::invalid(
            "task_history_limit",
            format!("is {limit}; it is at most {TASK_HISTORY_LIMIT_MAX}, or negative to keep all"),
        ));
    }
    if let Some(period) = spec.heartbeat_period_ns
        && !(HEARTBEAT_PERIOD_NS_MIN..=HEARTBEAT_PERIOD_NS_MAX).contains(&period)
    {
        return Err(Error::invalid(
            "heartbeat_period_ns",
            format!("is {period} ns; it lies between 50 ms and 60 s"),
        ));
    }
    if let Some(expiry) = spec.node_cert_expiry_ns {
        check::duration("node_cert_expiry_ns", expiry)?;
        if expiry < NODE_CERT_EXPIRY_NS_MIN {
            return Err(Error::invalid(
                "node_cert_expiry_ns",
                "minimum certificate expiry time is: 1h0m0s",
            ));
        }
    }
    Ok(())
}

/// The spec as it is stored: named, and with its defaults written out, so that
/// later versions with other defaults change nothing for a running swarm.
pub fn canonical(spec: &ClusterSpec) -> ClusterSpec {
    ClusterSpec {
        name: NAME.to_owned(),
        labels: spec.labels.clone(),
        task_history_limit: spec.task_history_limit.or(Some(TASK_HISTORY_LIMIT_DEFAULT)),
        heartbeat_period_ns: spec
            .heartbeat_period_ns
            .or(Some(HEARTBEAT_PERIOD_NS_DEFAULT)),
        node_cert_expiry_ns: spec
            .node_cert_expiry_ns
            .or(Some(NODE_CERT_EXPIRY_NS_DEFAULT)),
    }
}

/// How long certificates of this cluster's nodes live.
pub fn node_cert_expiry_ns(cluster: &Cluster) -> Nanos {
    let spec = cluster.spec.as_ref();
    spec.and_then(|s| s.node_cert_expiry_ns)
        .unwrap_or(NODE_CERT_EXPIRY_NS_DEFAULT)
}

/// Whether `node_id` was removed and its certificate is to be refused.
pub fn is_removed(cluster: &Cluster, node_id: &str) -> bool {
    cluster.removed_nodes.iter().any(|r| r.node_id == node_id)
}

/// The join token of the root with this digest, and with a secret that the edge
/// made: 25 digits in base 36.
pub fn join_token(field: &str, digest: &str, secret: &str) -> Result<String> {
    let token = format!("SWMTKN-1-{digest}-{secret}");
    match JoinToken::parse(&token) {
        Ok(_) => Ok(token),
        // The token is a secret: what is wrong with it is not repeated.
        Err(_) => Err(Error::invalid(field, "is no secret of a join token")),
    }
}

/// The token that gives a role, if there are tokens.
pub fn token_of(cluster: &Cluster, role: Role) -> Option<&str> {
    let tokens = cluster.join_tokens.as_ref()?;
    Some(match role {
        Role::Worker => &tokens.worker,
        Role::Manager => &tokens.manager,
    })
}

/// Both tokens of a root certificate.
pub fn validate_tokens(root: &RootCa, tokens: &JoinTokens) -> Result<()> {
    validate_token("join_tokens.worker", &root.digest, &tokens.worker)?;
    validate_token("join_tokens.manager", &root.digest, &tokens.manager)?;
    if tokens.worker == tokens.manager {
        return Err(check::conflict(
            "join_tokens.manager",
            "join_tokens.worker",
            "has the same token",
        ));
    }
    Ok(())
}

/// A root certificate with its key and digest.
pub fn validate_root(root: &RootCa) -> Result<()> {
    for (field, value) in [
        ("root_ca.cert_pem", &root.cert_pem),
        ("root_ca.key_pem", &root.key_pem),
    ] {
        if !value.starts_with(b"-----BEGIN ") {
            return Err(Error::invalid(field, "is no PEM text"));
        }
    }
    if root.digest != root_digest(&root.cert_pem) {
        return Err(Error::invalid(
            "root_ca.digest",
            "is not the digest of root_ca.cert_pem",
        ));
    }
    Ok(())
}

fn validate_token(field: &str, digest: &str, token: &str) -> Result<()> {
    match JoinToken::parse(token) {
        Ok(token) if token.digest() == digest => Ok(()),
        _ => Err(Error::invalid(
            field,
            "is not a token of this root certificate",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_out_of_range_are_refused_by_their_path() {
        let spec = ClusterSpec::default();
        let cases = [
            (
                ClusterSpec {
                    name: "other".to_owned(),
                    ..spec.clone()
                },
                "name",
            ),
            (
                ClusterSpec {
                    task_history_limit: Some(1_001),
                    ..spec.clone()
                },
                "task_history_limit",
            ),
            (
                ClusterSpec {
                    heartbeat_period_ns: Some(0),
                    ..spec.clone()
                },
                "heartbeat_period_ns",
            ),
            (
                ClusterSpec {
                    heartbeat_period_ns: Some(61_000_000_000),
                    ..spec.clone()
                },
                "heartbeat_period_ns",
            ),
            (
                ClusterSpec {
                    node_cert_expiry_ns: Some(59 * 60 * 1_000_000_000),
                    ..spec.clone()
                },
                "node_cert_expiry_ns",
            ),
            (
                ClusterSpec {
                    node_cert_expiry_ns: Some(i64::MAX),
                    ..spec.clone()
                },
                "node_cert_expiry_ns",
            ),
        ];
        for (spec, field) in cases {
            assert_eq!(validate(&spec).unwrap_err().field, field, "{spec:?}");
        }
        let keep_all = ClusterSpec {
            task_history_limit: Some(-1),
            ..spec
        };
        assert_eq!(validate(&keep_all), Ok(()));
    }

    #[test]
    fn a_canonical_spec_is_its_own_canonical_form() {
        let once = canonical(&ClusterSpec::default());
        assert_eq!(once.name, NAME);
        assert_eq!(canonical(&once), once);
        assert_eq!(validate(&once), Ok(()));
    }

    #[test]
    fn a_token_belongs_to_its_root() {
        let root = RootCa {
            digest: "a".repeat(50),
            ..RootCa::default()
        };
        let tokens = JoinTokens {
            worker: join_token("worker", &root.digest, &"1".repeat(25)).unwrap(),
            manager: join_token("manager", &root.digest, &"2".repeat(25)).unwrap(),
        };
        assert_eq!(validate_tokens(&root, &tokens), Ok(()));
        let other = RootCa {
            digest: "b".repeat(50),
            ..RootCa::default()
        };
        assert_eq!(
            validate_tokens(&other, &tokens).unwrap_err().field,
            "join_tokens.worker"
        );
        let twice = JoinTokens {
            manager: tokens.worker.clone(),
            ..tokens
        };
        assert_eq!(
            validate_tokens(&root, &twice).unwrap_err().field,
            "join_tokens.manager"
        );
    }
}
