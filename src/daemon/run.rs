//! From the command line to a running daemon, and down again.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::control_server::ControlServer;
use skep_proto::v1::local_server::LocalServer;
use skep_proto::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::files::DataDir;
use super::local::{Gate, Local};
use super::node::Host;
use super::{Args, Settings, cut, socket};

/// Until a leader that is told to stop has handed over and everything is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message on the local socket, bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Runs this host's daemon until it is told to stop.
pub async fn run(args: Args) -> Result<()> {
    let settings = Settings::resolve(args)?;
    log(&settings)?;
    let data = DataDir::open(&settings.data_dir)?;
    let listener = socket::bind(&settings.socket, settings.group.as_deref()).await?;
    if let Err(error) = cut::heal().await {
        tracing::debug!(%error, "no packet filter to clean up");
    }
    let shutdown = CancellationToken::new();
    let (end, mut ended) = mpsc::channel(1);
    let host = Host::new(settings.clone(), data, end, shutdown.clone());
    let serve = tonic::transport::Server::builder()
        .add_service(LocalServer::new(Local::new(host.clone())))
        .add_service(
            ControlServer::new(Gate::new(host.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            shutdown.clone().cancelled_owned(),
        );
    let mut serving = tokio::spawn(serve);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %settings.socket.display(),
        data_dir = %settings.data_dir.display(),
        "skep daemon started"
    );
    host.resume().await;

    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let result = tokio::select! {
        _ = terminate.recv() => { tracing::info!("SIGTERM: stopping"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("SIGINT: stopping"); Ok(()) }
        _ = ended.recv() => { tracing::info!("told to stop"); Ok(()) }
        served = &mut serving => Err(Error::internal(format!(
            "the local socket is no longer served: {served:?}"
        ))),
    };
    stop(&host, &shutdown, &settings).await;
    result
}

async fn stop(host: &Arc<Host>, shutdown: &CancellationToken, settings: &Settings) {
    if tokio::time::timeout(STOP_TIMEOUT, host.stop())
        .await
        .is_err()
    {
        tracing::warn!("not everything stopped within {STOP_TIMEOUT:?}");
    }
    shutdown.cancel();
    if let Err(error) = std::fs::remove_file(&settings.socket) {
        tracing::debug!(%error, "the local socket was gone already");
    }
    tracing::info!("skep daemon stopped");
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|e| Error::internal(format!("signals cannot be listened to: {e}")))
}

fn log(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level).map_err(|e| {
        Error::invalid("log-level", format!("{:?}: {e}", settings.log_level))
            .hint("error, warn, info, debug, trace, or a filter such as info,skep_manager=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let set = if settings.log_json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    set.map_err(|e| Error::internal(format!("the log cannot be set up: {e}")))
}
