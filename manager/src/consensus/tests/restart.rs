//! What a disk is good for.

use super::{Swarm, by};
use crate::seam::Follow;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_the_death_of_all_managers() {
    let mut swarm = Swarm::of(3).await;
    let names: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    for name in &names {
        swarm.write(name).await;
    }
    let version = swarm.at(1).fresh_world(by()).await.unwrap().version();
    for id in 1..=3 {
        swarm.kill(id);
    }
    for id in 1..=3 {
        swarm.start(id).await;
    }
    swarm.leader().await;
    swarm.assert_all_know(&names).await;
    let world = swarm.at(2).fresh_world(by()).await.unwrap();
    assert_eq!(world.version(), version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_founded_once() {
    let mut swarm = Swarm::founded().await;
    let again = swarm.at(1).found(super::founding(), by()).await;
    assert!(again.unwrap_err().message.contains("in a swarm already"));
    swarm.at(1).shutdown().await.unwrap();
    swarm.kill(1);
    // Its disk knows its name, whatever it is called now.
    swarm.start_with(1, |config| config.raft_id = 99).await;
    assert_eq!(swarm.at(1).raft_id(), 1);
    swarm.leader().await;
    assert!(swarm.at(1).is_member().await.unwrap());
    assert!(swarm.at(1).world().cluster().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_can_go_on_alone_and_again() {
    let mut swarm = Swarm::of(3).await;
    swarm.write("kept").await;
    swarm.assert_all_know(&["kept".into()]).await;
    for id in 1..=3 {
        swarm.kill(id);
    }
    for _ in 0..2 {
        swarm
            .start_with(2, |config| config.force_new_cluster = true)
            .await;
        assert_eq!(swarm.leader().await.0, 2);
        swarm.write("more").await;
        swarm.assert_all_know(&["kept".into(), "more".into()]).await;
        assert_eq!(swarm.at(2).members().len(), 1);
        swarm.kill(2);
    }
    swarm.start(2).await;
    swarm.join(4).await;
    swarm.assert_all_know(&["kept".into(), "more".into()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_a_swarm_founds_none_by_force() {
    let swarm = Swarm::of(1).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::consensus::Config::new(
        dir.path().to_owned(),
        7,
        "node7".into(),
        "127.0.0.1:1".into(),
        swarm.authority.credentials("node7", "swarm-manager"),
    );
    config.force_new_cluster = true;
    let refused = crate::consensus::Consensus::start(config).await;
    let error = refused.map(|_| ()).unwrap_err();
    assert!(error.message.contains("holds no swarm"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_failed_is_told_and_the_others_go_on() {
    let swarm = Swarm::of(3).await;
    let (leader, _) = swarm.leader().await;
    let mut fatal = swarm.at(leader).fatal();
    assert!(fatal.borrow().is_none());
    swarm.at(leader).core.place.break_writes();
    let deadline = by();
    while fatal.borrow_and_update().is_none() {
        assert!(std::time::Instant::now() < deadline);
        swarm.try_write("lost-or-not").await;
    }
    let error = fatal.borrow().clone().unwrap();
    let dir = swarm.disk(leader).to_string_lossy().into_owned();
    assert!(error.message.contains(&dir), "{error}");
    assert!(!error.hint.is_empty());
    swarm.write("after").await;
    let other = swarm
        .alive
        .keys()
        .copied()
        .find(|id| *id != leader)
        .unwrap();
    let world = swarm.at(other).fresh_world(by()).await.unwrap();
    assert!(world.node("after").is_some());
    assert!(!swarm.at(leader).leadership().borrow().is_self);
}
