//! The calls of the other managers.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use skep_proto::Error;
use skep_proto::transport::{Peer, PeerRole, caller};
use skep_proto::v1::raft_server::Raft as RaftRpc;
use skep_proto::v1::{
    RaftAddMemberRequest, RaftAppend, RaftAppended, RaftEvidenceRequest, RaftEvidenceResponse,
    RaftHelloRequest, RaftHelloResponse, RaftLinkBeat, RaftMemberResponse, RaftReadIndexRequest,
    RaftReadIndexResponse, RaftRemoveMemberRequest, RaftSnapshotResponse, RaftStepDownRequest,
    RaftStepDownResponse, RaftTransferRequest, RaftTransferResponse, RaftVoteRequest,
    RaftVoteResponse, SnapshotChunk,
};
use tonic::{Request, Response, Status, Streaming};

use crate::consensus::convert::{
    append_in, appended_out, log_id_in, log_id_out, required_vote, vote_out,
};
use crate::consensus::core::Core;
use crate::consensus::members::Change;
use crate::consensus::store::{SNAPSHOT_BYTES_MAX, SnapshotFile};
use crate::consensus::types::{Member, RaftId, Snapshot, TypeConfig, Vote};

/// For as long our own connection may lag behind what a caller has seen.
const EVIDENCE_PATIENCE: Duration = Duration::from_millis(30);
/// Between two chunks of a snapshot.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that a membership change or hand-over is worked at for a caller.
const CHANGE_MAX: Duration = Duration::from_secs(120);

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Answer<BoxStream<'static, Result<T, Status>>>;

/// Serves Raft to managers of the same cluster that have not been removed.
#[derive(Clone)]
pub struct RaftService(pub(in crate::consensus) Arc<Core>);

impl RaftService {
    /// The calling manager, unless it was removed.
    fn manager<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = caller(request)?.require(&[PeerRole::Manager])?.clone();
        self.0.refuse_removed(&peer.node_id)?;
        Ok(peer)
    }

    fn check_target(&self, to: RaftId) -> Result<(), Status> {
        if to == self.0.me.raft_id {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "the manager at this address is {}, not {to}",
            self.0.me.raft_id
        ))
        .into())
    }

    /// What an election may disregard a living lease for: our own evidence
    /// that the leader's process is gone, or the leader's word that it hands over.
    async fn excused(&self, request: &RaftVoteRequest) -> bool {
        if !request.leadership_transfer {
            return false;
        }
        match self.0.vote_and_last().await {
            Ok((vote, _)) if vote.committed => {
                self.0.evidence.excuses(vote, EVIDENCE_PATIENCE).await
            }
            _ => false,
        }
    }
}

fn vote_in(request: &RaftVoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest::new(
        required_vote(request.vote.as_ref())?,
        request.last.as_ref().map(log_id_in),
    ))
}

fn voted(response: &VoteResponse<TypeConfig>) -> Response<RaftVoteResponse> {
    Response::new(RaftVoteResponse {
        vote: Some(vote_out(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_out),
    })
}

fn stopped(error: &dyn std::fmt::Display) -> Status {
    Error::unavailable(format!("consensus has stopped on this manager: {error}")).into()
}

fn deadline(from_now_ns: i64) -> Instant {
    let patience = Duration::from_nanos(from_now_ns.max(0).unsigned_abs());
    Instant::now() + patience.min(CHANGE_MAX)
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    type AppendStream = BoxStream<'static, Result<RaftAppended, Status>>;
    type LinkStream = BoxStream<'static, Result<RaftLinkBeat, Status>>;

    async fn append(&self, request: Request<Streaming<RaftAppend>>) -> Answers<RaftAppended> {
        let peer = self.manager(&request)?;
        let refusal = Arc::new(OnceLock::new());
        let (service, why) = (self.clone(), refusal.clone());
        let requests = request
            .into_inner()
            .map(move |message| {
                let message = message?;
                service.check_target(message.to)?;
                service.0.refuse_removed(&peer.node_id)?;
                append_in(message)
                    .map_err(|error| Status::from(Error::invalid("append", error.to_string())))
            })
            .scan((), move |(), request: Result<_, Status>| {
                let request = request.map_err(|status| {
                    let _ = why.set(status);
                });
                futures_util::future::ready(request.ok())
            });
        let answers = self
            .0
            .raft
            .stream_append(requests)
            .map(|answer| match answer {
                Ok(answer) => Ok(appended_out(&answer)),
                Err(fatal) => Err(stopped(&fatal)),
            });
        let last = futures_util::stream::once(async move { refusal.get().cloned() })
            .filter_map(|refusal| futures_util::future::ready(refusal.map(Err)));
        let open = answers
            .chain(last)
            .take_until(self.0.stop.clone().cancelled_owned());
        Ok(Response::new(open.boxed()))
    }

    async fn vote(&self, request: Request<RaftVoteRequest>) -> Answer<RaftVoteResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let mut vote = vote_in(&message)?;
        vote.leadership_transfer = self.excused(&message).await;
        let response = self.0.raft.vote(vote).await.map_err(|e| stopped(&e))?;
        Ok(voted(&response))
    }

    async fn pre_vote(&self, request: Request<RaftVoteRequest>) -> Answer<RaftVoteResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let vote = vote_in(&message)?;
        let response = self.0.raft.pre_vote(vote).await.map_err(|e| stopped(&e))?;
        Ok(voted(&response))
    }

    async fn transfer_leader(
        &self,
        request: Request<RaftTransferRequest>,
    ) -> Answer<RaftTransferResponse> {
        let peer = self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let vote = required_vote(message.from_leader.as_ref())?;
        let leader = self.0.member(vote.leader_id.node_id);
        if leader.is_none_or(|leader| leader.node_id != peer.node_id) {
            return Err(Error::permission("only the leader itself can hand over").into());
        }
        self.0.evidence.handed_over(vote);
        let last = message.last.as_ref().map(log_id_in);
        let request = TransferLeaderRequest::new(vote, message.successor, last);
        let answer = self.0.raft.handle_transfer_leader(request).await;
        let refused = match answer.map_err(|e| stopped(&e))? {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        Ok(Response::new(RaftTransferResponse { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Answer<RaftSnapshotResponse> {
        self.manager(&request)?;
        let (vote, snapshot) = self.receive(request.into_inner()).await?;
        let installed = self.0.raft.install_full_snapshot(vote, snapshot).await;
        let installed = installed.map_err(|e| stopped(&e))?;
        Ok(Response::new(RaftSnapshotResponse {
            vote: Some(vote_out(&installed.vote)),
        }))
    }

    async fn read_index(
        &self,
        request: Request<RaftReadIndexRequest>,
    ) -> Answer<RaftReadIndexResponse> {
        self.manager(&request)?;
        self.check_target(request.into_inner().to)?;
        let log_id = self.0.read_index_here().await?;
        Ok(Response::new(RaftReadIndexResponse {
            log_id: Some(log_id_out(&log_id)),
        }))
    }

    async fn evidence(
        &self,
        request: Request<RaftEvidenceRequest>,
    ) -> Answer<RaftEvidenceResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let evidence = &self.0.evidence;
        let gone = evidence.wait_gone(message.leader, EVIDENCE_PATIENCE).await;
        let (vote, last) = self.0.vote_and_last().await?;
        Ok(Response::new(RaftEvidenceResponse {
            gone,
            vote: Some(vote_out(&vote)),
            last: last.as_ref().map(log_id_out),
        }))
    }

    async fn link(&self, request: Request<Streaming<RaftLinkBeat>>) -> Answers<RaftLinkBeat> {
        self.manager(&request)?;
        let mut theirs = request.into_inner();
        // The other side may send beats; reading them is what notices its end.
        let until_theirs_ends = async move { while let Ok(Some(_)) = theirs.message().await {} };
        let ours = futures_util::stream::iter([Ok(self.0.beat())])
            .chain(futures_util::stream::pending())
            .take_until(until_theirs_ends)
            .take_until(self.0.stop.clone().cancelled_owned());
        Ok(Response::new(ours.boxed()))
    }

    async fn hello(&self, request: Request<RaftHelloRequest>) -> Answer<RaftHelloResponse> {
        self.manager(&request)?;
        Ok(Response::new(RaftHelloResponse {
            raft_id: self.0.me.raft_id,
            node_id: self.0.me.node_id.clone(),
        }))
    }

    async fn add_member(
        &self,
        request: Request<RaftAddMemberRequest>,
    ) -> Answer<RaftMemberResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let member = message
            .member
            .ok_or_else(|| Error::invalid("member", "is missing"))?;
        let (raft_id, by) = (member.raft_id, deadline(message.deadline_ns));
        let member = Member {
            node_id: member.node_id,
            addr: member.addr,
        };
        self.0
            .change_here(&Change::Add(raft_id, member), by)
            .await?;
        Ok(Response::new(RaftMemberResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<RaftRemoveMemberRequest>,
    ) -> Answer<RaftMemberResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        let by = deadline(message.deadline_ns);
        self.0
            .change_here(&Change::Remove(message.raft_id), by)
            .await?;
        Ok(Response::new(RaftMemberResponse {}))
    }

    async fn step_down(
        &self,
        request: Request<RaftStepDownRequest>,
    ) -> Answer<RaftStepDownResponse> {
        self.manager(&request)?;
        let message = request.into_inner();
        self.check_target(message.to)?;
        self.0.transfer_away(deadline(message.deadline_ns)).await?;
        Ok(Response::new(RaftStepDownResponse {}))
    }
}

impl RaftService {
    /// Takes a snapshot into a file of its own and checks it.
    async fn receive(
        &self,
        mut chunks: Streaming<SnapshotChunk>,
    ) -> Result<(Vote, Snapshot), Status> {
        let first = next(&mut chunks)
            .await?
            .ok_or_else(|| Error::invalid("snapshot", "is empty"))?;
        self.check_target(first.to)?;
        let vote = required_vote(first.vote.as_ref())?;
        let total = first.total_bytes;
        if total > SNAPSHOT_BYTES_MAX {
            let text = format!("{total} bytes are too many for a snapshot");
            return Err(Error::invalid("snapshot.total_bytes", text).into());
        }
        let path = self
            .0
            .place
            .snapshots()
            .join(format!("{}.part", rand::random::<u64>()));
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let written = tokio::task::spawn_blocking({
            let path = path.clone();
            move || write(&path, receiver)
        });
        let mut received = 0;
        let mut chunk = Some(first);
        while let Some(SnapshotChunk { data, .. }) = chunk {
            received += data.len() as u64;
            if received > total || sender.send(data).await.is_err() {
                break;
            }
            chunk = next(&mut chunks).await?;
        }
        drop(sender);
        written
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        let checked = tokio::task::spawn_blocking(move || {
            let file = SnapshotFile::open(&path)?;
            if file.length() != total {
                let text = format!("the snapshot has {} of {total} bytes", file.length());
                let _ = std::fs::remove_file(&path);
                return Err(std::io::Error::other(text));
            }
            let meta = file.verify().inspect_err(|_| {
                let _ = std::fs::remove_file(&path);
            })?;
            Ok(Snapshot {
                meta,
                snapshot: file,
            })
        });
        let snapshot = checked
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        Ok((vote, snapshot))
    }
}

async fn next(chunks: &mut Streaming<SnapshotChunk>) -> Result<Option<SnapshotChunk>, Status> {
    tokio::time::timeout(CHUNK_TIMEOUT, chunks.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the snapshot stopped coming"))?
}

fn write(
    path: &std::path::Path,
    mut chunks: tokio::sync::mpsc::Receiver<bytes::Bytes>,
) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}
