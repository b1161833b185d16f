//! What the container is like.

use skep_proto::v1::TaskSpec;

use super::set;
use crate::cli::parse::{self, Pair};

/// A command in words.
#[derive(Debug, Clone)]
pub struct Command(pub Vec<String>);

/// Words as a shell splits them.
pub fn command(text: &str) -> Result<Command, String> {
    parse::words(text).map(Command)
}

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Container")]
pub struct Flags {
    /// Command that replaces the image's entrypoint, in words as a shell splits them
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    entrypoint: Option<Command>,
    /// Hostname in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// User or UID, with group or GID after a colon
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Allocate a terminal
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    tty: Option<bool>,
    /// Mount the container's root file system read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    read_only: Option<bool>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    init: Option<bool>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Time to stop before it is killed [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    stop_grace_period: Option<i64>,
    /// Logging driver
    #[arg(long, value_name = "NAME")]
    log_driver: Option<String>,
    /// Option of the logging driver (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    log_opt: Vec<Pair>,
}

impl Flags {
    pub(super) fn apply(&self, task: &mut TaskSpec) {
        if self.log_driver.is_some() || !self.log_opt.is_empty() {
            let driver = task.log_driver.get_or_insert_default();
            set(&mut driver.name, self.log_driver.as_ref());
            if self.log_driver.is_some() {
                // Options of another driver mean nothing to this one.
                driver.options.clear();
            }
            driver.options.extend(self.log_opt.iter().cloned());
        }
        let container = task.container.get_or_insert_default();
        set(
            &mut container.command,
            self.entrypoint.as_ref().map(|c| &c.0),
        );
        set(&mut container.hostname, self.hostname.as_ref());
        set(&mut container.user, self.user.as_ref());
        set(&mut container.dir, self.workdir.as_ref());
        set(&mut container.tty, self.tty.as_ref());
        set(&mut container.read_only, self.read_only.as_ref());
        container.init = self.init.or(container.init);
        set(&mut container.stop_signal, self.stop_signal.as_ref());
        container.stop_grace_period_ns = self.stop_grace_period.or(container.stop_grace_period_ns);
    }
}
