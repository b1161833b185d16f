//! A host's own identity: its certificate on disk, how it joins a swarm, and how
//! it renews while it runs.
//!
//! Invariant: the private key is made here and never leaves this host.

pub mod files;
mod join;
mod renew;
mod request;

pub use files::CertificateFiles;
pub use join::{DEFAULT_PORT, Joined, join, with_port};
pub use renew::Renewer;
