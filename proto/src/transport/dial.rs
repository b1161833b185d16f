//! Connections to managers.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::credentials::{CredentialError, Credentials, root_store};
use super::peer::PeerRole;
use crate::{Error, Result};

/// Whom a connection trusts, and what it shows of itself.
#[derive(Debug, Clone)]
pub enum Trust {
    /// A node or operator: shows its certificate, trusts its cluster's roots.
    Credentials(Credentials),
    /// A joiner that has checked the root (PEM) against its token; shows nothing.
    Root(Vec<u8>),
    /// A joiner that is about to read the root. Nothing secret may be sent.
    Nobody,
}

/// Timings of a connection.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Until TCP and TLS are up.
    pub connect_timeout: Duration,
    /// Silence after which a ping is sent.
    pub keepalive_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub keepalive_timeout: Duration,
    /// HTTP/2 window of a stream and of the connection, bytes.
    pub window_bytes: u32,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(3),
            window_bytes: 2 << 20,
        }
    }
}

impl Trust {
    fn client(&self) -> Result<Arc<ClientConfig>, CredentialError> {
        match self {
            Self::Credentials(credentials) => Ok(credentials.client()),
            Self::Root(pem) => {
                let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(root_store(pem)?)
                    .with_no_client_auth();
                config.alpn_protocols = vec![b"h2".to_vec()];
                Ok(Arc::new(config))
            }
            Self::Nobody => {
                let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                    .with_safe_default_protocol_versions()?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyServer))
                    .with_no_client_auth();
                config.alpn_protocols = vec![b"h2".to_vec()];
                Ok(Arc::new(config))
            }
        }
    }
}

fn endpoint(options: &DialOptions) -> Endpoint {
    // The name is what a certificate is checked for; the address is the connector's.
    Endpoint::from_static("http://swarm-manager")
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(options.window_bytes)
        .initial_connection_window_size(options.window_bytes)
}

/// One connection attempt of TCP and TLS to `addr` (`host:port`).
async fn open(
    addr: String,
    trust: Trust,
    timeout: Duration,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let config = trust.client().map_err(std::io::Error::other)?;
    let attempt = async {
        let tcp = TcpStream::connect(&addr).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(PeerRole::Manager.unit()).map_err(std::io::Error::other)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(stream) => stream.map(TokioIo::new),
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer from {addr} within {timeout:?}"),
        )),
    }
}

/// Connects to the manager at `addr` (`host:port`), or says why not. The channel
/// dials again by itself, with the newest certificate, when its connection ends.
pub async fn dial(addr: &str, trust: &Trust, options: &DialOptions) -> Result<Channel> {
    let (to, trust, timeout) = (addr.to_owned(), trust.clone(), options.connect_timeout);
    let connector = service_fn(move |_: Uri| open(to.clone(), trust.clone(), timeout));
    endpoint(options)
        .connect_with_connector(connector)
        .await
        .map_err(|e| Error::unavailable(format!("cannot connect to {addr}: {}", chain(&e))))
}

/// The same without waiting: it dials at the first call.
pub fn dial_lazy(addr: &str, trust: &Trust, options: &DialOptions) -> Channel {
    let (to, trust, timeout) = (addr.to_owned(), trust.clone(), options.connect_timeout);
    let connector = service_fn(move |_: Uri| open(to.clone(), trust.clone(), timeout));
    endpoint(options).connect_with_connector_lazy(connector)
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}

/// Accepts any certificate: only for reading a root that is then compared with
/// the digest in a join token.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
