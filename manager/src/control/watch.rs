//! The stream of a watcher: events from the applied feed and from changes of the
//! leader, and a plain word when some were missed.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, Stream};
use skep_proto::Result;
use skep_proto::v1::{Event, WatchRequest};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use super::call::now_ns;
use super::read::{EventFilter, Happened, events, leader_events};
use super::stream::stopping;
use crate::seam::{Follow, Leadership};
use crate::state::Applied;

/// One watcher's place in the feed.
pub(super) struct Watcher {
    follow: Arc<dyn Follow>,
    applied: broadcast::Receiver<Arc<Applied>>,
    leadership: watch::Receiver<Leadership>,
    leader: String,
    filter: EventFilter,
    ready: VecDeque<Event>,
}

impl Watcher {
    /// Begins to listen at once: what is committed after the call is not missed.
    pub fn new(
        follow: Arc<dyn Follow>,
        self_node_id: &str,
        request: &WatchRequest,
    ) -> Result<Self> {
        let applied = follow.applied();
        let mut leadership = follow.leadership();
        let leader = leader_of(&leadership.borrow_and_update());
        let filter = EventFilter::new(
            &follow.world(),
            self_node_id,
            &request.filters,
            request.tasks,
        )?;
        Ok(Self {
            follow,
            applied,
            leadership,
            leader,
            filter,
            ready: VecDeque::new(),
        })
    }

    /// The events, until this manager stops.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event>> + Send + 'static {
        stream::unfold(Some(self), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(event) => Some((Ok(event), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            tokio::select! {
                biased;
                applied = self.applied.recv() => match applied {
                    Ok(applied) => self.take(events(&applied)),
                    Err(RecvError::Lagged(missed)) => return Ok(self.gap(missed)),
                    Err(RecvError::Closed) => return Err(stopping()),
                },
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        return Err(stopping());
                    }
                    self.leader_changed();
                }
            }
        }
    }

    fn take(&mut self, happened: impl IntoIterator<Item = Happened>) {
        for happened in happened {
            if self.filter.wants(&happened) {
                self.ready.push_back(happened.event);
            }
        }
    }

    /// The one event that says that others are missing.
    fn gap(&self, missed: u64) -> Event {
        Event {
            at_ns: now_ns(),
            version: self.follow.world().version(),
            missed,
            ..Event::default()
        }
    }

    fn leader_changed(&mut self) {
        let new = leader_of(&self.leadership.borrow_and_update());
        // Between two leaders there is none: what counts is who follows whom.
        if new.is_empty() || new == self.leader {
            return;
        }
        let happened = leader_events(&self.follow.world(), &self.leader, &new, now_ns());
        self.leader = new;
        self.take(happened);
    }
}

fn leader_of(leadership: &Leadership) -> String {
    leadership
        .leader
        .as_ref()
        .map(|l| l.node_id.clone())
        .unwrap_or_default()
}
