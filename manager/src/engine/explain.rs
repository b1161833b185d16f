//! What the swarm is waiting for, in sentences. Read off the world alone, so any
//! manager can say it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{Explanation, Node, NodeState, Service, Task, TaskState, Verdict};
use skep_proto::{Error, Result};

use super::orchestrate::takes_part;
use super::schedule::{name_of, verdict_now};
use super::slot::records;
use super::{restart, update};
use crate::state::{Nanos, SlotKey, World};

/// Tasks of one kind that are named before the rest is only counted.
const NAMED_MAX: usize = 3;

/// Why a service's tasks, or one task, are or are not where they should be.
/// `id` is the full id of a service or task.
///
/// # Errors
/// `CODE_NOT_FOUND` when `id` is neither's.
pub fn explain(world: &World, id: &str, now: Nanos) -> Result<Explanation> {
    if let Some(service) = world.service(id) {
        return Ok(of_service(world, service, now));
    }
    match world.task(id) {
        Some(task) => Ok(of_task(world, task, now)),
        None => Err(Error::not_found("service", id)),
    }
}

fn of_service(world: &World, service: &Arc<Service>, now: Nanos) -> Explanation {
    let live: Vec<Arc<Task>> = world
        .tasks_of_service(service.id())
        .filter(|t| t.is_live())
        .cloned()
        .collect();
    let running = count(live.iter().filter(|t| t.state() == TaskState::Running));
    let desired = if service.is_global() {
        count(world.nodes().filter(|n| takes_part(service, n)))
    } else {
        service.replicas()
    };
    let mut headline = format!("{}: {running} of {desired} running", service.name());
    let groups = [
        (waiting_for_node(&live), "for a node"),
        (waiting_to_start(&live), "to start again"),
        (coming_up(&live), "for their node to start them"),
    ];
    for (tasks, what) in groups {
        if !tasks.is_empty() {
            let verb = if tasks.len() == 1 { "waits" } else { "wait" };
            headline.push_str(&format!("; {} {verb} {what}", tasks.len()));
        }
    }
    let mut notes = update_notes(service, &live);
    for task in &live {
        notes.extend(task_notes(world, service, task, now));
    }
    notes = folded(notes);
    notes.extend(finished_notes(world, service, now));
    notes.extend(node_notes(world, &live, now));
    Explanation {
        service: Some((**service).clone()),
        nodes: nodes(world, &live),
        tasks: live.iter().map(|t| (**t).clone()).collect(),
        desired,
        running,
        notes: notes.into_iter().map(|n| n.text).collect(),
        headline,
    }
}

fn of_task(world: &World, task: &Arc<Task>, now: Nanos) -> Explanation {
    let service = world.service(&task.service_id);
    let tasks = vec![task.clone()];
    let error = task.status.as_ref().map_or("", |s| s.error.as_str());
    let mut headline = format!("{} is {}", task.short_name(), task.state().word());
    if let Some(node) = world.node(&task.node_id) {
        headline.push_str(&format!(" on {}", name_of(node)));
    }
    if !error.is_empty() {
        headline.push_str(&format!(": {error}"));
    }
    let mut notes = Vec::new();
    match service {
        Some(service) if task.is_live() => notes.extend(task_notes(world, service, task, now)),
        Some(service) => {
            let key = SlotKey::of(task);
            let next = records(world, &key).into_iter().rfind(|t| t.is_live());
            notes.push(match next {
                Some(next) => note(format!(
                    "task {} has taken its place: it is {}",
                    next.id(),
                    next.state().word()
                )),
                None => note(format!("no task has taken its place in {}", service.name())),
            });
        }
        None => notes.push(note("its service was removed".to_owned())),
    }
    notes.extend(node_notes(world, &tasks, now));
    Explanation {
        service: service.map(|s| (**s).clone()),
        nodes: nodes(world, &tasks),
        tasks: vec![(**task).clone()],
        desired: 1,
        running: u64::from(task.state() == TaskState::Running),
        notes: notes.into_iter().map(|n| n.text).collect(),
        headline,
    }
}

/// A sentence, and whom it is about where the same may be said of others.
struct Note {
    about: Option<String>,
    text: String,
}

fn note(text: String) -> Note {
    Note { about: None, text }
}

fn about(task: &Task, text: String) -> Note {
    Note {
        about: Some(task.short_name()),
        text,
    }
}

/// The same said of several tasks becomes one sentence.
fn folded(notes: Vec<Note>) -> Vec<Note> {
    let mut order: Vec<String> = Vec::new();
    let mut who: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for note in notes {
        if !who.contains_key(&note.text) {
            order.push(note.text.clone());
        }
        who.entry(note.text).or_default().extend(note.about);
    }
    let fold = |text: String| {
        let names = who.remove(&text).unwrap_or_default();
        let named: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
        let rest = names.len().saturating_sub(NAMED_MAX);
        note(match (named.is_empty(), rest) {
            (true, _) => text,
            (false, 0) => format!("{}: {text}", named.join(", ")),
            (false, rest) => format!("{} and {rest} more: {text}", named.join(", ")),
        })
    };
    order.into_iter().map(fold).collect()
}

fn waiting_for_node(live: &[Arc<Task>]) -> Vec<&Arc<Task>> {
    live.iter()
        .filter(|t| t.state() < TaskState::Assigned)
        .collect()
}

fn waiting_to_start(live: &[Arc<Task>]) -> Vec<&Arc<Task>> {
    let placed = |t: &&Arc<Task>| t.state() >= TaskState::Assigned;
    live.iter()
        .filter(placed)
        .filter(|t| t.desired() == TaskState::Ready)
        .collect()
}

fn coming_up(live: &[Arc<Task>]) -> Vec<&Arc<Task>> {
    let between = |t: &&Arc<Task>| {
        (TaskState::Assigned..TaskState::Running).contains(&t.state())
            && t.desired() == TaskState::Running
    };
    live.iter().filter(between).collect()
}

fn task_notes(world: &World, service: &Service, task: &Task, now: Nanos) -> Vec<Note> {
    let mut notes = Vec::new();
    if task.state() < TaskState::Assigned {
        match verdict_now(world, service, task, now) {
            Some(verdict) => notes.extend(verdict_notes(task, &verdict)),
            None => notes.push(about(task, "is about to be placed".to_owned())),
        }
    }
    if task.desired() == TaskState::Ready {
        let records = records(world, &SlotKey::of(task));
        let before = records
            .iter()
            .rfind(|t| t.id() != task.id() && !t.is_live());
        if let Some(before) = before {
            notes.push(about(task, waits_for(world, task, before, now)));
        }
    }
    let error = task.status.as_ref().map_or("", |s| s.error.as_str());
    if !error.is_empty() {
        notes.push(about(task, error.to_owned()));
    }
    notes
}

fn waits_for(world: &World, task: &Task, before: &Task, now: Nanos) -> String {
    let was = match before.status.as_ref().map_or("", |s| s.error.as_str()) {
        "" => before.state().word().to_owned(),
        error => format!("{} ({error})", before.state().word()),
    };
    if task.start_at_ns > now {
        return format!(
            "starts in {}: the task before it is {was}",
            span(task.start_at_ns - now)
        );
    }
    let node = world
        .node(&before.node_id)
        .map_or_else(|| before.node_id.clone(), |n| name_of(n));
    let latest = task
        .meta()
        .created_at_ns
        .saturating_add(restart::STOP_WAIT_NS_MAX);
    format!(
        "starts when the task before it has stopped on {node}, in {} at the latest",
        span(latest.saturating_sub(now))
    )
}

fn verdict_notes(task: &Task, verdict: &Verdict) -> Vec<Note> {
    let mut notes = vec![about(task, verdict.summary.clone())];
    let remedies: BTreeSet<&str> = verdict.refusals.iter().map(|r| r.remedy.as_str()).collect();
    notes.extend(
        remedies
            .into_iter()
            .filter(|r| !r.is_empty())
            .map(|r| note(format!("try: {r}"))),
    );
    notes
}

fn update_notes(service: &Service, live: &[Arc<Task>]) -> Vec<Note> {
    let Some(status) = &service.update_status else {
        return Vec::new();
    };
    if update::is_paused(service) {
        return vec![
            note(status.message.clone()),
            note(format!(
                "it goes on with the next update: skep service update {0}, \
                 or back: skep service rollback {0}",
                service.name()
            )),
        ];
    }
    if update::began(service).is_none() {
        return Vec::new();
    }
    let new = live
        .iter()
        .filter(|t| t.template_version == service.template_version)
        .count();
    vec![note(format!(
        "{}: {new} of {} tasks are new",
        status.message,
        live.len()
    ))]
}

/// Slots whose task has ended for good.
fn finished_notes(world: &World, service: &Service, now: Nanos) -> Vec<Note> {
    let policy = restart::policy(service);
    let mut notes = Vec::new();
    for key in world.slots_of_service(service.id()) {
        let records = records(world, key);
        let Some(last) = records
            .last()
            .filter(|_| !records.iter().any(|t| t.is_live()))
        else {
            continue;
        };
        if last.desired() != TaskState::Shutdown || restart::may_follow(&policy, last, now) {
            continue;
        }
        let why = if policy.max_attempts > 0 && last.state() != TaskState::Complete {
            format!(
                "it was restarted {} times, as often as allowed",
                policy.max_attempts
            )
        } else {
            format!("restart condition {}", policy.condition().word())
        };
        notes.push(about(
            last,
            format!("is {} and not started again: {why}", last.state().word()),
        ));
    }
    folded(notes)
}

fn node_notes(world: &World, live: &[Arc<Task>], now: Nanos) -> Vec<Note> {
    let mut notes = Vec::new();
    for node in nodes(world, live) {
        let since = node.status.as_ref().map_or(now, |s| s.since_ns);
        let ago = span(now.saturating_sub(since));
        let name = name_of(&node);
        match node.state() {
            NodeState::Suspect => notes.push(note(format!(
                "{name} lost its connection {ago} ago: its tasks are left alone until it is back or down"
            ))),
            NodeState::Unknown => {
                notes.push(note(format!("{name} has not been heard of by this leader yet")));
            }
            NodeState::Down | NodeState::Ready => {}
        }
    }
    notes
}

fn nodes(world: &World, tasks: &[Arc<Task>]) -> Vec<Node> {
    let ids: BTreeSet<&str> = tasks.iter().map(|t| t.node_id.as_str()).collect();
    ids.into_iter()
        .filter_map(|id| world.node(id))
        .map(|n| (**n).clone())
        .collect()
}

fn count<T>(of: impl Iterator<Item = T>) -> u64 {
    u64::try_from(of.count()).unwrap_or(u64::MAX)
}

/// `4.2 s`, `3 min`.
fn span(ns: Nanos) -> String {
    let tenths = ns.max(0) / 100_000_000;
    match tenths / 10 {
        0..=9 => format!("{}.{} s", tenths / 10, tenths % 10),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
