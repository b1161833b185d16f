//! The rules, one test each, told with a small swarm.

mod adopt;
mod cost;
mod explain;
mod orchestrate;
mod reap;
mod restart;
mod schedule;
mod update;
