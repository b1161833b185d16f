//! Lines on any manager: from the broker of this one if it leads, else from the
//! leader, and on from the next leader when that changes while logs are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream};
use skep_proto::transport::{DialOptions, Trust, dial};
use skep_proto::v1::control_client::ControlClient;
use skep_proto::v1::{LogsRequest, LogsResponse, logs_response};
use skep_proto::{Error, Result};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;

use super::broker::{WAITING_MAX, subscribe};
use crate::control::Logs;
use crate::dispatch::{Dispatcher, MESSAGE_BYTES_MAX};

/// Until there is a leader that answers.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to find one.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Between an election and the broker of the elected one.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines so much older than the newest one were relayed before the leader changed.
const OVERLAP_NS: i64 = 10_000_000_000;

/// What was asked for, as it comes. Bounded: who does not read stops the nodes.
pub struct LogStream(ReceiverStream<Result<LogsResponse>>);

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStream")
    }
}

impl Stream for LogStream {
    type Item = Result<LogsResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

type Source = BoxStream<'static, Result<LogsResponse>>;

impl Dispatcher {
    /// The lines of a service or task, on any manager. `forwarded`: another
    /// manager asks us because it takes us for the leader; we ask nobody else.
    ///
    /// # Errors
    /// The reference means nothing or too much, neither stream is asked for, or
    /// no leader was found in 10 s.
    pub async fn stream_logs(&self, request: LogsRequest, forwarded: bool) -> Result<LogStream> {
        let source = self.find_source(&request, forwarded).await?;
        let (out, responses) = mpsc::channel(WAITING_MAX);
        let reader = Reader {
            dispatcher: self.clone(),
            forwarded,
            resume: Resume::new(request),
        };
        let shutdown = self.shared.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = out.closed() => {}
                () = reader.run(source, &out) => {}
            }
        });
        Ok(LogStream(ReceiverStream::new(responses)))
    }

    /// Tries until some manager leads and answers.
    async fn find_source(&self, request: &LogsRequest, forwarded: bool) -> Result<Source> {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        loop {
            match self.source(request, forwarded).await {
                Err(error) if error.is_retryable() && Instant::now() < deadline && !forwarded => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn source(&self, request: &LogsRequest, forwarded: bool) -> Result<Source> {
        let leadership = self.shared.leadership();
        let ourselves = self.credentials.peer().node_id;
        let other = leadership
            .leader
            .filter(|leader| !leadership.is_self && leader.node_id != ourselves && !forwarded);
        let Some(leader) = other else {
            let reign = self.reign(BEGIN_TIMEOUT).await?;
            return Ok(ReceiverStream::new(subscribe(&reign, request.clone())?).boxed());
        };
        let trust = Trust::Credentials(self.credentials.clone());
        let channel = dial(&leader.addr, &trust, &DialOptions::default()).await?;
        let mut request = tonic::Request::new(request.clone());
        request
            .metadata_mut()
            .insert(FORWARDED_METADATA, MetadataValue::from_static("1"));
        let responses = ControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .logs(request)
            .await?
            .into_inner();
        Ok(responses
            .map(|response| response.map_err(Error::from))
            .boxed())
    }
}

/// Metadata of a call that one manager makes for another caller.
const FORWARDED_METADATA: &str = "skep-forwarded";

impl Logs for Dispatcher {
    fn logs(
        &self,
        request: LogsRequest,
        forwarded: bool,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<LogsResponse>>>> {
        Box::pin(async move { Ok(self.stream_logs(request, forwarded).await?.boxed()) })
    }
}

struct Reader {
    dispatcher: Dispatcher,
    forwarded: bool,
    resume: Resume,
}

impl Reader {
    async fn run(mut self, mut source: Source, out: &mpsc::Sender<Result<LogsResponse>>) {
        loop {
            let Some(response) = source.next().await else {
                return;
            };
            let last = match response {
                Ok(response) => {
                    if let Some(response) = self.resume.take(response)
                        && out.send(Ok(response)).await.is_err()
                    {
                        return;
                    }
                    continue;
                }
                // The manager that forwarded to us finds the next leader itself.
                Err(error) if error.is_retryable() && self.resume.follows() && !self.forwarded => {
                    let request = self.resume.request();
                    match self.dispatcher.find_source(&request, false).await {
                        Ok(next) => {
                            source = next;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let _ = out.send(Err(last)).await;
            return;
        }
    }
}

/// What was relayed, so that the next leader's lines go on from there.
#[derive(Debug)]
struct Resume {
    request: LogsRequest,
    relayed: BTreeMap<String, i64>,
    introduced: BTreeSet<String>,
    /// Where each task was when the leader changed; empty before that.
    before: BTreeMap<String, i64>,
}

impl Resume {
    fn new(request: LogsRequest) -> Self {
        Self {
            request,
            relayed: BTreeMap::new(),
            introduced: BTreeSet::new(),
            before: BTreeMap::new(),
        }
    }

    fn follows(&self) -> bool {
        self.request.follow
    }

    /// What to ask the next leader for.
    fn request(&mut self) -> LogsRequest {
        self.before = self.relayed.clone();
        let mut request = self.request.clone();
        if let Some(newest) = self.relayed.values().copied().max() {
            request.tail = None;
            request.since_ns = request.since_ns.max(newest.saturating_sub(OVERLAP_NS));
        }
        request
    }

    /// The response without what was relayed before; `None` if nothing is left.
    fn take(&mut self, mut response: LogsResponse) -> Option<LogsResponse> {
        match response.item.as_mut()? {
            logs_response::Item::Batch(batch) => {
                batch.lines.retain(|line| {
                    self.before
                        .get(&line.task_id)
                        .is_none_or(|seen| line.at_ns > *seen)
                });
                for line in &batch.lines {
                    match self.relayed.get_mut(&line.task_id) {
                        Some(at_ns) => *at_ns = line.at_ns.max(*at_ns),
                        None => {
                            self.relayed.insert(line.task_id.clone(), line.at_ns);
                        }
                    }
                }
                (!batch.lines.is_empty()).then_some(response)
            }
            logs_response::Item::Source(source) => self
                .introduced
                .insert(source.task_id.clone())
                .then_some(response),
            logs_response::Item::Gap(_) => Some(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_proto::v1::{LogBatch, LogLine};

    use super::*;

    fn batch(lines: &[(&str, i64)]) -> LogsResponse {
        let lines = lines.iter().map(|(task_id, at_ns)| LogLine {
            task_id: (*task_id).to_owned(),
            at_ns: *at_ns,
            ..LogLine::default()
        });
        LogsResponse {
            item: Some(logs_response::Item::Batch(LogBatch {
                lines: lines.collect(),
            })),
        }
    }

    #[test]
    fn the_next_leader_goes_on_where_the_last_one_stopped() {
        let mut resume = Resume::new(LogsRequest {
            follow: true,
            tail: Some(3),
            ..LogsRequest::default()
        });
        assert_eq!(resume.request().tail, Some(3));
        let now = 100 * OVERLAP_NS;
        assert!(
            resume
                .take(batch(&[("t1", now), ("t1", now), ("t2", now - 5)]))
                .is_some()
        );
        let request = resume.request();
        assert_eq!((request.tail, request.since_ns), (None, now - OVERLAP_NS));
        assert!(
            resume
                .take(batch(&[("t1", now), ("t2", now - 5)]))
                .is_none()
        );
        let again = resume.take(batch(&[("t2", now - 4), ("t3", now - 9)]));
        assert_eq!(again, Some(batch(&[("t2", now - 4), ("t3", now - 9)])));
    }
}
