//! What a Skep worker is. See `ARCHITECTURE.md` for the map.
//!
//! Knows no manager but by what it is told over the wire.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod identity;
