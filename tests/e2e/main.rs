//! End to end: the `skep` binary on real hosts with real containers.
//!
//! A file per story. Every test makes hosts by [`lab::Lab`], acts as an operator
//! would, and looks at what `skep` says and at what the engines run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

mod lab;
mod view;
mod wait;

mod agents;
mod failover;
mod faults;
mod forming;
mod hosts;
mod identity;
mod logs;
mod refusals;
mod services;
