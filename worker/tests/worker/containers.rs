//! What becomes of an assignment.

use super::*;
use skep_proto::v1::leader_message::Message as Down;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_is_seen_in_logs_and_is_removed() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::new().await;
    let worker = host.worker().await;
    let script = format!("echo hello from $(hostname) $NODE; echo bad >&2; {SERVE}");
    let mut assignment = task("t1", &script);
    container(&mut assignment).hostname = "{{.Service.Name}}-{{.Task.Slot}}".into();
    container(&mut assignment).env = vec!["NODE={{.Node.Hostname}}".into()];
    host.leader.put(assignment.clone());
    host.leader.until_state("t1", TaskState::Running).await;
    let status = host.leader.status("t1");
    let container = status.container.unwrap();
    assert!(container.pid > 0 && !container.container_id.is_empty());
    assert_eq!(
        host.engine.containers().await,
        [("web.1.t1".to_owned(), "running".to_owned())]
    );
    let labels = host
        .engine
        .docker()
        .await
        .inspect_container("web.1.t1", None)
        .await
        .unwrap()
        .config
        .unwrap()
        .labels
        .unwrap();
    assert_eq!(labels["com.docker.swarm.service.name"], "web");
    assert_eq!(labels["com.docker.swarm.node.id"], NODE);

    host.leader.send(Down::Logs(LogSubscription {
        id: "l1".into(),
        task_ids: vec!["t1".into()],
        follow: true,
        stdout: true,
        stderr: true,
        ..LogSubscription::default()
    }));
    host.leader
        .until("lines", |seen| seen.lines.len() >= 2)
        .await;
    host.leader.seen(|seen| {
        let mut lines: Vec<(LogStream, String)> = seen
            .lines
            .iter()
            .map(|l| (l.stream(), String::from_utf8_lossy(&l.data).into_owned()))
            .collect();
        lines.sort_by_key(|l| l.0 as i32);
        assert_eq!(
            lines[0],
            (LogStream::Stdout, "hello from web-1 host-a\n".into())
        );
        assert_eq!(lines[1], (LogStream::Stderr, "bad\n".into()));
        assert!(seen.lines.iter().all(|l| l.at_ns > 0));
    });

    host.leader.put(wanted(assignment, TaskState::Shutdown));
    host.leader.until_state("t1", TaskState::Shutdown).await;
    assert_eq!(
        host.leader.status("t1").container.unwrap().exit_code,
        Some(0)
    );
    host.leader
        .until("end of the lines", |seen| seen.logs_ended > 0)
        .await;
    assert_eq!(
        host.engine.containers().await.len(),
        1,
        "kept for its lines"
    );
    host.leader.remove("t1");
    until("the container is gone", || async {
        host.engine.containers().await.is_empty()
    })
    .await;
    until("the task is forgotten", || async {
        worker.status().tasks == 0
    })
    .await;
    let description = host.leader.seen(|seen| seen.description.clone()).unwrap();
    assert_eq!(description.hostname, "host-a");
    assert!(description.resources.unwrap().memory_bytes > 0);
    assert!(!description.engine.unwrap().version.is_empty());
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_and_a_refusal_are_told_in_words() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::new().await;
    let worker = host.worker().await;
    host.leader.put(task("done", "exit 0"));
    host.leader.put(task("three", "exit 3"));
    let mut hungry = task("hungry", "tail /dev/zero");
    hungry.spec.as_mut().unwrap().resources = Some(ResourceRequirements {
        limits: Some(ResourceLimits {
            memory_bytes: 16 << 20,
            ..ResourceLimits::default()
        }),
        reservations: None,
    });
    host.leader.put(hungry);
    let mut missing = task("missing", "exit 0");
    container(&mut missing).command = vec!["/bin/nothing".into()];
    host.leader.put(missing);
    let mut unreachable = task("unreachable", "exit 0");
    container(&mut unreachable).image = "127.0.0.1:1/nothing:1".into();
    host.leader.put(unreachable);
    let mut mount = task("mount", "exit 0");
    container(&mut mount).mounts = vec![Mount {
        r#type: MountType::Bind.into(),
        source: "/does/not/exist".into(),
        target: "/x".into(),
        ..Mount::default()
    }];
    host.leader.put(mount);

    host.leader.until_state("done", TaskState::Complete).await;
    host.leader.until_state("three", TaskState::Failed).await;
    assert_eq!(host.leader.status("three").error, "task: non-zero exit (3)");
    host.leader.until_state("hungry", TaskState::Failed).await;
    let hungry = host.leader.status("hungry");
    assert_eq!(
        hungry.error,
        "task: non-zero exit (137): killed by the OOM killer"
    );
    assert!(hungry.container.unwrap().oom_killed);
    host.leader.until_state("missing", TaskState::Failed).await;
    let error = host.leader.status("missing").error;
    assert!(error.contains("/bin/nothing"), "{error}");
    host.leader
        .until_state("unreachable", TaskState::Rejected)
        .await;
    let error = host.leader.status("unreachable").error;
    assert!(
        error.contains("127.0.0.1:1/nothing:1 is not on this host")
            && error.contains("--with-registry-auth"),
        "{error}"
    );
    host.leader.until_state("mount", TaskState::Rejected).await;
    let error = host.leader.status("mount").error;
    assert!(error.contains("/does/not/exist"), "{error}");
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_decides_when_it_runs_and_when_it_failed() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::new().await;
    let worker = host.worker().await;
    let check = |test: &str, retries| {
        Some(HealthCheck {
            test: vec!["CMD-SHELL".into(), test.into()],
            interval_ns: 200_000_000,
            timeout_ns: 2_000_000_000,
            retries,
            ..HealthCheck::default()
        })
    };
    let mut well = task("well", &format!("sleep 0.5; echo > /tmp/ready; {SERVE}"));
    container(&mut well).health = check("test -e /tmp/ready", 100);
    host.leader.put(well);
    host.leader.until_state("well", TaskState::Running).await;
    let container_status = host.leader.status("well").container.unwrap();
    assert_eq!(container_status.health, "healthy");
    assert!(host.leader.seen(|seen| {
        seen.history
            .contains(&("well".to_owned(), TaskState::Starting))
    }));

    let mut ill = task("ill", SERVE);
    container(&mut ill).health = check("echo no route; exit 1", 2);
    host.leader.put(ill);
    host.leader.until_state("ill", TaskState::Failed).await;
    let error = host.leader.status("ill").error;
    assert_eq!(
        error,
        "task: non-zero exit (0): unhealthy container: no route"
    );
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_run_each_once() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::new().await;
    let worker = host.worker().await;
    let ids: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    host.leader
        .until("a session", |seen| seen.sessions == 1)
        .await;
    let start = std::time::Instant::now();
    for id in &ids {
        host.leader.put(task(id, SERVE));
    }
    for id in &ids {
        host.leader.until_state(id, TaskState::Running).await;
    }
    let taken = start.elapsed();
    let straight = straight(&host, 20).await;
    eprintln!(
        "20 tasks run after {taken:?}, 20 containers straight through the engine {straight:?}"
    );
    assert!(taken < straight * 5, "{taken:?} against {straight:?}");
    let worker_left = worker.leave(Duration::from_secs(60)).await;
    worker_left.unwrap();
    let left = host.engine.containers().await;
    assert!(left.iter().all(|c| !c.0.starts_with("web.")), "{left:?}");
    host.leader.until("goodbye", |seen| seen.said_goodbye).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_host_mode_is_bound_and_told() {
    if !dockerd::is_possible() {
        return;
    }
    let host = Host::with(false, true).await;
    let worker = host.worker().await;
    let port = |target_port, published_port, mode: PortMode| PortConfig {
        target_port,
        published_port,
        mode: mode.into(),
        ..PortConfig::default()
    };
    let with_ports = |task_id: &str, ports| Assignment {
        endpoint: Some(EndpointSpec { ports }),
        ..task(task_id, SERVE)
    };
    let ports = vec![
        port(80, 18080, PortMode::Host),
        port(81, 0, PortMode::Host),
        port(82, 18082, PortMode::Ingress),
    ];
    host.leader.put(with_ports("t1", ports));
    host.leader.until_state("t1", TaskState::Running).await;
    let bound: Vec<(u32, bool)> = host
        .leader
        .status("t1")
        .ports
        .iter()
        .map(|p| (p.target_port, p.published_port > 0))
        .collect();
    assert_eq!(bound, [(80, true), (81, true)]);
    assert_eq!(host.leader.status("t1").ports[0].published_port, 18080);

    host.leader
        .put(with_ports("t2", vec![port(80, 18080, PortMode::Host)]));
    host.leader.until_state("t2", TaskState::Failed).await;
    let error = host.leader.status("t2").error;
    assert!(error.contains("18080"), "{error}");
    worker.stop(Duration::from_secs(5)).await.unwrap();
}

/// How long the engine itself takes for so many containers, eight at a time.
async fn straight(host: &Host, count: usize) -> Duration {
    use futures_util::StreamExt;
    let docker = host.engine.docker().await;
    let start = std::time::Instant::now();
    futures_util::stream::iter(0..count)
        .for_each_concurrent(8, |n| {
            let docker = docker.clone();
            async move {
                let body = bollard::models::ContainerCreateBody {
                    image: Some(IMAGE.into()),
                    cmd: Some(["/bin/sh", "-c", SERVE].map(str::to_owned).to_vec()),
                    ..Default::default()
                };
                let options = bollard::query_parameters::CreateContainerOptionsBuilder::default()
                    .name(&format!("straight{n}"))
                    .build();
                let made = docker.create_container(Some(options), body).await.unwrap();
                docker.start_container(&made.id, None).await.unwrap();
            }
        })
        .await;
    start.elapsed()
}
