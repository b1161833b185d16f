//! How a command ends.

use std::io;

use skep_proto::Error;

/// The process's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Refused, invalid, not there, not reachable.
    Failed = 1,
    /// The command line is not understood.
    Usage = 2,
    /// Accepted, but some tasks have no node to run on.
    NotPlaced = 3,
    /// Accepted, but not all tasks run: in time, or because the update paused.
    NotConverged = 4,
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub struct CommandError {
    /// The process's exit status.
    pub exit: Exit,
    /// What to say; `None` when all has been said.
    pub error: Option<Error>,
}

/// What every command returns.
pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    /// An ending of its own kind.
    pub fn new(exit: Exit, error: Error) -> Self {
        Self {
            exit,
            error: Some(error),
        }
    }

    /// Flags or arguments that do not go together.
    pub fn usage(error: Error) -> Self {
        Self::new(Exit::Usage, error)
    }

    /// All has been said already.
    pub fn said(exit: Exit) -> Self {
        Self { exit, error: None }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<io::Error> for CommandError {
    /// Output that cannot be written. Whoever closed the pipe has seen enough.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::said(Exit::Ok);
        }
        Self::from(Error::internal(format!("cannot write the output: {error}")))
    }
}
