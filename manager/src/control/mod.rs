//! Where a request becomes a transaction, and a question an answer.
//!
//! [`verbs`] turn each write into changes (pure; the proposer calls
//! [`execute`]); [`read`] filters, fills in and makes events; [`ControlService`]
//! is the gRPC face over both. Every face of a manager is a thin layer over these two.
//!
//! Invariant: nothing else says what a verb means, and nothing here waits for
//! anything but the world and the leader.

mod call;
mod parts;
mod prepare;
mod quorum;
pub mod read;
pub mod redact;
pub mod resolve;
mod service;
mod stream;
#[cfg(test)]
mod tests;
pub mod verbs;
mod watch;

pub use parts::{EndManager, Logs, Members, Parts};
pub use service::ControlService;
pub use verbs::{Execution, execute};
