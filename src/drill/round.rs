//! One round: load, the leader's end, and what is asked of the swarm after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use skep_proto::objects::Identified;
use skep_proto::v1::{
    EndManagerRequest, FilterTerm, Kind, ListRequest, Node, Object, Reachability, RemoveService,
    Task, TaskState, WriteRequest, end_manager_request, object, write_request::Verb,
};
use skep_proto::{Error, Result};

use super::check::plan;
use super::load::{Call, Load, Sample};
use super::report::{ClientReport, Report};
use super::{Manager, Mode, Options};

/// A look at the swarm, outside the load.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Runs one round among `managers` (all of the swarm's, the leader too).
pub async fn run(managers: &[Manager], options: &Options, round: u32) -> Result<Report> {
    let anyone = managers
        .first()
        .ok_or_else(|| Error::precondition("the swarm has no managers"))?;
    let plan = plan(&nodes(anyone).await?)?;
    let leader = find(managers, &plan.leader)?;
    let survivors: Vec<Manager> = managers
        .iter()
        .filter(|m| plan.others.contains(&m.node_id))
        .cloned()
        .collect();
    let witness = survivors
        .first()
        .ok_or_else(|| Error::precondition("no manager survives the leader"))?;
    let tasks_before = running(witness).await?;
    let prefix = format!("skep-drill-{:08x}-{round}", rand::random::<u32>());

    let load = Load::start(&survivors, options, &prefix);
    tokio::time::sleep(options.settle).await;
    let ended_at = Instant::now();
    let end = end(leader, options).await;
    if let Err(error) = end {
        load.stop().await;
        clean(witness, &prefix).await;
        return Err(error);
    }
    let served = wait_served(&load, ended_at, &leader.node_id, options.patience).await;
    tokio::time::sleep(options.settle).await;
    let clients = load.clients.clone();
    let samples = load.stop().await;
    served?;

    let acknowledged: BTreeSet<&String> = samples
        .iter()
        .filter(|s| s.call == Call::Write)
        .filter_map(|s| s.result.as_ref().ok())
        .collect();
    let kept: BTreeSet<String> = services(witness, &prefix).await?.into_iter().collect();
    let lost = acknowledged.iter().filter(|n| !kept.contains(**n)).count();
    let back = wait_back(witness, &leader.node_id, options.patience).await;
    let tasks_after = running(witness).await?;
    clean(witness, &prefix).await;

    let new_leader_id = first_after(&samples, Call::Read, ended_at, |s| {
        s.result.as_ref().is_ok_and(|l| *l != leader.node_id)
    });
    let new_leader = new_leader_id
        .and_then(|s| s.result.as_ref().ok())
        .and_then(|id| managers.iter().find(|m| m.node_id == *id))
        .map_or_else(String::new, |m| m.hostname.clone());
    Ok(Report {
        round,
        mode: options.mode,
        old_leader: leader.hostname.clone(),
        new_leader,
        new_leader_after: new_leader_id.map(|s| s.ended - ended_at),
        first_write_after: after(&samples, Call::Write, ended_at),
        first_read_after: after(&samples, Call::Read, ended_at),
        clients: clients
            .iter()
            .enumerate()
            .map(|(number, client)| ClientReport::of(number, client, &samples, ended_at))
            .collect(),
        writes_acknowledged: acknowledged.len(),
        writes_lost: lost,
        tasks_watched: tasks_before.len(),
        tasks_changed: changed(&tasks_before, &tasks_after),
        back_after: back,
        ended_at,
        samples,
    })
}

/// The first call that was begun after the leader's end and went well.
fn first_after(
    samples: &[Sample],
    call: Call,
    ended_at: Instant,
    good: impl Fn(&Sample) -> bool,
) -> Option<&Sample> {
    samples
        .iter()
        .filter(|s| s.call == call && s.started >= ended_at && s.result.is_ok() && good(s))
        .min_by_key(|s| s.ended)
}

/// How long after the leader's end a call was answered that only a new leader
/// could answer: one that was begun after it.
fn after(samples: &[Sample], call: Call, ended_at: Instant) -> Option<Duration> {
    first_after(samples, call, ended_at, |_| true).map(|s| s.ended - ended_at)
}

async fn end(leader: &Manager, options: &Options) -> Result<()> {
    let mode = match options.mode {
        Mode::Kill => end_manager_request::Mode::Kill,
        Mode::Stop => end_manager_request::Mode::Stop,
        Mode::Cut => end_manager_request::Mode::Cut,
    };
    let mut request = tonic::Request::new(EndManagerRequest {
        mode: mode.into(),
        cut_for_ns: i64::try_from(options.cut_for.as_nanos()).unwrap_or(i64::MAX),
        term: 0,
    });
    request.set_timeout(Duration::from_secs(5));
    match leader.control().end_manager(request).await {
        Ok(_) => Ok(()),
        // A process that aborts, or whose network is gone, does not answer.
        Err(status)
            if matches!(
                status.code(),
                tonic::Code::Unavailable
                    | tonic::Code::Unknown
                    | tonic::Code::Cancelled
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::Internal
            ) && status.details().is_empty() =>
        {
            Ok(())
        }
        Err(status) => Err(Error::from(status)),
    }
}

/// Until every client has been answered by a new leader.
async fn wait_served(
    load: &Load,
    ended_at: Instant,
    old_leader: &str,
    patience: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let samples = load.samples();
        let served = |number: usize| {
            samples.iter().any(|s| {
                s.client == number
                    && s.started >= ended_at
                    && s.result.as_ref().is_ok_and(|r| r != old_leader)
            })
        };
        if (0..load.clients.len()).all(served) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::unavailable(format!(
                "the swarm did not serve all clients again within {patience:?}"
            ))
            .hint("skep node ls shows which managers are reachable"));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Until the ended manager is reachable again: a supervisor has restarted it,
/// or its network is back. `None` if it stays away.
async fn wait_back(witness: &Manager, node_id: &str, patience: Duration) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < patience {
        let is_back = nodes(witness).await.is_ok_and(|nodes| {
            nodes.iter().any(|n| {
                n.id() == node_id
                    && n.manager
                        .as_ref()
                        .is_some_and(|m| m.reachability() == Reachability::Reachable)
                    && n.state() == skep_proto::v1::NodeState::Ready
            })
        });
        if is_back {
            return Some(began.elapsed());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    None
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> usize {
    let gone = before
        .iter()
        .filter(|(id, c)| after.get(*id) != Some(c))
        .count();
    let new = after.keys().filter(|id| !before.contains_key(*id)).count();
    gone.max(new)
}

/// Running tasks and their containers.
async fn running(manager: &Manager) -> Result<BTreeMap<String, String>> {
    let objects = list(manager, Kind::Task, Vec::new()).await?;
    Ok(objects
        .into_iter()
        .filter_map(|o| match o.object {
            Some(object::Object::Task(task)) if is_running(&task) => Some((
                task.id().to_owned(),
                task.status
                    .and_then(|s| s.container)
                    .map_or_else(String::new, |c| c.container_id),
            )),
            _ => None,
        })
        .collect())
}

fn is_running(task: &Task) -> bool {
    task.state() == TaskState::Running && task.desired() == TaskState::Running
}

async fn nodes(manager: &Manager) -> Result<Vec<Node>> {
    let objects = list(manager, Kind::Node, Vec::new()).await?;
    Ok(objects
        .into_iter()
        .filter_map(|o| match o.object {
            Some(object::Object::Node(node)) => Some(node),
            _ => None,
        })
        .collect())
}

async fn services(manager: &Manager, prefix: &str) -> Result<Vec<String>> {
    let filter = FilterTerm {
        key: "name".into(),
        value: prefix.into(),
    };
    let objects = list(manager, Kind::Service, vec![filter]).await?;
    Ok(objects
        .into_iter()
        .filter_map(|o| match o.object {
            Some(object::Object::Service(service)) => Some(service.name().to_owned()),
            _ => None,
        })
        .collect())
}

async fn list(manager: &Manager, kind: Kind, filters: Vec<FilterTerm>) -> Result<Vec<Object>> {
    let mut request = tonic::Request::new(ListRequest {
        kind: kind.into(),
        filters,
    });
    request.set_timeout(LOOK_TIMEOUT);
    Ok(manager.control().list(request).await?.into_inner().objects)
}

/// Removes what the load created.
async fn clean(manager: &Manager, prefix: &str) {
    let Ok(names) = services(manager, prefix).await else {
        tracing::warn!(prefix, "services of the drill could not be removed");
        return;
    };
    for name in names {
        let mut request = tonic::Request::new(WriteRequest {
            request_id: format!("{name}-rm"),
            verb: Some(Verb::RemoveService(RemoveService { service: name })),
            term: 0,
        });
        request.set_timeout(LOOK_TIMEOUT);
        if let Err(error) = manager.control().write(request).await {
            tracing::warn!(%error, "a service of the drill could not be removed");
        }
    }
}

fn find<'a>(managers: &'a [Manager], node_id: &str) -> Result<&'a Manager> {
    managers
        .iter()
        .find(|m| m.node_id == node_id)
        .ok_or_else(|| Error::precondition(format!("the leader {node_id} cannot be reached")))
}
