//! One subscription: asks nodes, names gaps, and ends what is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_proto::objects::Identified;
use skep_proto::v1::{
    LogBatch, LogGap, LogLine, LogSource, LogsRequest, LogsResponse, logs_response,
};
use skep_proto::{Error, Result};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Target;
use super::book::{Book, Outcome, Wanted};
use crate::dispatch::reign::Reign;
use crate::state::World;

/// Between two looks when nothing happens.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// For the reason of an ending.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Subscription {
    pub target: Target,
    pub follow: bool,
    /// A look at the books is due.
    pub changed: Notify,
    /// Nobody reads any more.
    pub done: CancellationToken,
    out: mpsc::Sender<Result<LogsResponse>>,
    book: Mutex<Book>,
}

impl Subscription {
    pub fn new(
        term: u64,
        serial: u64,
        request: LogsRequest,
        target: Target,
        out: mpsc::Sender<Result<LogsResponse>>,
    ) -> Self {
        Self {
            target,
            follow: request.follow,
            changed: Notify::new(),
            done: CancellationToken::new(),
            out,
            book: Mutex::new(Book::new(format!("{term}.{serial}"), request)),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relays lines of a part, once the reader has room for them. False when
    /// nobody reads any more.
    pub async fn relay(&self, world: &World, part: &str, lines: Vec<LogLine>) -> bool {
        let lines = self.book().sift(part, lines);
        if lines.is_empty() {
            return true;
        }
        let mut newest = BTreeMap::new();
        for line in &lines {
            let at_ns: &mut i64 = newest.entry(line.task_id.clone()).or_insert(line.at_ns);
            *at_ns = line.at_ns.max(*at_ns);
        }
        for task_id in newest.keys() {
            let is_new = self.book().introduce(task_id);
            let source = logs_response::Item::Source(source(world, task_id));
            if is_new && !self.send(source).await {
                return false;
            }
        }
        if !self
            .send(logs_response::Item::Batch(LogBatch { lines }))
            .await
        {
            return false;
        }
        // Only now: a stream that breaks before this is asked for these lines again.
        self.book().relayed(newest);
        true
    }

    async fn send(&self, item: logs_response::Item) -> bool {
        let response = LogsResponse { item: Some(item) };
        self.out.send(Ok(response)).await.is_ok()
    }
}

/// Names for a task, as far as the world still has them.
fn source(world: &World, task_id: &str) -> LogSource {
    let mut source = LogSource {
        task_id: task_id.to_owned(),
        ..LogSource::default()
    };
    if let Some(task) = world.task(task_id) {
        source.service_id = task.service_id.clone();
        source.service_name = task.service_name.clone();
        source.slot = task.slot;
        source.node_id = task.node_id.clone();
        source.hostname = hostname(world, &task.node_id);
    }
    source
}

fn hostname(world: &World, node_id: &str) -> String {
    world.node(node_id).map_or("", |n| n.hostname()).to_owned()
}

/// Runs a subscription until it is over or nobody reads it.
pub(super) async fn drive(reign: &Reign, subscription: &Subscription) {
    let lost = tokio::select! {
        biased;
        () = reign.token.cancelled() => true,
        () = subscription.out.closed() => false,
        () = look_on(reign, subscription) => false,
    };
    subscription.done.cancel();
    for (part, node_id) in subscription.book().active() {
        if let Some(session) = reign.roster.session(&node_id) {
            session.mailbox.unsubscribe(&part);
        }
    }
    if lost {
        let error = Error::unavailable("the leader changed while logs were read");
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, subscription.out.send(Err(error))).await;
    }
}

async fn look_on(reign: &Reign, subscription: &Subscription) {
    loop {
        let now_ns = reign.shared.clock.now_ns();
        let world = reign.shared.follow.world();
        let tasks = subscription.target.tasks(&world);
        let wanted: Vec<Wanted> = tasks
            .iter()
            .map(|task| Wanted {
                task_id: task.id().to_owned(),
                node_id: task.node_id.clone(),
            })
            .collect();
        let session_of = |node_id: &str| reign.roster.session(node_id).map(|s| s.serial);
        let next = subscription.book().look(&wanted, session_of, now_ns);
        for (part, node_id) in &next.stop {
            if let Some(session) = reign.roster.session(node_id) {
                session.mailbox.unsubscribe(part);
            }
        }
        for (node_id, serial, ask) in next.ask {
            let part = ask.id.clone();
            let told = reign
                .roster
                .session(&node_id)
                .filter(|session| session.serial == serial)
                .is_some_and(|session| session.mailbox.subscribe(ask));
            if !told {
                let outcome = Outcome::Missing("it could not be asked".to_owned());
                subscription.book().end(&part, outcome, now_ns);
                subscription.changed.notify_one();
            }
        }
        for (node_id, reason) in next.gaps {
            let hostname = hostname(&world, &node_id);
            let gap = LogGap {
                node_id,
                hostname,
                reason,
            };
            if !subscription.send(logs_response::Item::Gap(gap)).await {
                return;
            }
        }
        if next.idle && !(subscription.follow && subscription.target.goes_on(&world)) {
            return;
        }
        let pause = next.at_ns.map_or(PAUSE_MAX, |at| {
            Duration::from_nanos(at.saturating_sub(now_ns)).min(PAUSE_MAX)
        });
        let _ = tokio::time::timeout(pause, subscription.changed.notified()).await;
    }
}
