//! What happens when a task ends.

use skep_proto::names::Words;
use skep_proto::v1::{RestartCondition, TaskSpec};

use super::set;
use crate::cli::parse;

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Restart")]
pub struct Flags {
    /// When a task is replaced: none, on-failure or any [default: any]
    #[arg(long, value_name = "WORD", value_parser = condition)]
    restart_condition: Option<RestartCondition>,
    /// Time until its replacement starts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    restart_delay: Option<i64>,
    /// Most replacements; 0 for no limit
    #[arg(long, value_name = "N")]
    restart_max_attempts: Option<u64>,
    /// Time in which replacements count towards the most; 0 for ever
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    restart_window: Option<i64>,
}

fn condition(word: &str) -> Result<RestartCondition, String> {
    RestartCondition::from_word(word)
        .ok_or_else(|| format!("expected one of {}", RestartCondition::all_words()))
}

impl Flags {
    pub(super) fn apply(&self, task: &mut TaskSpec) {
        let any = self.restart_condition.is_some()
            || self.restart_delay.is_some()
            || self.restart_max_attempts.is_some()
            || self.restart_window.is_some();
        if !any {
            return;
        }
        let policy = task.restart.get_or_insert_default();
        if let Some(condition) = self.restart_condition {
            policy.set_condition(condition);
        }
        policy.delay_ns = self.restart_delay.or(policy.delay_ns);
        set(&mut policy.max_attempts, self.restart_max_attempts.as_ref());
        set(&mut policy.window_ns, self.restart_window.as_ref());
    }
}
