//! Connections to managers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::credentials::{CredentialError, Credentials, root_store};
use super::peer::PeerRole;
use super::socket;
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
    /// Time after which a connection ends whose data the other host has not even
    /// acknowledged: how a host that is silently gone is noticed while there is
    /// something to send. Zero: as the kernel has it, some 15 minutes.
    pub user_timeout: Duration,
    /// HTTP/2 window of a stream and of the connection, bytes.
    pub window_bytes: u32,
    /// Nobody but this manager will do (a node id). `None`: any manager will.
    pub node_id: Option<String>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(3),
            user_timeout: Duration::from_secs(5),
            window_bytes: 2 << 20,
            node_id: None,
        }
    }
}

impl Trust {
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, CredentialError> {
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
    // The name is what a certificate is checked for, and the address and the time
    // to connect are the connector's, which says what went wrong.
    Endpoint::from_static("http://swarm-manager")
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(options.window_bytes)
        .initial_connection_window_size(options.window_bytes)
}

/// Opens one connection after the other to the same place.
#[derive(Clone)]
struct Connector {
    addr: String,
    trust: Trust,
    options: DialOptions,
}

impl Connector {
    fn new(addr: &str, trust: &Trust, options: &DialOptions) -> Self {
        Self {
            addr: addr.to_owned(),
            trust: trust.clone(),
            options: options.clone(),
        }
    }

    /// One attempt of TCP and TLS.
    async fn open(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let config = self.trust.client().map_err(io::Error::other)?;
        let name = match self.options.node_id {
            Some(node_id) => ServerName::try_from(node_id).map_err(io::Error::other)?,
            None => ServerName::try_from(PeerRole::Manager.unit()).map_err(io::Error::other)?,
        };
        let limit = self.options.connect_timeout;
        let late = |what: &str| {
            let text = format!("no answer within {limit:?}, {what}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        let deadline = tokio::time::Instant::now() + limit;
        let tcp = tokio::time::timeout_at(deadline, TcpStream::connect(&self.addr))
            .await
            .map_err(|_| late("the host is gone or a firewall drops packets"))??;
        socket::tune(&tcp, self.options.user_timeout)?;
        let handshake = TlsConnector::from(config).connect(name, tcp);
        let stream = tokio::time::timeout_at(deadline, handshake)
            .await
            .map_err(|_| late("something listens there but does not speak TLS"))??;
        Ok(TokioIo::new(stream))
    }
}

/// Connects to the manager at `addr` (`host:port`), or says why not. The channel
/// dials again by itself, with the newest certificate, when its connection ends.
/// A manager that refuses *our* certificate says so only at the first call.
pub async fn dial(addr: &str, trust: &Trust, options: &DialOptions) -> Result<Channel> {
    let connector = Connector::new(addr, trust, options);
    endpoint(options)
        .connect_with_connector(service_fn(move |_: Uri| connector.clone().open()))
        .await
        .map_err(|e| Error::unavailable(format!("cannot connect to {addr}: {}", chain(&e))))
}

/// The same without waiting: it dials at the first call.
pub fn dial_lazy(addr: &str, trust: &Trust, options: &DialOptions) -> Channel {
    let connector = Connector::new(addr, trust, options);
    endpoint(options)
        .connect_with_connector_lazy(service_fn(move |_: Uri| connector.clone().open()))
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
