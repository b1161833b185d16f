//! A node's certificate, key and trusted roots, exchangeable at any time.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::peer::Peer;

/// Why PEM files do not make credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not PEM, or PEM of something else.
    #[error("{0}: not usable PEM: {1}")]
    Pem(&'static str, rustls_pki_types::pem::Error),
    /// A file with no certificate in it.
    #[error("{0}: holds no certificate")]
    Empty(&'static str),
    /// A certificate without a node id, role and cluster id.
    #[error("the certificate names no node, role and cluster")]
    Subject,
    /// The certificate and the key do not belong together, or the like.
    #[error("certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The trusted roots cannot be used.
    #[error("the root certificates cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

struct Material {
    peer: Peer,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    root_pem: Vec<u8>,
    cert_pem: Vec<u8>,
}

/// A handle on what a node shows and trusts. Clones share it: after
/// [`Credentials::replace`] every new connection uses the new material.
#[derive(Clone)]
pub struct Credentials(Arc<ArcSwap<Material>>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.peer()).finish()
    }
}

impl Credentials {
    /// From PEM: the certificate (and what it was signed by, up to the root),
    /// its private key, and the roots to trust.
    pub fn from_pem(cert: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, CredentialError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(material(
            cert, key, roots,
        )?))))
    }

    /// Exchanges the material; open connections keep theirs.
    pub fn replace(&self, cert: &[u8], key: &[u8], roots: &[u8]) -> Result<(), CredentialError> {
        self.0.store(Arc::new(material(cert, key, roots)?));
        Ok(())
    }

    /// Who we are.
    pub fn peer(&self) -> Peer {
        self.0.load().peer.clone()
    }

    /// The roots that we trust, PEM.
    pub fn root_pem(&self) -> Vec<u8> {
        self.0.load().root_pem.clone()
    }

    /// Our certificate chain, PEM.
    pub fn cert_pem(&self) -> Vec<u8> {
        self.0.load().cert_pem.clone()
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.0.load().server.clone()
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.0.load().client.clone()
    }
}

pub(super) fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CredentialError::Pem(what, e))?;
    if certificates.is_empty() {
        return Err(CredentialError::Empty(what));
    }
    Ok(certificates)
}

pub(super) fn root_store(pem: &[u8]) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("root certificate", pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn material(cert: &[u8], key: &[u8], roots: &[u8]) -> Result<Material, CredentialError> {
    let chain = certificates("certificate", cert)?;
    let private =
        || PrivateKeyDer::from_pem_slice(key).map_err(|e| CredentialError::Pem("private key", e));
    let store = Arc::new(root_store(roots)?);
    let peer = chain
        .first()
        .and_then(Peer::from_certificate)
        .ok_or(CredentialError::Subject)?;
    let provider = Arc::new(default_provider());

    // Callers without a certificate are let in as far as the identity service:
    // each RPC checks the caller it needs.
    let verifier = WebPkiClientVerifier::builder_with_provider(store.clone(), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), private()?)?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would keep an identity that has been exchanged or removed.
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_client_auth_cert(chain, private()?)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = rustls::client::Resumption::disabled();

    Ok(Material {
        peer,
        server: Arc::new(server),
        client: Arc::new(client),
        root_pem: roots.to_vec(),
        cert_pem: cert.to_vec(),
    })
}
