//! A key pair of this host's and the request for its certificate.

use rcgen::{CertificateParams, KeyPair};
use skep_proto::v1::IssueResponse;
use skep_proto::{Error, Result};

use super::files::CertificateFiles;

/// A new private key, ECDSA P-256, and a request signed with it.
pub(super) struct KeyRequest {
    key_pem: Vec<u8>,
    /// PKCS#10, PEM: what goes over the wire.
    pub csr_pem: Vec<u8>,
}

impl KeyRequest {
    pub fn generate() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::internal(format!("cannot make a private key: {e}"));
        let key = KeyPair::generate().map_err(failed)?;
        // Managers ignore the subject: who this host is, they decide.
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .map_err(failed)?;
        Ok(Self {
            key_pem: key.serialize_pem().into_bytes(),
            csr_pem: csr.into_bytes(),
        })
    }

    /// The key with the certificate that was issued for it, if they fit.
    pub fn issued(&self, response: &IssueResponse) -> Result<CertificateFiles> {
        let files = CertificateFiles {
            cert_pem: response.cert_pem.clone(),
            key_pem: self.key_pem.clone(),
            root_pem: response.root_pem.clone(),
        };
        let peer = files.credentials()?.peer();
        if peer.node_id != response.node_id || peer.cluster_id != response.cluster_id {
            return Err(Error::internal(
                "the manager sent a certificate for another node than it says",
            ));
        }
        Ok(files)
    }
}
