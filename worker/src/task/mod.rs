//! Tasks on this host: a pure state machine for each (`machine`), the board
//! where their newest statuses stand until the leader has them ([`Board`]), and
//! the set that drives them all over a runtime ([`Tasks`]).

mod board;
mod machine;
mod set;
mod watch;

pub use board::Board;
pub use set::{Tasks, TasksHandle};
