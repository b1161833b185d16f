//! One host's daemon: the worker that every node has, the manager that some
//! have, and the local socket over which this host is told to join or leave.
//!
//! Invariant: composes and decides nothing about the swarm; what the swarm
//! knows is asked of a manager.

mod active;
pub mod addr;
mod args;
mod cut;
mod files;
mod local;
mod node;
mod run;
mod socket;

pub use args::{Args, Settings};
pub use run::run;
