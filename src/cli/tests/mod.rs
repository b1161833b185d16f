//! The command line as a whole: its help, and what it says to a manager.

mod fake;
mod help;
mod remote;
mod stories;
