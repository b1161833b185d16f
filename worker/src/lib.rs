//! What a worker is: it holds a session with the leader, runs what it is told
//! to run, and says how that goes. Knows no manager: only the words in
//! `skep_proto` that managers speak.
//!
//! - [`Worker`]: one worker, started and stopped as a whole.
//! - `session`: finds the leader, keeps one stream to it, proves that it lives.
//! - `task`: a small state machine per task, and the set of them.
//! - [`identity`]: how a host becomes a node, and stays one.
//! - [`runtime`]: what runs containers: a Docker Engine, or a simulation.
//! - `store`: what survives a restart of the agent.
//! - `logs`: lines of containers, published when somebody asks.

// The lists in `clippy.toml` are for the pure rooms of the manager.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod identity;
pub mod runtime;

mod clock;
mod config;
mod describe;
mod logs;
mod session;
mod store;
mod task;
mod worker;

pub use config::{Heartbeats, WorkerConfig, WorkerStatus};
pub use describe::without_engine;
pub use worker::Worker;
