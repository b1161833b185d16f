//! `skep swarm update`

use skep_proto::Error;
use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{ClusterSpec, UpdateCluster};

use crate::cli::{CommandError, CommandResult, Session, parse};
use crate::ui::Ui;

/// Settings of a swarm, for `init` and `update`.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Task records kept per slot, the live one included; negative keeps all
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
    /// How often a worker says that it lives
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    dispatcher_heartbeat: Option<i64>,
    /// How long node certificates live
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    cert_expiry: Option<i64>,
}

impl Settings {
    /// Whether anything was set.
    pub fn is_empty(&self) -> bool {
        self.task_history_limit.is_none()
            && self.dispatcher_heartbeat.is_none()
            && self.cert_expiry.is_none()
    }

    /// Changes what was set.
    pub fn apply(&self, spec: &mut ClusterSpec) {
        spec.task_history_limit = self.task_history_limit.or(spec.task_history_limit);
        spec.heartbeat_period_ns = self.dispatcher_heartbeat.or(spec.heartbeat_period_ns);
        spec.node_cert_expiry_ns = self.cert_expiry.or(spec.node_cert_expiry_ns);
    }
}

/// Change the swarm's settings
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    if args.settings.is_empty() {
        return Err(CommandError::usage(
            Error::invalid("swarm update", "nothing to change was given")
                .hint("for example skep swarm update --task-history-limit 2"),
        ));
    }
    let client = session.client().await?;
    let cluster = client.cluster().await?;
    let mut spec = cluster.spec.clone().unwrap_or_default();
    args.settings.apply(&mut spec);
    let response = client
        .write(Verb::UpdateCluster(UpdateCluster {
            version: cluster.meta().version,
            spec: Some(spec),
            ..UpdateCluster::default()
        }))
        .await?;
    for warning in &response.warnings {
        ui.warning(warning);
    }
    ui.line("Swarm updated.")?;
    Ok(())
}
