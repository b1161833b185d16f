//! A node's stream of lines, on its way to the reader.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::LogsPublished;
use skep_proto::{Error, Result};
use tonic::{Status, Streaming};

use super::book::Outcome;
use super::subscription::Subscription;
use crate::dispatch::ending::not_leader;
use crate::dispatch::reign::Reign;
use crate::dispatch::roster::Clock;

/// The first message says what the stream is.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// A node that follows nothing and sends nothing for so long is missing.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Takes what a node publishes, no faster than the reader does. Ends well when
/// nobody reads it any more.
pub async fn publish(
    reign: &Arc<Reign>,
    node_id: &str,
    mut inbound: Streaming<LogsPublished>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_TIMEOUT, inbound.message());
    let Some(mut message) = first.await.map_err(|_| {
        Status::from(Error::invalid(
            "subscription_id",
            format!("no first message within {FIRST_TIMEOUT:?}"),
        ))
    })??
    else {
        return Ok(());
    };
    let part = message.subscription_id.clone();
    let Some(subscription) = reign.logs.find(&part) else {
        return Ok(());
    };
    if !subscription.book().begin(&part, node_id) {
        return Ok(());
    }
    let mut stream = Open {
        subscription: &subscription,
        part: &part,
        outcome: Outcome::Broken,
        clock: reign.shared.clock,
    };
    loop {
        let ended = tokio::select! {
            biased;
            () = reign.token.cancelled() => return Err(not_leader(&reign.shared.leadership())),
            () = subscription.done.cancelled() => return Ok(()),
            ended = take(reign, &subscription, &part, message) => ended,
        };
        if ended {
            stream.outcome = Outcome::Complete;
            return Ok(());
        }
        let next = tokio::select! {
            biased;
            () = reign.token.cancelled() => return Err(not_leader(&reign.shared.leadership())),
            () = subscription.done.cancelled() => return Ok(()),
            next = next(&mut inbound, subscription.follow) => next,
        };
        match next {
            Ok(Some(more)) => message = more,
            Ok(None) => return Ok(()),
            Err(why) => {
                stream.outcome = Outcome::Missing(why);
                return Ok(());
            }
        }
    }
}

/// Relays one message; whether it was the last one that is wanted.
async fn take(
    reign: &Reign,
    subscription: &Subscription,
    part: &str,
    message: LogsPublished,
) -> bool {
    if !message.error.is_empty() {
        subscription.book().complain(part, &message.error);
        subscription.changed.notify_one();
    }
    let world = reign.shared.follow.world();
    let read = subscription.relay(&world, part, message.lines).await;
    !read || message.end || !subscription.book().is_active(part)
}

/// The next message; `None` when the stream ended before it said so. An error
/// when it goes on but nothing comes.
async fn next(
    inbound: &mut Streaming<LogsPublished>,
    follow: bool,
) -> Result<Option<LogsPublished>, String> {
    let message = if follow {
        inbound.message().await
    } else {
        match tokio::time::timeout(SILENCE_MAX, inbound.message()).await {
            Ok(message) => message,
            Err(_) => return Err(format!("it sent nothing for {SILENCE_MAX:?}")),
        }
    };
    Ok(message.unwrap_or_default())
}

/// Closes the part in the books whatever ends the stream.
struct Open<'a> {
    subscription: &'a Subscription,
    part: &'a str,
    outcome: Outcome,
    clock: Clock,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Broken);
        self.subscription
            .book()
            .end(self.part, outcome, self.clock.now_ns());
        self.subscription.changed.notify_one();
    }
}
