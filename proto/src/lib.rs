//! The words that Skep's managers, workers and clients speak ([`v1`]), and the
//! mutual TLS that they speak them over ([`transport`]).
//!
//! Knows nobody: no manager, no worker, no command line.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

/// Messages and services of `proto/skep/v1/*.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]
pub mod v1 {
    tonic::include_proto!("skep.v1");
}

pub mod base36;
pub mod error;
pub mod names;
pub mod objects;
pub mod token;
pub mod transport;

pub use error::{Code, Error, Result};
