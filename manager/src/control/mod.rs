//! Where a request becomes a transaction, and a question an answer.
//!
//! [`verbs`] turn each write into changes (pure; the proposer calls
//! [`execute`]); `read` resolves references, filters, hides secrets and makes
//! events. Every face of a manager is a thin layer over these two.
//!
//! Invariant: nothing else says what a verb means, and nothing here waits for
//! anything but the world and the leader.

pub mod redact;
pub mod resolve;
pub mod verbs;

pub use verbs::{Execution, execute};
