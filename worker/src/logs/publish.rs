//! One publisher: the lines of some tasks of one subscription.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use skep_proto::transport::{Credentials, DialOptions, Trust, dial_lazy};
use skep_proto::v1::dispatch_client::DispatchClient;
use skep_proto::v1::{LogLine, LogSubscription, LogsPublished, TaskState};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Sender;
use crate::runtime::{Line, LogOptions, Result, Runtime};
use crate::task::Board;

/// Messages that may wait in the connection before the engine is not read on.
const MESSAGES_MAX: usize = 8;
/// Lines that may wait to be put into a message.
const LINES_MAX: usize = 256;
/// A message is sent when it holds so much…
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// …or after so long.
const MESSAGE_WAIT: Duration = Duration::from_millis(20);
/// What one publisher may send per second.
const RATE_BYTES: usize = 10 << 20;
/// How often a task that has no container yet is looked at.
const CONTAINER_POLL: Duration = Duration::from_millis(200);
/// The manager takes a message within this, or the publisher ends.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// What speaks to the manager that asked.
pub type Client = DispatchClient<Channel>;

/// A connection of its own to the manager at `addr`, made at the first call.
pub fn client(addr: &str, credentials: &Credentials) -> Client {
    let trust = Trust::Credentials(credentials.clone());
    DispatchClient::new(dial_lazy(addr, &trust, &DialOptions::default()))
}

/// Publishes until everything is told, or nobody reads.
pub async fn publish<R: Runtime>(
    runtime: Arc<R>,
    board: Arc<Board>,
    mut client: Client,
    subscription: LogSubscription,
) {
    let (messages, stream) = mpsc::channel(MESSAGES_MAX);
    let id = subscription.id.clone();
    let call = client.publish_logs(ReceiverStream::new(stream));
    let told = tell(runtime, board, messages, subscription);
    // The call ends when the manager wants no more, and then so does the telling.
    tokio::pin!(call);
    tokio::select! {
        answer = &mut call => {
            if let Err(status) = answer {
                tracing::debug!(%id, %status, "a log stream was ended by the manager");
            }
            return;
        }
        () = told => {}
    }
    let _ = tokio::time::timeout(SEND_TIMEOUT, call).await;
}

/// Says why a subscription is not served.
pub async fn refuse(mut client: Client, id: String, why: String) {
    let message = LogsPublished {
        subscription_id: id,
        error: why,
        end: true,
        ..LogsPublished::default()
    };
    let call = client.publish_logs(futures_util::stream::iter([message]));
    let _ = tokio::time::timeout(SEND_TIMEOUT, call).await;
}

async fn tell<R: Runtime>(
    runtime: Arc<R>,
    board: Arc<Board>,
    messages: Sender,
    subscription: LogSubscription,
) {
    let (lines, mut received) = mpsc::channel(LINES_MAX);
    let mut readers = JoinSet::new();
    for task_id in subscription.task_ids.clone() {
        let (runtime, board, lines) = (runtime.clone(), board.clone(), lines.clone());
        let options = LogOptions {
            follow: subscription.follow,
            tail: subscription.tail,
            since_ns: subscription.since_ns,
            stdout: subscription.stdout || !subscription.stderr,
            stderr: subscription.stderr || !subscription.stdout,
        };
        readers.spawn(async move {
            let read = read(runtime.as_ref(), &board, &task_id, options, &lines).await;
            if let Err(error) = read {
                let why = format!("task {task_id}: {error}");
                let _ = lines.send(Err(why)).await;
            }
        });
    }
    drop(lines);
    let mut message = LogsPublished {
        subscription_id: subscription.id.clone(),
        ..LogsPublished::default()
    };
    let mut rate = Rate::new();
    let mut bytes = 0;
    // The manager waits to hear that this host answers at all.
    if !send(&messages, &mut message, &mut bytes).await {
        return;
    }
    let mut since = Instant::now();
    loop {
        let item = if message.lines.is_empty() {
            received.recv().await
        } else {
            match tokio::time::timeout_at(since + MESSAGE_WAIT, received.recv()).await {
                Ok(item) => item,
                Err(_) => {
                    if !send(&messages, &mut message, &mut bytes).await {
                        return;
                    }
                    continue;
                }
            }
        };
        match item {
            Some(Ok(line)) => {
                let line: LogLine = line;
                if message.lines.is_empty() {
                    since = Instant::now();
                }
                if let Some(until) = rate.spend(line.data.len(), Instant::now()) {
                    tokio::time::sleep_until(until).await;
                }
                bytes += line.data.len();
                message.lines.push(line);
            }
            Some(Err(why)) => message.error = why,
            None => {
                message.end = true;
                send(&messages, &mut message, &mut bytes).await;
                return;
            }
        }
        let full = bytes >= MESSAGE_BYTES_MAX || !message.error.is_empty();
        if full && !send(&messages, &mut message, &mut bytes).await {
            return;
        }
    }
}

/// Sends what is gathered; `false` when nobody takes it.
async fn send(messages: &Sender, message: &mut LogsPublished, bytes: &mut usize) -> bool {
    *bytes = 0;
    let empty = LogsPublished {
        subscription_id: message.subscription_id.clone(),
        ..LogsPublished::default()
    };
    let full = std::mem::replace(message, empty);
    messages.send_timeout(full, SEND_TIMEOUT).await.is_ok()
}

async fn read<R: Runtime>(
    runtime: &R,
    board: &Board,
    task_id: &str,
    options: LogOptions,
    lines: &mpsc::Sender<std::result::Result<LogLine, String>>,
) -> Result<()> {
    let Some(container) = container(board, task_id, options.follow).await else {
        return Ok(());
    };
    let mut stream = runtime.logs(&container, options).await?;
    while let Some(line) = stream.next().await {
        let Line {
            stream,
            at_ns,
            data,
        } = line?;
        let line = LogLine {
            task_id: task_id.to_owned(),
            stream: stream.into(),
            at_ns,
            data,
        };
        if lines.send(Ok(line)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The task's container; who follows waits for it to be started.
async fn container(board: &Board, task_id: &str, follow: bool) -> Option<String> {
    loop {
        let (container, state) = board.container(task_id)?;
        if state >= TaskState::Starting {
            return (state != TaskState::Rejected).then_some(container);
        }
        if !follow {
            return None;
        }
        tokio::time::sleep(CONTAINER_POLL).await;
    }
}

/// Keeps what is sent below [`RATE_BYTES`] per second.
struct Rate {
    start: Instant,
    spent: usize,
}

impl Rate {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            spent: 0,
        }
    }

    /// Counts `bytes` at `now`; until when to wait before going on.
    fn spend(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let end = self.start + Duration::from_secs(1);
        if now >= end {
            *self = Self {
                start: now,
                spent: 0,
            };
        }
        self.spent += bytes;
        (self.spent > RATE_BYTES).then(|| {
            *self = Self {
                start: end,
                spent: 0,
            };
            end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_slowed_down() {
        let start = Instant::now();
        let mut rate = Rate::new();
        let mut now = start;
        for _ in 0..30 * RATE_BYTES / (1 << 20) {
            now = rate.spend(1 << 20, now).unwrap_or(now).max(now);
        }
        let taken = now - start;
        assert!(taken >= Duration::from_secs(25), "{taken:?}");
        assert!(taken <= Duration::from_secs(31), "{taken:?}");
    }
}
