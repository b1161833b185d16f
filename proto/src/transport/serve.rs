//! The accepting side.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
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
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            handshakes_max: 512,
            handshake_timeout: Duration::from_secs(5),
            user_timeout: Duration::from_secs(15),
        }
    }
}

/// A TLS connection that knows who is at its other end.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
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
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(options.handshakes_max));
        loop {
            let next = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = sender.closed() => return,
            };
            let (tcp, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: let some be closed.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (credentials, sender) = (credentials.clone(), sender.clone());
            let (limit, user_timeout) = (options.handshake_timeout, options.user_timeout);
            tokio::spawn(async move {
                let _slot = slot;
                if let Err(error) = socket::tune(&tcp, user_timeout) {
                    // It is gone already.
                    tracing::debug!(%remote, %error, "cannot set up a connection");
                    return;
                }
                let handshake = TlsAcceptor::from(credentials.server()).accept(tcp);
                match tokio::time::timeout(limit, handshake).await {
                    Ok(Ok(stream)) => {
                        let info = info(&stream, remote);
                        let _ = sender.send(Ok(TlsConnection { stream, info })).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
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
