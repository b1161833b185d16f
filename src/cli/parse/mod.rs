//! What flags take: durations, sizes, mounts, ports. Each parser says what it
//! expected and shows an example; clap adds the flag's name.

mod mount;
mod number;
mod pairs;
mod port;
mod words;

pub use mount::mount;
pub use number::{cpus, duration, ratio, size};
pub use pairs::{HostEntry, Pair, Ulimit, env, filter, host_entry, key_value, ulimit};
pub use port::{PortSpec, port};
pub use words::words;

/// What clap shows beside the flag's name.
pub type Parsed<T> = Result<T, String>;
