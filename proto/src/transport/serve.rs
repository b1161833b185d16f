//! The accepting side.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::credentials::Credentials;
use super::peer::{Peer, PeerInfo};
use super::socket;

/// Bounds on what callers may cost before they are known.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// Handshakes under way at once; more wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// A caller that has not finished its handshake by then is dropped.
    pub handshake_timeout: Duration,
    /// As for [`super::DialOptions::user_timeout`].
    pub user_timeout: Duration,
    /// Connections of callers without a certificate at once; more are dropped.
    pub strangers_max: usize,
    /// After this, the connection of a caller without a certificate ends: long
    /// enough to join, too short to pile up.
    pub stranger_timeout: Duration,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            handshakes_max: 512,
            handshake_timeout: Duration::from_secs(5),
            user_timeout: Duration::from_secs(15),
            strangers_max: 512,
            stranger_timeout: Duration::from_secs(60),
        }
    }
}

/// A TLS connection that knows who is at its other end.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    stranger: Option<Stranger>,
}

/// What holds a caller without a certificate to its bounds.
#[derive(Debug)]
struct Stranger {
    end: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

/// Accepts connections until the returned stream is dropped, each with the
/// newest certificate. A failed handshake costs nobody else anything.
pub fn accept(
    listener: TcpListener,
    credentials: Credentials,
) -> ReceiverStream<io::Result<TlsConnection>> {
    accept_with(listener, credentials, AcceptOptions::default())
}

/// The same with other bounds.
pub fn accept_with(
    listener: TcpListener,
    credentials: Credentials,
    options: AcceptOptions,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(16);
    let door = Arc::new(Door {
        credentials,
        handshakes: Arc::new(Semaphore::new(options.handshakes_max)),
        strangers: Arc::new(Semaphore::new(options.strangers_max)),
        options,
    });
    tokio::spawn(async move {
        loop {
            let next = async {
                let slot = door.handshakes.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((tcp, remote)) => {
                    let (door, sender) = (door.clone(), sender.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        if let Some(connection) = door.enter(tcp, remote).await {
                            let _ = sender.send(Ok(connection)).await;
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some be closed.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// What every connection goes through.
struct Door {
    credentials: Credentials,
    options: AcceptOptions,
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Door {
    /// The connection, if it comes to one; otherwise the log says why not.
    async fn enter(&self, tcp: TcpStream, remote: SocketAddr) -> Option<TlsConnection> {
        if let Err(error) = socket::tune(&tcp, self.options.user_timeout) {
            // It is gone already.
            tracing::debug!(%remote, %error, "cannot set up a connection");
            return None;
        }
        let handshake = TlsAcceptor::from(self.credentials.server()).accept(tcp);
        let stream = match tokio::time::timeout(self.options.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%remote, "TLS handshake took too long");
                return None;
            }
        };
        let info = info(&stream, remote);
        let stranger = match info.peer {
            Some(_) => None,
            None => {
                let Ok(slot) = self.strangers.clone().try_acquire_owned() else {
                    tracing::debug!(%remote, "too many callers without a certificate");
                    return None;
                };
                Some(Stranger {
                    end: Box::pin(tokio::time::sleep(self.options.stranger_timeout)),
                    _slot: slot,
                })
            }
        };
        Some(TlsConnection {
            stream,
            info,
            stranger,
        })
    }
}

fn info(stream: &TlsStream<TcpStream>, remote: SocketAddr) -> PeerInfo {
    let peer = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(Peer::from_certificate);
    PeerInfo { peer, remote }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(stranger) = &mut self.stranger
            && stranger.end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
