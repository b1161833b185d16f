//! The one binary: command line, daemon and drill. Knows manager and worker.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cli;
pub mod client;
pub mod daemon;
pub mod drill;
pub mod format;
pub mod shape;
pub mod ui;
