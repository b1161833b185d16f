//! Every subscription of this reign, and how one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use skep_proto::v1::{LogsRequest, LogsResponse};
use skep_proto::{Code, Error, Result};
use tokio::sync::mpsc;

use super::Target;
use super::subscription::{self, Subscription};
use crate::dispatch::reign::Reign;

/// Subscriptions at once.
const SUBSCRIPTIONS_MAX: usize = 256;
/// Messages that may wait for the reader of one subscription.
pub(super) const WAITING_MAX: usize = 4;

/// The leader's subscriptions by serial.
#[derive(Debug, Default)]
pub struct Broker(Mutex<BTreeMap<u64, Arc<Subscription>>>);

impl Broker {
    /// Something may have changed for every subscription: a session began or ended.
    pub fn refresh_all(&self) {
        for subscription in self.lock().values() {
            subscription.changed.notify_one();
        }
    }

    /// Tasks of these services were placed or removed.
    pub fn refresh(&self, services: &BTreeSet<String>) {
        if services.is_empty() {
            return;
        }
        for subscription in self.lock().values() {
            let service_id = subscription.target.service_id();
            // A single task may be placed only now, too.
            if service_id.is_none_or(|id| services.contains(id)) {
                subscription.changed.notify_one();
            }
        }
    }

    /// The subscription that a part belongs to. Ids are `term.serial.part`.
    pub fn find(&self, part: &str) -> Option<Arc<Subscription>> {
        let serial = part.split('.').nth(1)?.parse().ok()?;
        self.lock().get(&serial).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Subscription>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to relay what is asked for; ends when the receiver is dropped.
pub(super) fn subscribe(
    reign: &Arc<Reign>,
    request: LogsRequest,
) -> Result<mpsc::Receiver<Result<LogsResponse>>> {
    let target = Target::resolve(&reign.shared.follow.world(), &request)?;
    let (out, responses) = mpsc::channel(WAITING_MAX);
    let serial = reign.shared.next_serial();
    let subscription = Arc::new(Subscription::new(reign.term, serial, request, target, out));
    {
        let mut subscriptions = reign.logs.lock();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Error::new(
                Code::Exhausted,
                format!("{SUBSCRIPTIONS_MAX} log streams are open already"),
            )
            .hint("end one of them and try again"));
        }
        subscriptions.insert(serial, subscription.clone());
    }
    let reign = reign.clone();
    tokio::spawn(async move {
        subscription::drive(&reign, &subscription).await;
        reign.logs.lock().remove(&serial);
    });
    Ok(responses)
}
