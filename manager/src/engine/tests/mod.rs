//! The rules, one test each, told with a small swarm.

mod orchestrate;
