//! How an update, or the way back from one, goes from task to task.

use skep_proto::names::Words;
use skep_proto::v1::{FailureAction, UpdateConfig, UpdateOrder};

use super::set;
use crate::cli::parse;

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Update")]
pub struct Update {
    /// Tasks that are replaced at once; 0 for all [default: 1]
    #[arg(long, value_name = "N")]
    update_parallelism: Option<u64>,
    /// Time between one task and the next
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    update_delay: Option<i64>,
    /// What a failure leads to: pause, continue or rollback [default: pause]
    #[arg(long, value_name = "WORD", value_parser = update_action)]
    update_failure_action: Option<FailureAction>,
    /// Share of tasks that may fail
    #[arg(long, value_name = "RATIO", value_parser = parse::ratio)]
    update_max_failure_ratio: Option<f64>,
    /// Time after a task runs in which its end is a failure [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    update_monitor: Option<i64>,
    /// Which of two tasks goes first: stop-first or start-first [default: stop-first]
    #[arg(long, value_name = "WORD", value_parser = order)]
    update_order: Option<UpdateOrder>,
}

impl Update {
    pub(super) fn apply(&self, config: &mut Option<UpdateConfig>) {
        Values {
            parallelism: self.update_parallelism,
            delay_ns: self.update_delay,
            failure_action: self.update_failure_action,
            max_failure_ratio: self.update_max_failure_ratio,
            monitor_ns: self.update_monitor,
            order: self.update_order,
        }
        .apply(config);
    }
}

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Rollback")]
pub struct Rollback {
    /// Tasks that are taken back at once; 0 for all [default: 1]
    #[arg(long, value_name = "N")]
    rollback_parallelism: Option<u64>,
    /// Time between one task and the next
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    rollback_delay: Option<i64>,
    /// What a failure leads to: pause or continue [default: pause]
    #[arg(long, value_name = "WORD", value_parser = rollback_action)]
    rollback_failure_action: Option<FailureAction>,
    /// Share of tasks that may fail
    #[arg(long, value_name = "RATIO", value_parser = parse::ratio)]
    rollback_max_failure_ratio: Option<f64>,
    /// Time after a task runs in which its end is a failure [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    rollback_monitor: Option<i64>,
    /// Which of two tasks goes first: stop-first or start-first [default: stop-first]
    #[arg(long, value_name = "WORD", value_parser = order)]
    rollback_order: Option<UpdateOrder>,
}

impl Rollback {
    pub(super) fn apply(&self, config: &mut Option<UpdateConfig>) {
        Values {
            parallelism: self.rollback_parallelism,
            delay_ns: self.rollback_delay,
            failure_action: self.rollback_failure_action,
            max_failure_ratio: self.rollback_max_failure_ratio,
            monitor_ns: self.rollback_monitor,
            order: self.rollback_order,
        }
        .apply(config);
    }
}

fn update_action(word: &str) -> Result<FailureAction, String> {
    FailureAction::from_word(word)
        .ok_or_else(|| format!("expected one of {}", FailureAction::all_words()))
}

fn rollback_action(word: &str) -> Result<FailureAction, String> {
    match FailureAction::from_word(word) {
        Some(FailureAction::Rollback) => Err("a rollback is not rolled back again".into()),
        Some(action) => Ok(action),
        None => Err("expected one of pause, continue".into()),
    }
}

fn order(word: &str) -> Result<UpdateOrder, String> {
    UpdateOrder::from_word(word)
        .ok_or_else(|| format!("expected one of {}", UpdateOrder::all_words()))
}

/// What was given of either.
#[derive(Debug, Default, PartialEq)]
struct Values {
    parallelism: Option<u64>,
    delay_ns: Option<i64>,
    failure_action: Option<FailureAction>,
    max_failure_ratio: Option<f64>,
    monitor_ns: Option<i64>,
    order: Option<UpdateOrder>,
}

impl Values {
    fn apply(&self, config: &mut Option<UpdateConfig>) {
        if *self == Self::default() {
            return;
        }
        let config = config.get_or_insert_with(|| UpdateConfig {
            // Where the message is there, 0 means all at once.
            parallelism: 1,
            ..UpdateConfig::default()
        });
        set(&mut config.parallelism, self.parallelism.as_ref());
        set(&mut config.delay_ns, self.delay_ns.as_ref());
        if let Some(action) = self.failure_action {
            config.set_failure_action(action);
        }
        set(
            &mut config.max_failure_ratio,
            self.max_failure_ratio.as_ref(),
        );
        config.monitor_ns = self.monitor_ns.or(config.monitor_ns);
        if let Some(order) = self.order {
            config.set_order(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flag_does_not_turn_one_at_a_time_into_all_at_once() {
        let mut config = None;
        Values::default().apply(&mut config);
        assert_eq!(config, None, "nothing given, nothing made");
        Values {
            delay_ns: Some(3),
            ..Values::default()
        }
        .apply(&mut config);
        let made = config.unwrap();
        assert_eq!((made.parallelism, made.delay_ns), (1, 3));
        Values {
            parallelism: Some(0),
            ..Values::default()
        }
        .apply(&mut config);
        assert_eq!(config.unwrap().parallelism, 0);
    }

    #[test]
    fn a_rollback_cannot_roll_back() {
        assert!(rollback_action("rollback").is_err());
        assert_eq!(update_action("rollback"), Ok(FailureAction::Rollback));
        assert!(order("first").is_err());
    }
}
