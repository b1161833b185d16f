//! Raft's calls to the other managers.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use openraft::base::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use skep_proto::v1::raft_client::RaftClient;
use skep_proto::v1::{RaftTransferRequest, RaftVoteRequest, RaftVoteResponse, SnapshotChunk};
use tonic::Status;
use tonic::transport::Channel;

use super::{Lane, Peers};
use crate::consensus::convert::{
    append_out, appended_in, log_id_in, log_id_out, required_vote, vote_out,
};
use crate::consensus::evidence::Evidence;
use crate::consensus::store::SnapshotFile;
use crate::consensus::types::{Member, RaftId, Snapshot, TypeConfig, Vote};

/// Until a stream has to be open; a connection may have to be dialled first.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Part of a snapshot in one message, bytes.
const CHUNK_BYTES: usize = 256 << 10;

type RpcError = RPCError<TypeConfig>;

/// Makes the clients that Raft asks for.
#[derive(Clone)]
pub(in crate::consensus) struct Network {
    pub(in crate::consensus) peers: Arc<Peers>,
    pub(in crate::consensus) evidence: Arc<Evidence>,
}

/// Calls to one manager.
pub(in crate::consensus) struct PeerClient {
    network: Network,
    target: RaftId,
    addr: String,
    /// For log entries or heartbeats.
    lane: Lane,
}

impl Network {
    fn peer(&self, target: RaftId, member: &Member, lane: Lane) -> PeerClient {
        PeerClient {
            network: self.clone(),
            target,
            addr: member.addr.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: RaftId, node: &Member) -> PeerClient {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: RaftId, node: &Member) -> PeerClient {
        self.peer(target, node, Lane::Control)
    }
}

impl PeerClient {
    fn client(&self, lane: Lane) -> RaftClient<Channel> {
        self.network.peers.client(self.target, &self.addr, lane)
    }

    fn vote_out(&self, request: &VoteRequest<TypeConfig>) -> RaftVoteRequest {
        RaftVoteRequest {
            to: self.target,
            vote: Some(vote_out(&request.vote)),
            last: request.last_log_id.as_ref().map(log_id_out),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

fn vote_in(response: &RaftVoteResponse) -> Result<VoteResponse<TypeConfig>, RpcError> {
    Ok(VoteResponse {
        vote: required_vote(response.vote.as_ref()).map_err(garbled)?,
        vote_granted: response.granted,
        last_log_id: response.last.as_ref().map(log_id_in),
    })
}

fn failed(status: Status) -> RpcError {
    let text = format!("{}: {}", status.code(), status.message());
    match status.code() {
        // Back off: asking again at once cannot help.
        tonic::Code::Unavailable
        | tonic::Code::PermissionDenied
        | tonic::Code::FailedPrecondition
        | tonic::Code::Unimplemented => RPCError::Unreachable(Unreachable::from_string(text)),
        _ => RPCError::Network(NetworkError::from_string(text)),
    }
}

fn garbled(error: io::Error) -> RpcError {
    RPCError::Unreachable(Unreachable::new(&error))
}

/// A unary call, given up when Raft would give it up.
async fn call<T>(
    option: &RPCOption,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcError> {
    within(option.hard_ttl(), answer).await
}

async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(failed),
        Err(_) => Err(failed(Status::deadline_exceeded(format!(
            "no answer within {patience:?}"
        )))),
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let once = futures_util::stream::iter([request]);
        let mut answers = self.stream_append(once, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(Into::into),
            None => Err(failed(Status::unavailable("the stream ended"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let (target, mut client) = (self.target, self.client(self.lane));
        Box::pin(async move {
            // Raft pauses inside its requests when the other side does not answer:
            // opening a stream before there is one would never pause.
            let Some(first) = input.next().await else {
                return Ok(futures_util::stream::empty().boxed());
            };
            let requests = futures_util::stream::iter([first])
                .chain(input)
                .map(move |request| append_out(target, &request));
            let answers = within(OPEN_TIMEOUT, client.append(requests)).await?;
            let answers = answers.map(|answer| match answer {
                Ok(answer) => appended_in(&answer).map_err(garbled),
                Err(status) => Err(failed(status)),
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = self.vote_out(&request);
        vote_in(&call(&option, self.client(Lane::Control).vote(message)).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = self.vote_out(&request);
        vote_in(&call(&option, self.client(Lane::Control).pre_vote(message)).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let chunks = chunks(self.target, vote, snapshot.snapshot);
        let mut client = self.client(Lane::Bulk);
        let sent = call(&option, client.install_snapshot(chunks));
        tokio::select! {
            answer = sent => {
                let answer = answer?;
                let vote = required_vote(answer.vote.as_ref()).map_err(garbled)?;
                Ok(SnapshotResponse::new(vote))
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        // Ourselves, too, have to let the successor's election pass.
        self.network.evidence.handed_over(*request.from_leader());
        let message = RaftTransferRequest {
            to: self.target,
            from_leader: Some(vote_out(request.from_leader())),
            successor: *request.to_node_id(),
            last: request.last_log_id().map(log_id_out),
        };
        let answer = call(&option, self.client(Lane::Control).transfer_leader(message)).await?;
        if answer.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(failed(Status::aborted(answer.refused)))
    }
}

/// A snapshot in pieces, read as the other side takes them.
fn chunks(
    to: RaftId,
    vote: Vote,
    file: SnapshotFile,
) -> impl Stream<Item = SnapshotChunk> + Send + 'static {
    let length = file.length();
    futures_util::stream::unfold(Some(0u64), move |offset| {
        let file = file.clone();
        async move {
            let offset = offset.filter(|offset| *offset < length)?;
            let read = tokio::task::spawn_blocking(move || file.chunk(offset, CHUNK_BYTES)).await;
            let data = match read {
                Ok(Ok(data)) => data,
                // The receiver notices that it got less than announced.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot read the snapshot that is being sent");
                    return None;
                }
                Err(_) => return None,
            };
            let next = offset + data.len() as u64;
            let chunk = SnapshotChunk {
                data,
                to,
                vote: (offset == 0).then(|| vote_out(&vote)),
                total_bytes: length,
            };
            Some((chunk, Some(next)))
        }
    })
}
