//! What goes into one entry: requests, what the engine makes of them, and the
//! answers to be given once it is committed. Pure but for the channels that the
//! answers wait in.

use prost::Message;
use skep_proto::v1::{Boundary, Change, Outcome, Transaction, WriteResponse, change};
use skep_proto::{Error, Result};
use tokio::sync::oneshot;

use super::Queued;
use crate::control;
use crate::engine::Engine;
use crate::state::{Nanos, Seed, World};

/// An entry takes no further request beyond this many bytes of changes. One
/// request's changes are never split.
const BATCH_BYTES_SOFT_MAX: usize = 512 << 10;

/// An answer that may be given once the entry is committed.
type Answer = (
    oneshot::Sender<Result<WriteResponse>>,
    Result<WriteResponse>,
);

/// An entry in the making.
pub(super) struct Batch {
    at_ns: Nanos,
    seed: Seed,
    /// The world after the changes so far.
    world: World,
    changes: Vec<Change>,
    outcomes: Vec<Outcome>,
    answers: Vec<Answer>,
    bytes: usize,
    requests: u64,
}

impl Batch {
    /// An empty entry on top of `world`.
    pub fn new(world: &World, at_ns: Nanos, seed: Seed) -> Self {
        Self {
            at_ns,
            seed,
            world: world.clone(),
            changes: Vec::new(),
            outcomes: Vec::new(),
            answers: Vec::new(),
            bytes: 0,
            requests: 0,
        }
    }

    /// Whether another request should wait for the next entry.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_SOFT_MAX
    }

    /// Adds what one request changes, or the answer that it already had.
    pub fn request(&mut self, queued: Queued, engine: &mut Engine) {
        let Queued { request, answer } = queued;
        if let Some(remembered) = self.remembered(&request.request_id) {
            self.answers.push((answer, remembered));
            return;
        }
        // Each request draws ids of its own, whatever else is in the entry.
        self.requests += 1;
        let seed = Seed(self.seed.0.wrapping_add(self.requests));
        match control::execute(&self.world, &request, self.at_ns, seed) {
            Ok(execution) => {
                let mut response = execution.response;
                self.step(execution.changes, engine);
                response.version = self.world.version();
                if !request.request_id.is_empty() {
                    self.outcomes.push(Outcome {
                        request_id: request.request_id,
                        response: response.encode_to_vec(),
                    });
                }
                self.answers.push((answer, Ok(response)));
            }
            Err(error) => self.answers.push((answer, Err(error))),
        }
    }

    /// Adds what the engine makes of the world as it is now, and says when it
    /// wants to be asked again.
    pub fn decide(&mut self, engine: &mut Engine) -> Option<Nanos> {
        let decision = engine.decide(&self.world, self.at_ns, self.seed);
        for reason in &decision.reasons {
            tracing::debug!(%reason, "decided");
        }
        self.step(decision.changes, engine);
        decision.wake_at
    }

    /// The entry, and the answers that wait for its commit.
    pub fn finish(self) -> (Transaction, Vec<Answer>) {
        let transaction = Transaction {
            at_ns: self.at_ns,
            changes: self.changes,
            outcomes: self.outcomes,
        };
        (transaction, self.answers)
    }

    fn step(&mut self, changes: Vec<Change>, engine: &mut Engine) {
        if changes.is_empty() {
            return;
        }
        self.bytes += changes.iter().map(Message::encoded_len).sum::<usize>();
        let step = Transaction {
            at_ns: self.at_ns,
            changes,
            outcomes: Vec::new(),
        };
        engine.observe(&self.world.apply(&step));
        if !self.changes.is_empty() {
            self.changes.push(Change {
                change: Some(change::Change::Boundary(Boundary {})),
            });
        }
        self.changes.extend(step.changes);
    }

    fn remembered(&self, request_id: &str) -> Option<Result<WriteResponse>> {
        if request_id.is_empty() {
            return None;
        }
        let in_this_entry = || self.outcomes.iter().find(|o| o.request_id == request_id);
        let bytes = match self.world.outcome(request_id) {
            Some(outcome) => &outcome.response,
            None => &in_this_entry()?.response,
        };
        Some(
            WriteResponse::decode(bytes.as_slice())
                .map_err(|e| Error::internal(format!("a remembered answer cannot be read: {e}"))),
        )
    }
}
