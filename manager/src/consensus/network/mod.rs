//! Between managers: connections that are kept, Raft's calls as a client and as
//! a server, and the links that tell of a death.

mod client;
mod link;
mod peers;
mod server;

pub(super) use client::Network;
pub(super) use link::keep_links;
pub(super) use peers::{Lane, Peers};
pub use server::RaftService;

/// Largest message that is sent or taken: about a MiB of entries, one entry of
/// any size beyond that, and room for the rest.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
