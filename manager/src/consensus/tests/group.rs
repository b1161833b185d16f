//! Managers come and go.

use skep_proto::transport::{DialOptions, Trust, dial};
use skep_proto::v1::raft_client::RaftClient;
use skep_proto::v1::{RaftHelloRequest, RaftVote, RaftVoteRequest, RemovedNode};
use skep_proto::{Code, v1};

use super::{Swarm, by};
use crate::consensus::types::{PROPOSAL_BYTES_MAX, Raft};
use crate::seam::Follow;

fn raft(swarm: &Swarm, id: u64) -> Raft {
    swarm.at(id).core.raft.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_joins_after_the_log_was_purged_gets_a_snapshot() {
    let mut swarm = Swarm::founded().await;
    let names: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    for name in &names {
        swarm.write(name).await;
    }
    let raft = raft(&swarm, 1);
    let last = swarm.at(1).core.vote_and_last().await.unwrap().1.unwrap();
    raft.trigger().snapshot().await.unwrap();
    let wait = raft.wait(Some(super::PATIENCE));
    let built = wait.metrics(|m| m.snapshot == Some(last), "snapshot");
    built.await.unwrap();
    raft.trigger().purge_log(last.index).await.unwrap();
    let purged = wait.metrics(|m| m.purged == Some(last), "purged");
    purged.await.unwrap();

    swarm.start(2).await;
    let mut feed = swarm.at(2).applied();
    let member = swarm.alive[&2].member.clone();
    swarm.at(1).add_member(2, member, by()).await.unwrap();
    swarm.assert_all_know(&names).await;
    // Whoever follows the newcomer's feed hears of all that came at once.
    let all = feed.recv().await.unwrap();
    assert_eq!(all.changed.len(), names.len() + 1);
    assert_eq!(all.version, names.len() as u64 + 1);
    // And it survives its own restart, without that log.
    swarm.write("later").await;
    swarm.kill(2);
    swarm.start(2).await;
    swarm.leader().await;
    swarm.write("last").await;
    let mut names = names;
    names.extend(["later".into(), "last".into()]);
    swarm.assert_all_know(&names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_is_refused_that_cannot_be_reached() {
    let swarm = Swarm::founded().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let member = crate::consensus::Member {
        node_id: "node9".into(),
        addr: nobody.local_addr().unwrap().to_string(),
    };
    drop(nobody);
    let error = swarm.at(1).add_member(9, member, by()).await.unwrap_err();
    assert_eq!(error.code(), Code::Precondition);
    assert!(error.message.contains("cannot reach"), "{error}");
    assert_eq!(swarm.at(1).members().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_is_removed_by_whoever_leads() {
    let swarm = Swarm::of(3).await;
    let (leader, _) = swarm.leader().await;
    let asked = swarm
        .alive
        .keys()
        .copied()
        .find(|id| *id != leader)
        .unwrap();
    swarm.at(asked).remove_member(leader, by()).await.unwrap();
    let members = swarm.at(asked).members();
    assert!(members.iter().all(|m| m.raft_id != leader), "{members:?}");
    assert_eq!(members.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_stays_whose_leave_would_lose_the_quorum() {
    let mut swarm = Swarm::of(3).await;
    let (leader, _) = swarm.leader().await;
    let others: Vec<u64> = swarm
        .alive
        .keys()
        .copied()
        .filter(|id| *id != leader)
        .collect();
    swarm.kill(others[0]);
    let mut seen = swarm.at(leader).core.evidence.watch();
    seen.wait_for(|seen| !seen.is_up(others[0])).await.unwrap();
    let refused = swarm.at(leader).remove_member(others[1], by()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.code(), Code::Precondition);
    assert!(error.message.contains("quorum") && !error.hint.is_empty());
    // The dead one may go.
    swarm
        .at(leader)
        .remove_member(others[0], by())
        .await
        .unwrap();
    assert_eq!(swarm.at(leader).members().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_managers_that_are_still_one_of_us_may_call() {
    let swarm = Swarm::founded().await;
    let addr = swarm.alive[&1].member.addr.clone();
    let options = DialOptions::default();
    let hello = async |node_id: &str, role: &str| {
        let trust = Trust::Credentials(swarm.authority.credentials(node_id, role));
        let channel = dial(&addr, &trust, &options).await.unwrap();
        RaftClient::new(channel).hello(RaftHelloRequest {}).await
    };
    assert!(hello("node2", "swarm-manager").await.is_ok());
    let worker = hello("node2", "swarm-worker").await.unwrap_err();
    assert_eq!(worker.code(), tonic::Code::PermissionDenied);

    let (_, term) = swarm.leader().await;
    let mut cluster = (**swarm.at(1).world().cluster().unwrap()).clone();
    cluster.removed_nodes.push(RemovedNode {
        node_id: "node2".into(),
        until_ns: i64::MAX,
    });
    let removal = super::transaction(v1::Object::from(cluster));
    swarm.at(1).propose(&removal, term).await.unwrap();
    let removed = hello("node2", "swarm-manager").await.unwrap_err();
    assert_eq!(removed.code(), tonic::Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_claim_of_a_hand_over_deposes_nobody() {
    let swarm = Swarm::of(3).await;
    let (leader, term) = swarm.leader().await;
    let voter = swarm
        .alive
        .keys()
        .copied()
        .find(|id| *id != leader)
        .unwrap();
    let (_, last) = swarm.at(leader).core.vote_and_last().await.unwrap();
    let trust = Trust::Credentials(swarm.authority.credentials("node3", "swarm-manager"));
    let addr = &swarm.alive[&voter].member.addr;
    let channel = dial(addr, &trust, &DialOptions::default()).await.unwrap();
    let claim = RaftVoteRequest {
        to: voter,
        vote: Some(RaftVote {
            term: term + 1,
            node: 77,
            committed: false,
        }),
        last: last.as_ref().map(crate::consensus::convert::log_id_out),
        leadership_transfer: true,
    };
    let answer = RaftClient::new(channel).vote(claim).await.unwrap();
    assert!(!answer.into_inner().granted);
    assert_eq!(swarm.leader().await, (leader, term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_too_large_is_refused_before_it_is_proposed() {
    let swarm = Swarm::founded().await;
    let (_, term) = swarm.leader().await;
    let before = swarm.at(1).core.vote_and_last().await.unwrap().1;
    let large = super::put_node(&"x".repeat(PROPOSAL_BYTES_MAX));
    let error = swarm.at(1).propose(&large, term).await.unwrap_err();
    assert_eq!(error.code(), Code::Exhausted);
    assert_eq!(swarm.at(1).core.vote_and_last().await.unwrap().1, before);
}
