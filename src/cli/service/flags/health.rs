//! How a container says that it is well.

use skep_proto::v1::HealthCheck;
use skep_proto::{Error, Result};

use super::set;
use crate::cli::parse;

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Health")]
pub struct Flags {
    /// Command that tells whether the container is well; a shell runs it
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    health_interval: Option<i64>,
    /// Time that a check may take
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    health_timeout: Option<i64>,
    /// Failed checks in a row until it is unhealthy
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    health_retries: Option<i64>,
    /// Time to start in which failed checks do not count
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    health_start_period: Option<i64>,
    /// Time between checks while it starts
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    health_start_interval: Option<i64>,
    /// Switch off the image's own check
    #[arg(long)]
    no_healthcheck: bool,
}

impl Flags {
    pub(super) fn apply(&self, health: &mut Option<HealthCheck>) -> Result<()> {
        let any = self.health_cmd.is_some()
            || self.health_interval.is_some()
            || self.health_timeout.is_some()
            || self.health_retries.is_some()
            || self.health_start_period.is_some()
            || self.health_start_interval.is_some();
        if self.no_healthcheck {
            if any {
                return Err(Error::invalid(
                    "--no-healthcheck",
                    "conflicts with --health-* options",
                ));
            }
            *health = Some(HealthCheck {
                test: vec!["NONE".into()],
                ..HealthCheck::default()
            });
            return Ok(());
        }
        if !any {
            return Ok(());
        }
        let health = health.get_or_insert_default();
        if let Some(command) = &self.health_cmd {
            // An empty command goes back to the image's own check.
            health.test = match command.is_empty() {
                true => Vec::new(),
                false => vec!["CMD-SHELL".into(), command.clone()],
            };
        } else if health.test.first().is_some_and(|t| t == "NONE") {
            health.test.clear();
        }
        set(&mut health.interval_ns, self.health_interval.as_ref());
        set(&mut health.timeout_ns, self.health_timeout.as_ref());
        set(&mut health.retries, self.health_retries.as_ref());
        set(
            &mut health.start_period_ns,
            self.health_start_period.as_ref(),
        );
        set(
            &mut health.start_interval_ns,
            self.health_start_interval.as_ref(),
        );
        Ok(())
    }
}
