//! Heartbeats: one store of a number each, so that load never looks like death.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::{Heartbeat, HeartbeatReply};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::ending::Ending;
use super::reign::Reign;
use super::roster::Member;

/// Replies that may wait in a stream; a worker that reads none gets no more.
pub(super) const REPLIES_MAX: usize = 4;
/// A connection that is silent for so many periods is given up.
const SILENT_PERIODS: u32 = 60;
/// For the reason of an ending.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers one node's heartbeats until either side ends it.
pub(super) async fn run(
    reign: Arc<Reign>,
    member: Arc<Member>,
    inbound: Streaming<Heartbeat>,
    replies: mpsc::Sender<Result<HeartbeatReply, Status>>,
) {
    let mut open = Open {
        reign: &reign,
        member: &member,
        broken: false,
    };
    member.heartbeats_open();
    let ending = tokio::select! {
        biased;
        () = reign.token.cancelled() => Ending::NotLeader,
        () = member.removed.cancelled() => Ending::Removed,
        broken = answer(&reign, &member, inbound, &replies) => {
            open.broken = broken;
            Ending::Gone
        }
    };
    drop(open);
    if let Some(status) = ending.status(&reign.shared.leadership()) {
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, replies.send(Err(status))).await;
    }
}

/// Returns whether the connection broke, rather than being ended.
async fn answer(
    reign: &Reign,
    member: &Member,
    mut inbound: Streaming<Heartbeat>,
    replies: &mpsc::Sender<Result<HeartbeatReply, Status>>,
) -> bool {
    loop {
        let period = Duration::from_nanos(reign.period_ns());
        let patience = period.saturating_mul(SILENT_PERIODS);
        let heartbeat = match tokio::time::timeout(patience, inbound.message()).await {
            Ok(Ok(Some(heartbeat))) => heartbeat,
            Ok(Ok(None)) => return false,
            Ok(Err(_)) | Err(_) => return true,
        };
        member.touch(reign.shared.clock.now_ns());
        let _ = replies.try_send(Ok(HeartbeatReply {
            sequence: heartbeat.sequence,
            term: reign.term,
            period_ns: i64::try_from(reign.period_ns()).unwrap_or(i64::MAX),
        }));
    }
}

/// Takes the connection off the roster whatever ends it.
struct Open<'a> {
    reign: &'a Reign,
    member: &'a Member,
    broken: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let now_ns = self.reign.shared.clock.now_ns();
        self.member.heartbeats_close(self.broken, now_ns);
        if self.broken {
            self.reign.stirred.notify_one();
        }
    }
}
