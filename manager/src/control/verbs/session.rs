//! What a worker's session tells: it is there, it is gone, its tasks' states.

use std::collections::BTreeMap;

use skep_proto::v1::{
    NodeLost, NodePatch, NodeSeen, NodeState, NodeStatus, ReportStatuses, TaskPatch, TaskReport,
    TaskState, TaskStatus,
};
use skep_proto::{Error, Result};

use super::{Change, Context, Execution, node, patch_node, patch_task};
use crate::state::cluster;

/// Longest message and error of a task's status, bytes: history is kept in memory.
const STATUS_TEXT_BYTES_MAX: usize = 1024;
/// Longest hostname or version in a node's own description, bytes.
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;

/// A session began, or the node described itself anew: it is READY.
pub(super) fn node_seen(context: &Context<'_>, verb: &NodeSeen) -> Result<Execution> {
    let id = &verb.node_id;
    let Some(found) = context.world.node(id) else {
        let removed = context
            .world
            .cluster()
            .is_some_and(|c| cluster::is_removed(c, id));
        return Err(if removed {
            node::removed(id)
        } else {
            Error::not_found("node", id)
        });
    };
    if let Some(description) = &verb.description {
        let bytes = prost::Message::encoded_len(description);
        if bytes > DESCRIPTION_BYTES_MAX {
            return Err(Error::invalid(
                "description",
                format!("has {bytes} bytes; at most {DESCRIPTION_BYTES_MAX} are taken"),
            )
            .on(format!("node {id}")));
        }
    }
    let stored = found.status.clone().unwrap_or_default();
    let addr = if verb.addr.is_empty() {
        stored.addr.clone()
    } else {
        verb.addr.clone()
    };
    let is_ready = stored.state() == NodeState::Ready && found.status.is_some();
    let status = NodeStatus {
        state: NodeState::Ready.into(),
        message: String::new(),
        since_ns: if is_ready {
            stored.since_ns
        } else {
            context.now
        },
        addr,
    };
    let patch = NodePatch {
        id: id.clone(),
        status: (found.status.as_ref() != Some(&status)).then_some(status),
        description: verb
            .description
            .clone()
            .filter(|d| found.description.as_ref() != Some(d)),
        ..NodePatch::default()
    };
    let mut changes = Vec::new();
    if patch.status.is_some() || patch.description.is_some() {
        changes.push(patch_node(patch));
    }
    let mut warnings = Vec::new();
    changes.extend(statuses(context, id, &verb.running, &mut warnings));
    Ok(context.acknowledge(id, changes, warnings))
}

/// Sessions that broke, fell silent, or have yet to be heard of by a new leader.
pub(super) fn node_lost(context: &Context<'_>, verb: &NodeLost) -> Result<Execution> {
    let state = NodeState::try_from(verb.state)
        .ok()
        .filter(|s| *s != NodeState::Ready)
        .ok_or_else(|| Error::invalid("state", "a lost node is down, suspect or unknown"))?;
    let mut changes = Vec::new();
    for id in &verb.node_ids {
        let Some(found) = context.world.node(id) else {
            continue;
        };
        // A node that is down stays down until it is heard of.
        if found.state() == state || found.state() == NodeState::Down {
            continue;
        }
        let addr = found
            .status
            .as_ref()
            .map(|s| s.addr.clone())
            .unwrap_or_default();
        changes.push(patch_node(NodePatch {
            id: id.clone(),
            status: Some(NodeStatus {
                state: state.into(),
                message: cut(&verb.message),
                addr,
                since_ns: context.now,
            }),
            ..NodePatch::default()
        }));
    }
    Ok(context.acknowledge("", changes, Vec::new()))
}

/// A batch of states from one node.
pub(super) fn report_statuses(context: &Context<'_>, verb: &ReportStatuses) -> Result<Execution> {
    let mut warnings = Vec::new();
    let changes = statuses(context, &verb.node_id, &verb.reports, &mut warnings);
    Ok(context.acknowledge(&verb.node_id, changes, warnings))
}

/// One patch per task whose status moves. A report about an unknown task is
/// left aside (its record was reaped), and so is one about another node's.
fn statuses(
    context: &Context<'_>,
    node_id: &str,
    reports: &[TaskReport],
    warnings: &mut Vec<String>,
) -> Vec<Change> {
    let mut moved: BTreeMap<&str, TaskStatus> = BTreeMap::new();
    let mut foreign = 0;
    for report in reports {
        let (Some(task), Some(status)) = (context.world.task(&report.task_id), &report.status)
        else {
            continue;
        };
        if task.node_id != node_id {
            foreign += 1;
            continue;
        }
        let stored = task.status.as_ref();
        let newest = moved.get(report.task_id.as_str()).or(stored);
        let status = cleaned(status);
        if moves(newest, &status) {
            moved.insert(&report.task_id, status);
        }
    }
    if foreign > 0 {
        warnings.push(format!(
            "{foreign} reports about tasks that are not assigned to node {node_id} were left aside"
        ));
    }
    let patch = |(id, status): (&str, TaskStatus)| {
        patch_task(TaskPatch {
            id: id.to_owned(),
            status: Some(TaskStatus {
                applied_at_ns: context.now,
                ..status
            }),
            ..TaskPatch::default()
        })
    };
    moved.into_iter().map(patch).collect()
}

/// Whether a node may say this now: observed states move only forward, and a
/// task that has ended stays so; more detail of the same state is welcome.
fn moves(stored: Option<&TaskStatus>, new: &TaskStatus) -> bool {
    let reportable = TaskState::try_from(new.state)
        .is_ok_and(|state| (TaskState::Accepted..=TaskState::Rejected).contains(&state));
    let Some(stored) = stored else {
        return reportable;
    };
    let (old, state) = (stored.state(), new.state());
    let forward = state > old && old <= TaskState::Running;
    let same = state == old && {
        let mut stored = stored.clone();
        stored.applied_at_ns = 0;
        stored.at_ns = new.at_ns;
        stored != *new
    };
    reportable && (forward || same)
}

/// A status as it is stored: bounded, and stamped by nobody but the leader.
fn cleaned(status: &TaskStatus) -> TaskStatus {
    TaskStatus {
        message: cut(&status.message),
        error: cut(&status.error),
        applied_at_ns: 0,
        ..status.clone()
    }
}

fn cut(text: &str) -> String {
    if text.len() <= STATUS_TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = STATUS_TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}
