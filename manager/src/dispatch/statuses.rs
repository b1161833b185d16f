//! What workers report, on its way into the swarm.
//!
//! Each session has one write under way; what comes meanwhile is put together,
//! the newest status of each task only, and goes with the next one. So a node's
//! reports stay in order, and a burst costs few writes: writes of different
//! sessions become one log entry at the proposer.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_proto::Result;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{ReportStatuses, StatusBatch, TaskReport, TaskState, TaskStatus};
use tokio::sync::mpsc;

use super::reign::Reign;
use super::roster::Session;
use crate::state::World;

/// Batches of one session that may wait; then the worker has to.
pub(super) const BATCHES_MAX: usize = 64;
/// Reports in one verb.
const REPORTS_MAX: usize = 1_024;
/// A write that takes longer is tried again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Commits batches in order and has each one acknowledged once it is. Ends
/// when no more can come.
pub(super) async fn pump(
    reign: &Reign,
    node_id: &str,
    session: &Session,
    mut batches: mpsc::Receiver<StatusBatch>,
) {
    while let Some(first) = batches.recv().await {
        let mut sequences = vec![first.sequence];
        let mut reports = first.reports;
        while reports.len() < REPORTS_MAX {
            let Ok(next) = batches.try_recv() else { break };
            sequences.push(next.sequence);
            reports.extend(next.reports);
        }
        let reports = admissible(&reign.shared.follow.world(), node_id, reports);
        commit(reign, node_id, reports).await;
        session.mailbox.ack(sequences);
    }
}

/// Commits reports, however long it takes. What is refused is dropped: sent
/// again it would be refused again.
async fn commit(reign: &Reign, node_id: &str, reports: Vec<TaskReport>) {
    for chunk in reports.chunks(REPORTS_MAX) {
        while let Err(error) = write(reign, node_id, chunk.to_vec()).await {
            if !is_worth_retrying(&error) {
                tracing::warn!(%error, node_id, count = chunk.len(), "reports were refused");
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// At the start of a session: tasks that ended while nobody could be told.
pub(super) async fn report_ended(
    reign: &Reign,
    world: &World,
    node_id: &str,
    mut ended: Vec<TaskReport>,
) -> Result<()> {
    ended.retain(|report| {
        world.task(&report.task_id).is_some_and(|task| {
            task.status.as_ref().map(without_time) != report.status.as_ref().map(without_time)
        })
    });
    for chunk in ended.chunks(REPORTS_MAX) {
        if let Err(error) = write(reign, node_id, chunk.to_vec()).await {
            if is_worth_retrying(&error) {
                return Err(error);
            }
            tracing::warn!(%error, node_id, count = chunk.len(), "reports were refused");
        }
    }
    Ok(())
}

/// The newest report of each task that is on this node, in the order in which
/// they came. Others say nothing that the node could know.
pub(super) fn admissible(
    world: &World,
    node_id: &str,
    reports: Vec<TaskReport>,
) -> Vec<TaskReport> {
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    for (at, report) in reports.iter().enumerate() {
        newest.insert(report.task_id.clone(), at);
    }
    let mut foreign = 0;
    let admitted = reports
        .into_iter()
        .enumerate()
        .filter(|(at, report)| newest.get(&report.task_id) == Some(at))
        .map(|(_, report)| report)
        .filter(|report| match world.task(&report.task_id) {
            Some(task) if task.node_id == node_id => true,
            Some(_) => {
                foreign += 1;
                false
            }
            None => false,
        })
        .collect();
    if foreign > 0 {
        tracing::warn!(
            node_id,
            foreign,
            "reports about tasks of other nodes were dropped"
        );
    }
    admitted
}

/// Whether nothing of the task runs any more.
pub(super) fn is_ended(report: &TaskReport) -> bool {
    report
        .status
        .as_ref()
        .is_some_and(|s| s.state() > TaskState::Running)
}

fn is_worth_retrying(error: &skep_proto::Error) -> bool {
    error.is_retryable() || error.code() == skep_proto::Code::Timeout
}

async fn write(reign: &Reign, node_id: &str, reports: Vec<TaskReport>) -> Result<()> {
    let verb = Verb::ReportStatuses(ReportStatuses {
        node_id: node_id.to_owned(),
        reports,
    });
    reign.write(verb, WRITE_TIMEOUT).await.map(|_| ())
}

fn without_time(status: &TaskStatus) -> TaskStatus {
    TaskStatus {
        at_ns: 0,
        applied_at_ns: 0,
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::testkit::{put_service, put_task, task_report as report, world_of};

    #[test]
    fn a_node_is_heard_about_its_own_tasks_and_the_newest_counts() {
        let world = world_of([
            put_service("s1", "web", 1),
            put_task("t1", "s1", "n1", 1),
            put_task("t2", "s1", "n2", 1),
        ]);
        let reports = admissible(
            &world,
            "n1",
            vec![
                report("t1", TaskState::Preparing),
                report("t2", TaskState::Failed),
                report("t3", TaskState::Failed),
                report("t1", TaskState::Running),
            ],
        );
        assert_eq!(reports, [report("t1", TaskState::Running)]);
    }

    #[test]
    fn a_running_task_has_not_ended() {
        assert!(!is_ended(&report("t", TaskState::Running)));
        assert!(is_ended(&report("t", TaskState::Complete)));
    }
}
