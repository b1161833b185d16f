//! The room as a whole: real streams over TLS against a World in memory.

mod liveness;
mod logs;
mod session;
