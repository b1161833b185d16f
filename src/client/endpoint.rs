//! Where a manager, or this host's daemon, is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use skep_proto::transport::{Credentials, DialOptions, Trust, dial, dial_lazy};
use skep_proto::{Error, Result};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};
use tower::service_fn;

use super::Bundle;

/// Where a daemon listens for this host's commands.
pub const DEFAULT_SOCKET: &str = "/run/skep/skep.sock";
/// Where managers listen for the cluster and for operators.
const DEFAULT_PORT: u16 = 2377;
/// Until one manager's TCP and TLS are up; the next one is tried then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Whom to speak to.
#[derive(Debug, Clone)]
pub enum Target {
    /// This host's daemon, or another one's socket.
    Socket(PathBuf),
    /// Managers, by an operator's certificate, in this order.
    Managers {
        /// `host:port` of each.
        addrs: Vec<String>,
        /// Certificate, key and root.
        bundle: Box<Bundle>,
    },
}

impl Target {
    /// What an operator shows to managers; nothing on a host's own socket.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>> {
        let Self::Managers { bundle, .. } = self else {
            return Ok(None);
        };
        Credentials::from_pem(
            bundle.cert_pem.as_bytes(),
            bundle.key_pem.as_bytes(),
            bundle.root_pem.as_bytes(),
        )
        .map(Some)
        .map_err(|e| {
            Error::invalid("context", format!("{}: {e}", bundle.name))
                .hint("make a new one on a manager: skep context create NAME")
        })
    }

    /// A place to connect to for each address; connects to nothing yet.
    pub(super) fn endpoints(&self, credentials: Option<&Credentials>) -> Vec<Endpoint> {
        match (self, credentials) {
            (Self::Socket(path), _) => vec![Endpoint::local(path)],
            (Self::Managers { addrs, .. }, Some(credentials)) => {
                let trust = Trust::Credentials(credentials.clone());
                addrs
                    .iter()
                    .map(|addr| Endpoint::remote(&with_port(addr), &trust))
                    .collect()
            }
            (Self::Managers { .. }, None) => Vec::new(),
        }
    }
}

/// `host` as `host:2377`, `host:port` as it is.
pub fn with_port(addr: &str) -> String {
    let has_port = match addr.rsplit_once(':') {
        Some((host, port)) => {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    match has_port {
        true => addr.to_owned(),
        false if addr.contains(':') && !addr.starts_with('[') => {
            format!("[{addr}]:{DEFAULT_PORT}")
        }
        false => format!("{addr}:{DEFAULT_PORT}"),
    }
}

/// One place to connect to.
#[derive(Debug)]
pub(super) enum Endpoint {
    Local {
        path: PathBuf,
        channel: Channel,
    },
    Remote {
        addr: String,
        trust: Trust,
        channel: Channel,
    },
}

impl Endpoint {
    fn local(path: &Path) -> Self {
        let to = path.to_owned();
        let connector = service_fn(move |_: Uri| {
            let to = to.clone();
            async move { UnixStream::connect(to).await.map(TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://skep")
            .connect_with_connector_lazy(connector);
        Self::Local {
            path: path.to_owned(),
            channel,
        }
    }

    fn remote(addr: &str, trust: &Trust) -> Self {
        Self::Remote {
            addr: addr.to_owned(),
            trust: trust.clone(),
            channel: dial_lazy(addr, trust, &options()),
        }
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Local { channel, .. } | Self::Remote { channel, .. } => channel.clone(),
        }
    }

    /// Whether somebody is there; if not, why, and what to do about it.
    pub(super) async fn probe(&self) -> Result<()> {
        match self {
            Self::Local { path, .. } => match UnixStream::connect(path).await {
                Ok(_) => Ok(()),
                Err(error) => Err(no_daemon(path, &error)),
            },
            Self::Remote { addr, trust, .. } => dial(addr, trust, &options()).await.map(|_| ()),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { path, .. } => write!(f, "the daemon at {}", path.display()),
            Self::Remote { addr, .. } => write!(f, "the manager at {addr}"),
        }
    }
}

fn options() -> DialOptions {
    DialOptions {
        connect_timeout: CONNECT_TIMEOUT,
        ..DialOptions::default()
    }
}

fn no_daemon(path: &Path, error: &std::io::Error) -> Error {
    let said = Error::unavailable(format!(
        "cannot connect to the daemon at {}: {error}",
        path.display()
    ));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            said.hint("become root, or a member of the socket's group (skep daemon --group)")
        }
        _ => said.hint(
            "is it running? systemctl start skep, or skep daemon; \
             another place is given by --socket, --host or --context",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_gets_swarms() {
        let cases = [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("host", "host:2377"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]", "[fd00::1]:2377"),
            ("[fd00::1]:99", "[fd00::1]:99"),
        ];
        for (given, meant) in cases {
            assert_eq!(with_port(given), meant);
        }
    }

    #[tokio::test]
    async fn a_missing_daemon_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Socket(dir.path().join("none.sock"));
        let error = super::super::Client::connect(&target, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(error.message.contains("none.sock"), "{}", error.message);
        assert!(error.hint.contains("skep daemon"), "{}", error.hint);
    }
}
