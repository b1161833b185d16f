//! Mutual TLS between everybody, with certificates that can be exchanged while
//! connections are open, and the caller's name and role read from its certificate.
//!
//! A certificate's subject follows Swarm: CN is the node's id, OU its role
//! (`swarm-manager`, `swarm-worker`, and our own `swarm-operator`), O the
//! cluster's id. Its DNS names hold the OU, which is what a client checks.

mod credentials;
mod dial;
mod peer;
mod serve;
mod socket;
#[cfg(test)]
mod tests;

pub use credentials::{CredentialError, Credentials};
pub use dial::{DialOptions, Trust, dial, dial_lazy};
pub use peer::{CERT_BACKDATE_NS, Caller, Peer, PeerInfo, PeerRole, caller, validity_ns};
pub use serve::{AcceptOptions, TlsConnection, accept, accept_with};
