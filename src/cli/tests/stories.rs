//! What commands say and how they end, against a manager in this process.

use skep_proto::v1::logs_response::Item;
use skep_proto::v1::{LogBatch, LogGap, LogLine, LogSource, LogsResponse};

use super::fake::{Fate, Host};
use crate::cli::Exit;

const CREATE: &str = "service create --name web --replicas 2 --update-monitor 1ms nginx";

#[tokio::test]
async fn a_created_service_is_waited_for() {
    let host = Host::start().await;
    let said = host.skep(CREATE).await;
    assert_eq!(
        (said.exit, said.out.as_str()),
        (Exit::Ok, "s1\n"),
        "{}",
        said.err
    );
    assert_eq!(
        said.err,
        "overall progress: 2 out of 2 tasks\n1/2: running\n2/2: running\n\
         verify: Waiting 1 seconds to verify that tasks are stable...\n\
         verify: Service web converged\n"
    );
    let said = host.skep("service ls").await;
    assert!(
        said.out.contains("web       replicated   2/2        nginx"),
        "{}",
        said.out
    );
    let said = host
        .skep("service ps web --format {{.Name}}:{{.CurrentState}}")
        .await;
    assert_eq!(
        said.out, "web.1:Running about a minute ago\nweb.2:Running about a minute ago\n",
        "{}",
        said.err
    );
    let said = host
        .skep("service inspect web -f {{.Spec.Name}}={{.Spec.Mode.Replicated.Replicas}}")
        .await;
    assert_eq!(said.out, "web=2\n");
}

#[tokio::test]
async fn a_write_that_finds_no_leader_is_sent_again_under_its_id() {
    let host = Host::start().await;
    host.state().leaderless_writes = 2;
    let said = host.skep(CREATE).await;
    assert_eq!(said.exit, Exit::Ok, "{}", said.err);
    let ids = host.state().request_ids.clone();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]));
    host.state().leaderless_writes = usize::MAX;
    let said = host.skep("--timeout 300ms service rm web").await;
    assert_eq!(said.exit, Exit::Failed);
    assert!(
        said.err
            .starts_with("Error: the swarm has no leader\nHint: "),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn a_service_without_a_node_ends_with_three() {
    let host = Host::start().await;
    host.state().fate = Fate::Wait;
    let said = host
        .skep("service create --name web --converge-timeout 300ms nginx")
        .await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::NotPlaced, "s1\n"));
    assert!(
        said.err
            .contains("Error: service web: 1 of 1 tasks has no node: no suitable node (1 drained)"),
        "{}",
        said.err
    );
    assert!(said.err.contains("Hint: skep explain web"), "{}", said.err);
    let said = host.skep("explain web").await;
    assert!(said.out.contains("web.1 waits for a node"), "{}", said.out);
}

#[tokio::test]
async fn a_paused_update_ends_with_four_and_detaching_with_none() {
    let host = Host::start().await;
    assert_eq!(host.skep(CREATE).await.exit, Exit::Ok);
    host.state().fate = Fate::Pause;
    let said = host.skep("service update --image nginx:2 web").await;
    assert_eq!(said.exit, Exit::NotConverged);
    assert!(
        said.err
            .contains("Error: service update paused: update paused due to failure"),
        "{}",
        said.err
    );
    let said = host.skep("service update -d --image nginx:3 web").await;
    assert_eq!(
        (said.exit, said.out.as_str(), said.err.as_str()),
        (Exit::Ok, "web\n", "")
    );
}

#[tokio::test]
async fn a_refusal_names_field_and_remedy_and_the_rest_goes_on() {
    let host = Host::start().await;
    host.skep(CREATE).await;
    let said = host.skep(CREATE).await;
    assert_eq!(said.exit, Exit::Failed);
    assert_eq!(
        said.err,
        "Error: name: service web already exists\nHint: take another name\n"
    );
    let said = host.skep("service rm nosuch web").await;
    assert_eq!((said.exit, said.out.as_str()), (Exit::Failed, "web\n"));
    assert!(
        said.err.contains("Error: service nosuch not found"),
        "{}",
        said.err
    );
    assert!(host.state().services.is_empty());
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_ends_with_two() {
    let host = Host::start().await;
    for line in [
        "service create --limit-memory lots nginx",
        "service create --mode global --replicas 2 nginx",
        "service scale web=-1",
        "service logs --since yesterday web",
        "node update alpha",
        "frobnicate",
    ] {
        let said = host.skep(line).await;
        assert_eq!(said.exit, Exit::Usage, "{line}: {}", said.err);
        assert!(host.state().request_ids.is_empty(), "{line}");
    }
}

#[tokio::test]
async fn init_prints_the_line_for_the_others_and_join_takes_it() {
    let host = Host::start().await;
    let said = host.skep("swarm init --advertise-addr 10.0.0.1").await;
    let line = said
        .out
        .lines()
        .find_map(|l| l.trim().strip_prefix("skep "))
        .unwrap()
        .to_owned();
    assert_eq!(
        line,
        "swarm join --token SWMTKN-1-digest-secret 10.0.0.1:2377"
    );
    let said = host.skep(&line).await;
    assert_eq!(
        said.out, "This node joined a swarm as a worker.\n",
        "{}",
        said.err
    );
    let said = host.skep("swarm leave").await;
    assert_eq!(said.exit, Exit::Failed);
    let said = host.skep("version --format {{.Server.Version}}").await;
    assert_eq!(said.out, "9.9.9\n");
}

#[tokio::test]
async fn scale_waits_for_each_service() {
    let host = Host::start().await;
    host.skep(CREATE).await;
    let said = host.skep("service scale web=5 nosuch=1").await;
    assert_eq!(
        (said.exit, said.out.as_str()),
        (Exit::Failed, "web scaled to 5\n")
    );
    assert!(said.err.contains("5 out of 5 tasks"), "{}", said.err);
    assert!(
        said.err.contains("service nosuch not found"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn missing_lines_are_told_per_node() {
    let host = Host::start().await;
    host.skep(CREATE).await;
    host.state().logs = vec![
        Item::Source(LogSource {
            task_id: "s1t1".into(),
            service_name: "web".into(),
            slot: 1,
            hostname: "alpha".into(),
            ..LogSource::default()
        }),
        Item::Gap(LogGap {
            node_id: "n2".into(),
            hostname: "beta".into(),
            reason: "it is down".into(),
        }),
        Item::Batch(LogBatch {
            lines: vec![LogLine {
                task_id: "s1t1".into(),
                data: b"hello\n".as_slice().into(),
                ..LogLine::default()
            }],
        }),
    ]
    .into_iter()
    .map(|item| LogsResponse { item: Some(item) })
    .collect();
    let said = host.skep("service logs web").await;
    assert_eq!(said.exit, Exit::Failed);
    assert_eq!(said.out, "web.1.s1t1@alpha    | hello\n");
    assert_eq!(
        said.err,
        "Warning: lines of node beta are missing: it is down\n"
    );
}
