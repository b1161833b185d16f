//! Who is in the group, and how that changes: one manager in or out at a time,
//! by the leader, never below what can still decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use skep_proto::v1::{
    RaftAddMemberRequest, RaftHelloRequest, RaftMember, RaftRemoveMemberRequest,
    RaftStepDownRequest,
};
use skep_proto::{Code, Error, Result};

use super::core::{Core, stopped};
use super::network::Lane;
use super::types::{Group, LogId, Member, RaftId, TypeConfig};
use crate::seam::Leader;

/// Until a manager that wants in has to answer at its own address.
const DIAL_BACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a change is tried again that met another one, or an election.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A member further behind than this many entries is not made a voter yet.
const LAG_MAX: u64 = 100;

/// A member of the group, as one manager sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name in the group.
    pub raft_id: RaftId,
    /// Its node's id.
    pub node_id: String,
    /// `host:port` of its cluster listener.
    pub addr: String,
    /// It votes; otherwise it is still catching up.
    pub voter: bool,
    /// It leads.
    pub leader: bool,
    /// The asked manager has a link to it.
    pub reachable: bool,
    /// Log entries it is behind; only the leader knows.
    pub lag: Option<u64>,
}

/// A change of the group.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A voter more. It must serve at its address already: it is dialled back.
    Add(RaftId, Member),
    /// A member less.
    Remove(RaftId),
}

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl Core {
    /// Every member, by Raft id.
    pub(super) fn member_statuses(&self) -> Vec<MemberStatus> {
        let metrics = self.metrics().borrow_watched().clone();
        let leader = self.leadership.borrow().leader.clone();
        let group = metrics.membership_config.membership();
        let voters: BTreeSet<RaftId> = group.voter_ids().collect();
        group
            .nodes()
            .map(|(id, member)| MemberStatus {
                raft_id: *id,
                node_id: member.node_id.clone(),
                addr: member.addr.clone(),
                voter: voters.contains(id),
                leader: leader.as_ref().is_some_and(|leader| leader.raft_id == *id),
                reachable: self.reaches(*id),
                lag: metrics
                    .replication
                    .as_ref()
                    .and_then(|all| all.get(id))
                    .map(|matched| lag(metrics.last_log_index, matched.as_ref())),
            })
            .collect()
    }

    /// Changes the group, here or by the leader: repeated with whoever leads
    /// until the answer is something else than that the leader changed.
    pub(super) async fn change_members(
        self: Arc<Self>,
        change: Change,
        deadline: Instant,
    ) -> Result<()> {
        let mut last = Error::unavailable("no manager leads at the moment");
        loop {
            let led = self
                .led(deadline, |l| l.is_self || l.leader.is_some())
                .await;
            let Some(now) = led else {
                return Err(last);
            };
            let attempt = async {
                match &now.leader {
                    Some(leader) if !now.is_self => {
                        self.ask_leader(leader, &change, deadline).await
                    }
                    _ => self.change_here(&change, deadline).await,
                }
            };
            match tokio::time::timeout_at(deadline.into(), attempt).await {
                Ok(Err(error)) if error.is_retryable() => last = error,
                Ok(answer) => return answer,
                Err(_) => return Err(last),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_leader(&self, leader: &Leader, change: &Change, deadline: Instant) -> Result<()> {
        let (to, deadline_ns) = (leader.raft_id, left_ns(deadline));
        let mut client = self.peers.client(to, &leader.addr, Lane::Control);
        match change {
            Change::Add(raft_id, member) => {
                let member = RaftMember {
                    raft_id: *raft_id,
                    node_id: member.node_id.clone(),
                    addr: member.addr.clone(),
                };
                client
                    .add_member(RaftAddMemberRequest {
                        to,
                        member: Some(member),
                        deadline_ns,
                    })
                    .await?;
            }
            Change::Remove(raft_id) => {
                client
                    .remove_member(RaftRemoveMemberRequest {
                        to,
                        raft_id: *raft_id,
                        deadline_ns,
                    })
                    .await?;
            }
        }
        Ok(())
    }

    /// Changes the group that we lead, one change after the other.
    pub(super) async fn change_here(&self, change: &Change, deadline: Instant) -> Result<()> {
        match change {
            Change::Add(raft_id, member) => self.dial_back(*raft_id, member).await?,
            Change::Remove(raft_id) if *raft_id == self.me.raft_id => {
                // A successor leads first, and does it.
                self.refuse_quorum_loss(&self.group().await?, *raft_id)?;
                self.transfer_away(deadline).await?;
                return Err(Error::unavailable("another manager leads and has to do it"));
            }
            Change::Remove(_) => {}
        }
        let busy = || {
            Error::new(
                Code::Timeout,
                "another change of the managers takes too long",
            )
            .hint("a majority of the managers must be reachable: see `skep node ls`")
        };
        let turn = tokio::time::timeout_at(deadline.into(), self.changing.lock());
        let _turn = turn.await.map_err(|_| busy())?;
        loop {
            let step = async {
                match change {
                    Change::Add(raft_id, member) => self.add(*raft_id, member, deadline).await,
                    Change::Remove(raft_id) => self.remove(*raft_id).await,
                }
            };
            match tokio::time::timeout_at(deadline.into(), step).await {
                Ok(Err(error)) if error.code() == Code::OutOfSequence => {}
                Ok(answer) => return answer,
                Err(_) => return Err(busy()),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Adds a voter: first as a learner that is sent all it lacks; it votes only
    /// once it has caught up.
    async fn add(&self, raft_id: RaftId, member: &Member, deadline: Instant) -> Result<()> {
        let group = self.group().await?;
        if group.get_node(&raft_id) != Some(member) {
            let set = ChangeMembers::SetNodes([(raft_id, member.clone())].into());
            changed(self.raft.change_membership(set, true).await)?;
        }
        if group.voter_ids().any(|id| id == raft_id) {
            return Ok(());
        }
        self.caught_up(raft_id, member, deadline).await?;
        let promote = ChangeMembers::AddVoterIds([raft_id].into());
        changed(self.raft.change_membership(promote, true).await)
    }

    async fn remove(&self, raft_id: RaftId) -> Result<()> {
        let group = self.group().await?;
        if group.get_node(&raft_id).is_none() {
            return Ok(());
        }
        self.refuse_quorum_loss(&group, raft_id)?;
        let change = if group.voter_ids().any(|id| id == raft_id) {
            ChangeMembers::RemoveVoters([raft_id].into())
        } else {
            ChangeMembers::RemoveNodes([raft_id].into())
        };
        changed(self.raft.change_membership(change, false).await)
    }

    async fn dial_back(&self, raft_id: RaftId, member: &Member) -> Result<()> {
        if raft_id == self.me.raft_id {
            return Ok(());
        }
        let unreachable = |why: String| {
            Error::precondition(format!(
                "the leader cannot reach the new manager at {}: {why}",
                member.addr
            ))
            .at("advertise_addr")
            .hint(
                "give an --advertise-addr that the other managers can reach, and open its port there",
            )
        };
        let mut client = self.peers.dial(&member.addr);
        let hello = tokio::time::timeout(DIAL_BACK_TIMEOUT, client.hello(RaftHelloRequest {}));
        let answer = hello
            .await
            .map_err(|_| unreachable(format!("no answer within {DIAL_BACK_TIMEOUT:?}")))?
            .map_err(|status| unreachable(status.message().to_owned()))?
            .into_inner();
        if answer.raft_id != raft_id || answer.node_id != member.node_id {
            return Err(unreachable(format!(
                "node {} answers there",
                answer.node_id
            )));
        }
        Ok(())
    }

    async fn caught_up(&self, id: RaftId, member: &Member, deadline: Instant) -> Result<()> {
        let mut metrics = self.metrics();
        let caught_up = async {
            loop {
                {
                    let now = metrics.borrow_watched();
                    let matched = now.replication.as_ref().and_then(|all| all.get(&id));
                    match matched {
                        Some(Some(at)) if lag(now.last_log_index, Some(at)) <= LAG_MAX => {
                            return Ok(());
                        }
                        _ if now.replication.is_none() => {
                            return Err(Error::unavailable("this manager does not lead any more"));
                        }
                        _ => {}
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(stopped(&"shutting down"));
                }
            }
        };
        tokio::time::timeout_at(deadline.into(), caught_up)
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    Code::Timeout,
                    format!(
                        "the new manager at {} did not catch up in time",
                        member.addr
                    ),
                )
                .hint("it goes on catching up: try again in a while"))
            })
    }

    fn refuse_quorum_loss(&self, group: &Group, leaving: RaftId) -> Result<()> {
        let voters: BTreeSet<RaftId> = group.voter_ids().collect();
        if !voters.contains(&leaving) {
            return Ok(());
        }
        let stay: BTreeSet<RaftId> = voters.iter().copied().filter(|id| *id != leaving).collect();
        if stay.is_empty() {
            return Err(Error::precondition(
                "the last manager cannot leave its own swarm to nobody",
            )
            .hint("`skep swarm leave --force` ends the swarm"));
        }
        let reachable = stay.iter().filter(|id| self.reaches(**id)).count();
        if reachable > stay.len() / 2 {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "without this manager the swarm would lose its quorum: of the {} managers that stay, {reachable} can be reached",
            stay.len(),
        ))
        .hint("bring the unreachable managers back, or promote others with `skep node promote`, and try again"))
    }

    /// Lets another voter lead: the reachable one with the longest log. Returns
    /// once it does; at once if we do not lead, or alone.
    pub(super) async fn transfer_away(&self, deadline: Instant) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        let Some(successor) = self.successor() else {
            return match self.group().await?.voter_ids().count() {
                0 | 1 => Ok(()),
                _ => Err(Error::precondition(
                    "no other manager can be reached to lead instead",
                )),
            };
        };
        let me = self.me.raft_id;
        tracing::info!(successor, "handing over");
        self.raft
            .trigger()
            .transfer_leader(successor)
            .await
            .map_err(|fatal| stopped(&fatal))?;
        let elsewhere = self.led(deadline, |now| {
            !now.is_self
                && now
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.raft_id != me)
        });
        match elsewhere.await {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Code::Timeout,
                "the other managers did not take over in time",
            )),
        }
    }

    fn successor(&self) -> Option<RaftId> {
        let metrics = self.metrics().borrow_watched().clone();
        let voters: BTreeSet<RaftId> = metrics.membership_config.voter_ids().collect();
        metrics
            .replication?
            .into_iter()
            .filter(|(id, _)| *id != self.me.raft_id && voters.contains(id) && self.reaches(*id))
            .max_by_key(|(id, matched)| (*matched, *id))
            .map(|(id, _)| id)
    }

    /// Has whoever leads hand over.
    pub(super) async fn ask_to_step_down(&self, leader: &Leader, deadline: Instant) -> Result<()> {
        let mut client = self
            .peers
            .client(leader.raft_id, &leader.addr, Lane::Control);
        let request = RaftStepDownRequest {
            to: leader.raft_id,
            deadline_ns: left_ns(deadline),
        };
        let asked = tokio::time::timeout_at(deadline.into(), client.step_down(request));
        match asked.await {
            Ok(answer) => Ok(answer.map(|_| ())?),
            Err(_) => Err(Error::new(
                Code::Timeout,
                "the leader did not answer in time",
            )),
        }
    }
}

fn changed<T>(result: Result<T, WriteError>) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
            Err(match error {
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_) => {
                    Error::new(Code::OutOfSequence, error.to_string())
                }
                other => Error::internal(format!("the managers cannot change so: {other}")),
            })
        }
        Err(RaftError::APIError(error)) => Err(Error::unavailable(format!(
            "the leader changed before the managers did: {error}"
        ))),
        Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
    }
}

fn lag(last: Option<u64>, matched: Option<&LogId>) -> u64 {
    let last = last.map_or(0, |index| index + 1);
    last.saturating_sub(matched.map_or(0, |id| id.index + 1))
}

fn left_ns(deadline: Instant) -> i64 {
    let left = deadline.saturating_duration_since(Instant::now());
    i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)
}
