//! The World: everything that the swarm knows, and the one way in which it
//! changes. The same on every manager, since [`World::apply`] is deterministic:
//! times and ids come with the transaction, tables are in key order.
//!
//! Invariant: nothing here reads a clock, does I/O, waits, or draws a random
//! number; and nothing here decides what *should* happen.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod apply;
mod check;
pub mod cluster;
mod index;
pub mod invariants;
pub mod node;
mod record;
pub mod seed;
pub mod service;
mod world;

pub use apply::{Applied, Changed};
pub use index::SlotKey;
pub use seed::Seed;
pub use world::{OUTCOMES_MAX, World};

/// Unix time or a duration in nanoseconds.
pub type Nanos = i64;
