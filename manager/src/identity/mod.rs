//! Who is who in a swarm: the root certificate, join tokens, certificates for
//! nodes and operators, and the one check of a caller that every service makes.
//!
//! Invariant: a private key other than the root's is made where it is used and
//! never travels, and nothing here decides what a node should be: its role is
//! read from the World.

pub mod authorize;
pub mod ca;
pub mod found;
mod limit;
mod operator;
mod random;
mod register;
mod rotation;
mod service;

pub use authorize::{authorize, authorize_member, authorize_operator, needs_renewal, wanted_role};
pub use ca::{Csr, RootAuthority, Subject};
pub use found::{FoundOptions, Founding, found};
pub use operator::{Operator, issue_operator};
pub use random::{join_token, random_id};
pub use rotation::{begin_rotation, finish_rotations};
pub use service::{IdentityOptions, IdentityService};

use skep_proto::v1::{Cluster, ClusterSpec, RootCa};

/// How long a node's certificate lives unless the cluster says otherwise: 90 days.
pub const CERT_EXPIRY_NS: i64 = 90 * 24 * 3600 * 1_000_000_000;
/// The least that the cluster may say: 1 hour.
pub const CERT_EXPIRY_NS_MIN: i64 = 3600 * 1_000_000_000;

/// How long the certificates of this cluster live, ns.
pub fn cert_expiry_ns(spec: Option<&ClusterSpec>) -> i64 {
    spec.and_then(|spec| spec.node_cert_expiry_ns)
        .unwrap_or(CERT_EXPIRY_NS)
        .max(CERT_EXPIRY_NS_MIN)
}

/// What `Node.cert_trust` of a node must be for it to trust just the roots that
/// it should; empty before there is a root.
pub fn trust_digest(cluster: &Cluster) -> String {
    cluster
        .root_ca
        .as_ref()
        .map_or_else(String::new, RootCa::trust_digest)
}

/// Unix time now, ns.
pub(crate) fn now_ns() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
