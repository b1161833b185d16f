//! The one thread that waits for the disk.

use std::io;

use openraft::storage::IOFlushed;
use openraft::type_config::TypeConfigExt;
use tokio::sync::mpsc;

use super::Store;
use crate::consensus::types::TypeConfig;

/// Writes that may wait for the next flush at once.
const WAITING_MAX: usize = 1024;

/// Hands callbacks to the flushing thread, which ends when the last handle does.
#[derive(Debug, Clone)]
pub struct Flusher(mpsc::Sender<IOFlushed<TypeConfig>>);

impl Flusher {
    /// Starts the thread.
    pub fn start(store: Store) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("skep-flush".into())
            .spawn(move || run(&store, receiver))?;
        Ok(Self(sender))
    }

    /// Calls back once everything written so far is on disk, in the order of
    /// these calls.
    pub async fn flushed(&self, callback: IOFlushed<TypeConfig>) -> io::Result<()> {
        match self.0.send(callback).await {
            Ok(()) => Ok(()),
            Err(refused) => {
                refused.0.io_completed(Err(stopped()));
                Err(stopped())
            }
        }
    }

    /// Waits until everything written so far is on disk.
    pub async fn wait(&self) -> io::Result<()> {
        let (sender, receiver) = TypeConfig::oneshot();
        self.flushed(IOFlushed::signal(sender)).await?;
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the store is closed")
}

fn run(store: &Store, mut receiver: mpsc::Receiver<IOFlushed<TypeConfig>>) {
    let mut waiting = Vec::with_capacity(64);
    while let Some(first) = receiver.blocking_recv() {
        waiting.push(first);
        while waiting.len() < WAITING_MAX
            && let Ok(next) = receiver.try_recv()
        {
            waiting.push(next);
        }
        let result = store.flush();
        for callback in waiting.drain(..) {
            callback.io_completed(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }
}
