//! What survives: of the agent, of the engine, of the leader.

use super::*;

async fn container_id(host: &Host, name: &str) -> String {
    let docker = host.engine.docker().await;
    let inspected = docker.inspect_container(name, None).await.unwrap();
    inspected.id.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_containers_with_no_manager_in_reach() {
    if !dockerd::is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let worker = host.worker().await;
    host.leader.put(task("keep", SERVE));
    host.leader.put(task("dies", SERVE));
    host.leader.until_state("keep", TaskState::Running).await;
    host.leader.until_state("dies", TaskState::Running).await;
    let id = container_id(&host, "web.1.keep").await;
    host.leader.kill();
    worker.stop(Duration::from_secs(5)).await.unwrap();
    let docker = host.engine.docker().await;
    docker.kill_container("web.1.dies", None).await.unwrap();

    let worker = host.worker().await;
    until("one runs and one does not", || async {
        let status = worker.status();
        (status.tasks, status.tasks_running) == (2, 1)
    })
    .await;
    assert_eq!(container_id(&host, "web.1.keep").await, id);
    assert_eq!(worker.status().connected_to, None);

    // The leader is back, and hears of both without having asked.
    let credentials = host.pki.credentials("manager1", PeerRole::Manager);
    let leader = Leader::start(credentials, &host.leader.addr, 2);
    leader.seen(|seen| {
        for id in ["keep", "dies"] {
            seen.assignments.insert(id.into(), task(id, SERVE));
        }
    });
    leader.until_state("dies", TaskState::Failed).await;
    leader.until_state("keep", TaskState::Running).await;
    assert_eq!(container_id(&host, "web.1.keep").await, id);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_disk_adopts_what_it_is_told_of_and_sweeps_the_rest() {
    if !dockerd::is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let worker = host.worker().await;
    host.leader.put(task("keep", SERVE));
    host.leader.put(task("orphan", SERVE));
    host.leader.until_state("keep", TaskState::Running).await;
    host.leader.until_state("orphan", TaskState::Running).await;
    let id = container_id(&host, "web.1.keep").await;
    let docker = host.engine.docker().await;
    let body = bollard::models::ContainerCreateBody {
        image: Some(IMAGE.into()),
        cmd: Some(vec!["/bin/sleep".into(), "1000".into()]),
        ..Default::default()
    };
    docker.create_container(None, body).await.unwrap();
    worker.stop(Duration::from_secs(5)).await.unwrap();
    host.leader.seen(|seen| {
        seen.assignments.remove("orphan");
        seen.statuses.clear();
    });

    // With no leader in reach nothing is swept: the disk may just be lost.
    let leader_addr = host.leader.addr.clone();
    host.leader.kill();
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::start(host.config(folder.path())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(host.engine.containers().await.len(), 3);

    let credentials = host.pki.credentials("manager1", PeerRole::Manager);
    let leader = Leader::start(credentials, &leader_addr, 2);
    leader.seen(|seen| seen.assignments.insert("keep".into(), task("keep", SERVE)));
    leader.until_state("keep", TaskState::Running).await;
    until("the orphan is gone, the stranger is not", || async {
        host.engine.containers().await.len() == 2
    })
    .await;
    assert_eq!(container_id(&host, "web.1.keep").await, id);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_ends_with_tasks_failed_and_not_doubled() {
    if !dockerd::is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let worker = host.worker().await;
    host.leader.put(task("t1", "sleep 1000; true"));
    host.leader.until_state("t1", TaskState::Running).await;
    host.engine.kill();
    until("the engine is missed", || async {
        !worker.status().engine_error.is_empty()
    })
    .await;
    host.engine.run().await;
    host.leader.until_state("t1", TaskState::Failed).await;
    until("the engine is back", || async {
        worker.status().engine_error.is_empty()
    })
    .await;
    host.leader.put(task("t2", SERVE));
    host.leader.until_state("t2", TaskState::Running).await;
    let running = |c: &(String, String)| c.1 == "running";
    let containers = host.engine.containers().await;
    assert_eq!(
        containers.iter().filter(|c| running(c)).count(),
        1,
        "{containers:?}"
    );
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_live_restore_an_engine_restart_touches_no_task() {
    if !dockerd::is_possible() {
        return;
    }
    let mut host = Host::with(true, false).await;
    let worker = host.worker().await;
    host.leader.put(task("t1", SERVE));
    host.leader.until_state("t1", TaskState::Running).await;
    let id = container_id(&host, "web.1.t1").await;
    host.engine.stop();
    until("the engine is missed", || async {
        !worker.status().engine_error.is_empty()
    })
    .await;
    host.engine.run().await;
    until("the engine is back", || async {
        worker.status().engine_error.is_empty()
    })
    .await;
    host.leader.put(task("t2", SERVE));
    host.leader.until_state("t2", TaskState::Running).await;
    assert_eq!(host.leader.state("t1"), TaskState::Running);
    assert_eq!(container_id(&host, "web.1.t1").await, id);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_named_and_waited_for() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::new().await;
    let worker = host.worker().await;
    host.leader.put(task("t1", SERVE));
    host.leader.until_state("t1", TaskState::Running).await;
    host.engine.hang(true);
    until("the hang is seen", || async {
        worker.status().engine_error.contains("does not answer")
    })
    .await;
    assert!(worker.status().engine_error.contains(&host.engine.socket()));
    host.leader.put(task("t2", SERVE));
    host.engine.hang(false);
    host.leader.until_state("t2", TaskState::Running).await;
    assert_eq!(host.leader.state("t1"), TaskState::Running);
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_an_engine_waits_for_one() {
    if !dockerd::is_possible() {
        return;
    }
    let mut host = Host::new().await;
    host.engine.stop();
    let worker = host.worker().await;
    host.leader.put(task("t1", SERVE));
    until("the engine is missed", || async {
        !worker.status().engine_error.is_empty()
    })
    .await;
    host.leader
        .until("the node says why", |seen| {
            seen.description
                .as_ref()
                .is_some_and(|d| d.resources.is_none())
        })
        .await;
    host.engine.run().await;
    host.leader.until_state("t1", TaskState::Running).await;
    worker.stop(Duration::from_secs(5)).await.unwrap();
}
