//! Replacing a leader whose process died, without waiting for timers.
//!
//! Whoever sees that the leader is gone asks the other voters whether they see
//! the same, and for their vote and the end of their log. With a quorum agreeing,
//! the one with the longest log (of equals the one with the highest id) starts an
//! election that disregards the dead leader's lease; voters let it pass on their
//! own evidence only. The next ones in that order wait a little and act only if
//! nobody has. A leader that merely fell silent is left to the timers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::raft::TransferLeaderRequest;
use skep_proto::v1::RaftEvidenceRequest;

use super::convert::{log_id_in, vote_in};
use super::core::{Core, is_quorum};
use super::network::Lane;
use super::types::{LogId, Member, RaftId, Vote};

/// Until the others' answers are needed.
const ASK_TIMEOUT: Duration = Duration::from_millis(150);
/// How much longer than a quorum's answers are those of the rest waited for.
const STRAGGLERS: Duration = Duration::from_millis(8);
/// What each next in the order waits for the ones before it. It has to cover
/// two disk flushes and a round trip.
const STAGGER: Duration = Duration::from_millis(25);
/// Pause before asking again while the others do not agree yet.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How often the others are asked about one death.
const ASKED_MAX: usize = 4;
/// Elections of this kind within [`RATE_SPAN`]; more would only disturb.
const RATE_MAX: usize = 5;
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Watches for the leader's death until consensus stops.
pub(super) async fn watch(core: Arc<Core>) {
    let mut seen = core.evidence.watch();
    let mut recent = VecDeque::new();
    let mut asked = (Vote::new(0, 0), 0);
    loop {
        let again = match core.vote_and_last().await {
            Ok((vote, _)) if is_gone(&core, &vote) => {
                if asked.0 != vote {
                    asked = (vote, 0);
                }
                asked.1 += 1;
                asked.1 <= ASKED_MAX && !replace(&core, vote, &mut recent).await
            }
            Ok(_) => false,
            Err(_) => return,
        };
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_PAUSE), if again => {}
            () = core.stop.cancelled() => return,
        }
    }
}

fn is_gone(core: &Core, vote: &Vote) -> bool {
    let leader = vote.leader_id.node_id;
    vote.committed && leader != core.me.raft_id && core.evidence.is_gone(leader)
}

/// Where a voter stands; the greatest should lead.
type Standing = (Option<LogId>, RaftId);

/// Replaces the dead leader of `vote`, or sees to it that another voter does.
/// `false`: not enough others see the same, so far.
async fn replace(core: &Core, vote: Vote, recent: &mut VecDeque<Instant>) -> bool {
    let (Ok(group), Ok((current, last))) = (core.group().await, core.vote_and_last().await) else {
        return true;
    };
    let (me, leader) = (core.me.raft_id, vote.leader_id.node_id);
    if current != vote || !group.voter_ids().any(|id| id == me) {
        return true;
    }
    let started = Instant::now();
    let others: Vec<(RaftId, Member)> = group
        .nodes()
        .filter(|(id, _)| **id != me && **id != leader)
        .filter(|(id, _)| group.voter_ids().any(|voter| voter == **id))
        .map(|(id, member)| (*id, member.clone()))
        .collect();
    let mut asked: FuturesUnordered<_> = others
        .iter()
        .map(|(id, member)| ask(core, *id, member, leader))
        .collect();
    let mut agreeing: Vec<Standing> = vec![(last, me)];
    let mut campaigns = false;
    let mut until = started + ASK_TIMEOUT;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), asked.next()).await {
        let Some((standing, their_vote)) = answer else {
            continue;
        };
        campaigns |= their_vote > vote;
        agreeing.push(standing);
        if is_quorum(&group, |id| {
            agreeing.iter().any(|(_, agrees)| *agrees == id)
        }) {
            until = until.min(Instant::now() + STRAGGLERS);
        }
    }
    if campaigns {
        // Somebody is ahead of us; its election will reach us.
        return true;
    }
    if !is_quorum(&group, |id| {
        agreeing.iter().any(|(_, agrees)| *agrees == id)
    }) {
        return false;
    }
    let before_us = agreeing.iter().filter(|other| **other > (last, me)).count();
    let turn = STAGGER.saturating_mul(u32::try_from(before_us).unwrap_or(u32::MAX));
    tokio::time::sleep(turn).await;
    match core.vote_and_last().await {
        Ok((now, _)) if now == vote && is_gone(core, &vote) => {}
        _ => return true,
    }
    while recent.front().is_some_and(|at| at.elapsed() > RATE_SPAN) {
        recent.pop_front();
    }
    if recent.len() >= RATE_MAX {
        tracing::warn!(leader, "the leader is gone again; leaving it to the timers");
        return true;
    }
    recent.push_back(Instant::now());
    tracing::info!(leader, term = vote.leader_id.term, asking = ?started.elapsed(), "the leader's process is gone, taking over");
    let request = TransferLeaderRequest::new(vote, me, last);
    match core.raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "the takeover was overtaken"),
        Err(error) => tracing::warn!(%error, "cannot take over"),
    }
    true
}

/// One voter's view, if it, too, sees that `leader` is gone.
async fn ask(core: &Core, id: RaftId, member: &Member, leader: RaftId) -> Option<(Standing, Vote)> {
    let mut client = core.peers.client(id, &member.addr, Lane::Control);
    let question = client.evidence(RaftEvidenceRequest { to: id, leader });
    let answer = tokio::time::timeout(ASK_TIMEOUT, question).await.ok()?;
    let answer = answer.ok()?.into_inner();
    let vote = answer.vote.as_ref().map(vote_in)?;
    answer
        .gone
        .then(|| ((answer.last.as_ref().map(log_id_in), id), vote))
}
