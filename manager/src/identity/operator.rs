//! Client certificates for people and scripts that reach managers from elsewhere.

use skep_proto::objects::Identified;
use skep_proto::transport::PeerRole;
use skep_proto::v1::Cluster;
use skep_proto::{Error, Result};

use super::ca::{RootAuthority, Subject};
use super::found::key_and_request;
use super::now_ns;

const SECOND_NS: i64 = 1_000_000_000;
/// How long one is valid when nothing is said: a year.
const VALID_FOR_NS: i64 = 365 * 24 * 3600 * SECOND_NS;
const VALID_FOR_NS_MIN: i64 = 60 * SECOND_NS;
const VALID_FOR_NS_MAX: i64 = 10 * VALID_FOR_NS;
const NAME_LEN_MAX: usize = 64;

/// An operator's certificate, PEM, with all that a client needs.
#[derive(Clone)]
pub struct Operator {
    /// The certificate.
    pub cert_pem: Vec<u8>,
    /// Its private key: kept nowhere else.
    pub key_pem: Vec<u8>,
    /// The roots to trust.
    pub root_pem: Vec<u8>,
    /// Of which swarm.
    pub cluster_id: String,
    /// End of its life, Unix ns.
    pub not_after_ns: i64,
}

/// Issues a certificate for the operator `name`, valid for `valid_for_ns` (0: a
/// year). Nothing is recorded: it ends when it expires, when the root is
/// exchanged, or when its name is among the cluster's removed ones.
pub fn issue_operator(cluster: &Cluster, name: &str, valid_for_ns: i64) -> Result<Operator> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(allowed) {
        return Err(Error::invalid(
            "name",
            format!("must be 1 to {NAME_LEN_MAX} letters, digits or any of -_.@"),
        ));
    }
    let valid_for_ns = match valid_for_ns {
        0 => VALID_FOR_NS,
        ns if (VALID_FOR_NS_MIN..=VALID_FOR_NS_MAX).contains(&ns) => ns,
        _ => {
            return Err(Error::invalid(
                "valid_for_ns",
                "must be from 1 minute to 10 years",
            ));
        }
    };
    let root = cluster
        .root_ca
        .as_ref()
        .ok_or_else(|| Error::internal("the cluster has no root certificate").on("cluster"))?;
    let now_ns = now_ns();
    let not_after_ns = now_ns.saturating_add(valid_for_ns);
    let (key_pem, csr) = key_and_request()?;
    let subject = Subject {
        name: name.to_owned(),
        role: PeerRole::Operator,
        cluster_id: cluster.id().to_owned(),
    };
    let cert_pem = RootAuthority::from_root_ca(root)?.sign(&csr, &subject, now_ns, not_after_ns)?;
    Ok(Operator {
        cert_pem,
        key_pem,
        root_pem: root.trusted_pem(),
        cluster_id: cluster.id().to_owned(),
        not_after_ns,
    })
}

#[cfg(test)]
mod tests {
    use skep_proto::transport::Credentials;
    use skep_proto::v1::write_request::Verb;

    use super::*;
    use crate::identity::{FoundOptions, found};

    fn cluster() -> Cluster {
        match found(FoundOptions::default()).unwrap().request.verb {
            Some(Verb::InitCluster(init)) => init.cluster.unwrap(),
            _ => panic!("not an InitCluster"),
        }
    }

    #[test]
    fn an_operator_gets_a_certificate_of_its_own_kind() {
        let cluster = cluster();
        let made = issue_operator(&cluster, "ann@example.org", 0).unwrap();
        let credentials =
            Credentials::from_pem(&made.cert_pem, &made.key_pem, &made.root_pem).unwrap();
        assert_eq!(credentials.peer().role, PeerRole::Operator);
        assert_eq!(credentials.peer().node_id, "ann@example.org");
        assert_eq!(credentials.peer().cluster_id, cluster.id());
    }

    #[test]
    fn a_bad_name_or_time_is_refused() {
        let cluster = cluster();
        for (name, ns, field) in [
            ("", 0, "name"),
            ("a b", 0, "name"),
            ("ann", 1, "valid_for_ns"),
            ("ann", -5, "valid_for_ns"),
            ("ann", i64::MAX, "valid_for_ns"),
        ] {
            let error = issue_operator(&cluster, name, ns).err().unwrap();
            assert_eq!(error.field, field);
        }
    }
}
