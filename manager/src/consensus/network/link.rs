//! A stream that is always open and always read, to every other manager. The
//! kernel of a host closes the connections of a process that dies, so its end
//! tells of the death within a round trip; a second look at the address tells
//! it from a connection that merely broke.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use skep_proto::v1::RaftLinkBeat;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Lane, Peers};
use crate::consensus::evidence::Evidence;
use crate::consensus::types::{Member, RaftId};

/// Until a link has to be up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Until a connection attempt counts as unanswered, which proves nothing.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// Pauses between attempts: short at first, for a process that is dying while
/// we look.
const PAUSES_MS: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 400];

/// Keeps a link to every member but `me` until `stop`.
pub(in crate::consensus) async fn keep_links(
    me: RaftLinkBeat,
    mut members: watch::Receiver<BTreeMap<RaftId, Member>>,
    peers: Arc<Peers>,
    evidence: Arc<Evidence>,
    stop: CancellationToken,
) {
    let mut kept: BTreeMap<RaftId, (Member, CancellationToken)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let now = members.borrow_and_update().clone();
        kept.retain(|id, (member, stop)| {
            let keep = now.get(id) == Some(member);
            if !keep {
                stop.cancel();
                peers.forget(*id);
                evidence.forget(*id);
            }
            keep
        });
        for (id, member) in now {
            if id == me.raft_id || kept.contains_key(&id) {
                continue;
            }
            let stop = stop.child_token();
            kept.insert(id, (member.clone(), stop.clone()));
            let keeper = Keeper {
                me,
                id,
                addr: member.addr,
                peers: peers.clone(),
                evidence: evidence.clone(),
            };
            tasks.spawn(async move {
                stop.run_until_cancelled(keeper.run()).await;
            });
        }
        tokio::select! {
            changed = members.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
}

struct Keeper {
    me: RaftLinkBeat,
    id: RaftId,
    addr: String,
    peers: Arc<Peers>,
    evidence: Arc<Evidence>,
}

impl Keeper {
    async fn run(self) {
        let mut failures = 0usize;
        loop {
            if self.hold().await {
                failures = 0;
                self.evidence.link_down(self.id);
            }
            if self.nobody_listens().await {
                self.evidence.refused(self.id);
            }
            let pause = PAUSES_MS.get(failures).or(PAUSES_MS.last());
            tokio::time::sleep(Duration::from_millis(pause.copied().unwrap_or(400))).await;
            failures += 1;
        }
    }

    /// Opens the link and reads it to its end. Whether it was up at all.
    async fn hold(&self) -> bool {
        let mut client = self.peers.client(self.id, &self.addr, Lane::Control);
        let hello = futures_util::stream::once(futures_util::future::ready(self.me))
            .chain(futures_util::future::pending().into_stream());
        let opened = tokio::time::timeout(OPEN_TIMEOUT, async {
            let mut beats = client.link(hello).await?.into_inner();
            let first = beats.message().await?;
            Ok::<_, tonic::Status>((beats, first))
        });
        let mut beats = match opened.await {
            Ok(Ok((beats, Some(first)))) if first.raft_id == self.id => {
                self.evidence.link_up(self.id, first.boot);
                tracing::debug!(raft_id = self.id, addr = self.addr, "link up");
                beats
            }
            Ok(Ok((_, first))) => {
                let other = first.map(|beat| beat.raft_id);
                tracing::warn!(
                    addr = self.addr,
                    ?other,
                    expected = self.id,
                    "not that manager"
                );
                return false;
            }
            Ok(Err(error)) => {
                tracing::debug!(addr = self.addr, error = error.message(), "no link");
                return false;
            }
            Err(_) => return false,
        };
        loop {
            match beats.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(addr = self.addr, error = error.message(), "link lost");
                    break;
                }
            }
        }
        true
    }

    /// Only a refusal says so; silence may be the network.
    async fn nobody_listens(&self) -> bool {
        match tokio::time::timeout(KNOCK_TIMEOUT, TcpStream::connect(&self.addr)).await {
            Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            Ok(Ok(_)) | Err(_) => false,
        }
    }
}
