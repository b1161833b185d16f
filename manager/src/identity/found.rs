//! The beginning of a swarm: its root, its tokens, and its first node.

use rcgen::{CertificateParams, KeyPair};
use skep_proto::token::root_digest;
use skep_proto::transport::PeerRole;
use skep_proto::v1::{
    Availability, Cluster, ClusterSpec, InitCluster, JoinTokens, ManagerStatus, Meta, Node,
    NodeDescription, NodeSpec, NodeState, NodeStatus, Role, WriteRequest, write_request::Verb,
};
use skep_proto::{Error, Result};

use super::ca::{Csr, RootAuthority, Subject};
use super::random::{join_token, random_id};
use super::{CERT_EXPIRY_NS, cert_expiry_ns, now_ns};

/// What the founder says of its swarm and of itself.
#[derive(Debug, Clone, Default)]
pub struct FoundOptions {
    /// What is absent gets Swarm's defaults.
    pub spec: ClusterSpec,
    /// The first node's.
    pub availability: Availability,
    /// The first node's.
    pub description: NodeDescription,
    /// Where the others reach the first node: its Raft id and `host:port`.
    pub manager: ManagerStatus,
    /// How long the first certificate lives, ns, instead of what the spec says.
    /// Without the least of an hour: for trying out renewal.
    pub cert_expiry_ns: Option<i64>,
}

/// A swarm that is about to be.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The new cluster's id.
    pub cluster_id: String,
    /// The first node's id.
    pub node_id: String,
    /// Its certificate, PEM.
    pub cert_pem: Vec<u8>,
    /// Its private key, PEM.
    pub key_pem: Vec<u8>,
    /// The root to trust, PEM.
    pub root_pem: Vec<u8>,
    /// The first write: an `InitCluster`.
    pub request: WriteRequest,
}

/// Makes everything that a new swarm begins with. Changes nothing anywhere.
pub fn found(options: FoundOptions) -> Result<Founding> {
    let now_ns = now_ns();
    let (cluster_id, node_id) = (random_id()?, random_id()?);
    let spec = with_defaults(options.spec);
    let expiry_ns = options
        .cert_expiry_ns
        .unwrap_or_else(|| cert_expiry_ns(Some(&spec)));
    let not_after_ns = now_ns.saturating_add(expiry_ns);

    let authority = RootAuthority::generate(now_ns)?;
    let root = authority.root_ca().clone();
    let subject = Subject {
        name: node_id.clone(),
        role: PeerRole::Manager,
        cluster_id: cluster_id.clone(),
    };
    let (key_pem, csr) = key_and_request()?;
    let cert_pem = authority.sign(&csr, &subject, now_ns, not_after_ns)?;

    let addr = options.manager.addr.rsplit_once(':');
    let node = Node {
        meta: Some(Meta {
            id: node_id.clone(),
            ..Meta::default()
        }),
        spec: Some(NodeSpec {
            role: Role::Manager.into(),
            availability: options.availability.into(),
            ..NodeSpec::default()
        }),
        description: Some(options.description),
        status: Some(NodeStatus {
            state: NodeState::Unknown.into(),
            addr: addr.map_or("", |(host, _)| host).to_owned(),
            since_ns: now_ns,
            ..NodeStatus::default()
        }),
        role: Role::Manager.into(),
        manager: Some(options.manager),
        cert_not_after_ns: not_after_ns,
        cert_trust: root_digest(&root.cert_pem),
    };
    let root_pem = root.cert_pem.clone();
    let cluster = Cluster {
        meta: Some(Meta {
            id: cluster_id.clone(),
            ..Meta::default()
        }),
        spec: Some(spec),
        join_tokens: Some(JoinTokens {
            worker: join_token(&root.digest)?,
            manager: join_token(&root.digest)?,
        }),
        root_ca: Some(root),
        ..Cluster::default()
    };
    Ok(Founding {
        request: WriteRequest {
            request_id: random_id()?,
            term: 0,
            verb: Some(Verb::InitCluster(InitCluster {
                cluster: Some(cluster),
                node: Some(node),
            })),
        },
        cluster_id,
        node_id,
        cert_pem,
        key_pem,
        root_pem,
    })
}

fn with_defaults(mut spec: ClusterSpec) -> ClusterSpec {
    if spec.name.is_empty() {
        spec.name = "default".to_owned();
    }
    spec.task_history_limit.get_or_insert(5);
    spec.heartbeat_period_ns.get_or_insert(500_000_000);
    spec.node_cert_expiry_ns.get_or_insert(CERT_EXPIRY_NS);
    spec
}

/// A new private key, PEM, and a request for a certificate of it.
pub(super) fn key_and_request() -> Result<(Vec<u8>, Csr)> {
    let failed = |e: rcgen::Error| Error::internal(format!("cannot make a key: {e}"));
    let key = KeyPair::generate().map_err(failed)?;
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(failed)?;
    Ok((
        key.serialize_pem().into_bytes(),
        Csr::parse(csr.as_bytes())?,
    ))
}

#[cfg(test)]
mod tests {
    use skep_proto::token::JoinToken;
    use skep_proto::transport::Credentials;

    use super::*;

    #[test]
    fn a_founded_swarm_holds_together() {
        let founding = found(FoundOptions::default()).unwrap();
        let credentials =
            Credentials::from_pem(&founding.cert_pem, &founding.key_pem, &founding.root_pem)
                .unwrap();
        assert_eq!(credentials.peer().node_id, founding.node_id);
        assert_eq!(credentials.peer().cluster_id, founding.cluster_id);
        let Some(Verb::InitCluster(init)) = founding.request.verb else {
            panic!("not an InitCluster");
        };
        let (cluster, node) = (init.cluster.unwrap(), init.node.unwrap());
        let tokens = cluster.join_tokens.clone().unwrap();
        let digest = root_digest(&founding.root_pem);
        for token in [&tokens.worker, &tokens.manager] {
            assert_eq!(JoinToken::parse(token).unwrap().digest(), digest);
        }
        assert_ne!(tokens.worker, tokens.manager);
        assert_eq!(node.cert_trust, super::super::trust_digest(&cluster));
        let lives_ns = node.cert_not_after_ns - super::super::now_ns();
        assert!((lives_ns - CERT_EXPIRY_NS).abs() < 60_000_000_000);
    }
}
