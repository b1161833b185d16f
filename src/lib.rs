//! The one binary: command line, daemon and drill. Knows manager and worker.

pub mod drill;
