//! What a Skep manager is. See `ARCHITECTURE.md` for the map.
//!
//! [`state`] and `engine` are pure: no clock, no I/O, no async, no randomness
//! of their own. Everything else is an edge.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod consensus;
pub mod control;
pub mod dispatch;
pub mod engine;
mod enter;
pub mod identity;
pub mod manager;
mod proposer;
mod roles;
pub mod seam;
pub mod state;
