//! Who is at the other end.

use std::net::SocketAddr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::Request;
use tonic::transport::server::UdsConnectInfo;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, Result};

/// A certificate begins an hour before it is issued, for clocks that differ.
pub const CERT_BACKDATE_NS: i64 = 3600 * 1_000_000_000;

/// What a certificate lets its holder be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// A member of the Raft group, or about to be one.
    Manager,
    /// A host that runs tasks.
    Worker,
    /// A person or a script with a client certificate.
    Operator,
}

impl PeerRole {
    /// The OU that says so.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Manager => "swarm-manager",
            Self::Worker => "swarm-worker",
            Self::Operator => "swarm-operator",
        }
    }

    /// The role that an OU stands for.
    pub fn from_unit(unit: &str) -> Option<Self> {
        [Self::Manager, Self::Worker, Self::Operator]
            .into_iter()
            .find(|role| role.unit() == unit)
    }
}

/// The identity in a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// CN: the node's id, or an operator's name.
    pub node_id: String,
    /// OU.
    pub role: PeerRole,
    /// O.
    pub cluster_id: String,
    /// End of the certificate's life, Unix nanoseconds.
    pub not_after_ns: i64,
}

impl Peer {
    /// Reads the identity out of a certificate whose signature is checked
    /// elsewhere. `None` when it does not say all that it should.
    pub fn from_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let text = |value: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            value.and_then(|v| v.as_str().ok()).map(str::to_owned)
        };
        Some(Self {
            node_id: text(subject.iter_common_name().next())?,
            role: PeerRole::from_unit(&text(subject.iter_organizational_unit().next())?)?,
            cluster_id: text(subject.iter_organization().next())?,
            not_after_ns: certificate
                .validity()
                .not_after
                .timestamp()
                .saturating_mul(1_000_000_000),
        })
    }
}

/// When the first certificate in `cert_pem` begins and ends, Unix nanoseconds.
pub fn validity_ns(cert_pem: &[u8]) -> Option<(i64, i64)> {
    let der = CertificateDer::from_pem_slice(cert_pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let validity = certificate.validity();
    let ns = |seconds: i64| seconds.saturating_mul(1_000_000_000);
    Some((
        ns(validity.not_before.timestamp()),
        ns(validity.not_after.timestamp()),
    ))
}

/// What a TLS listener knows of a connection; in the extensions of each request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// `None` for a caller without a certificate: a host that wants to join.
    pub peer: Option<Peer>,
    /// Where the connection comes from.
    pub remote: SocketAddr,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Over the local socket: whoever may open it has an operator's rights.
    Local,
    /// With a certificate.
    Certified(Peer, SocketAddr),
    /// With none.
    Unknown(SocketAddr),
}

impl Caller {
    /// The certified peer, if its role is one of `roles`.
    pub fn require(&self, roles: &[PeerRole]) -> Result<&Peer> {
        match self {
            Self::Certified(peer, _) if roles.contains(&peer.role) => Ok(peer),
            Self::Certified(peer, _) => Err(Error::permission(format!(
                "a {} certificate does not allow this call",
                peer.role.unit()
            ))),
            Self::Local | Self::Unknown(_) => {
                Err(Error::permission("this call needs a node's certificate"))
            }
        }
    }
}

/// Who makes this request.
pub fn caller<T>(request: &Request<T>) -> Result<Caller> {
    if let Some(info) = request.extensions().get::<PeerInfo>() {
        return Ok(match &info.peer {
            Some(peer) => Caller::Certified(peer.clone(), info.remote),
            None => Caller::Unknown(info.remote),
        });
    }
    if request.extensions().get::<UdsConnectInfo>().is_some() {
        return Ok(Caller::Local);
    }
    Err(Error::internal("a request came over no known listener"))
}
