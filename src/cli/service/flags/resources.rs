//! What a task needs and may take.

use skep_proto::v1::TaskSpec;

use super::set;
use crate::cli::parse;

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Resources and placement")]
pub struct Flags {
    /// CPUs that it may take
    #[arg(long, value_name = "CPUS", value_parser = parse::cpus)]
    limit_cpu: Option<i64>,
    /// Memory that it may take
    #[arg(long, value_name = "BYTES", value_parser = parse::size)]
    limit_memory: Option<i64>,
    /// Processes that it may have; 0 for no limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    limit_pids: Option<i64>,
    /// CPUs that its node keeps free for it
    #[arg(long, value_name = "CPUS", value_parser = parse::cpus)]
    reserve_cpu: Option<i64>,
    /// Memory that its node keeps free for it
    #[arg(long, value_name = "BYTES", value_parser = parse::size)]
    reserve_memory: Option<i64>,
    /// Most tasks of the service on one node; 0 for no limit
    #[arg(long, value_name = "N")]
    replicas_max_per_node: Option<u64>,
}

impl Flags {
    pub(super) fn apply(&self, task: &mut TaskSpec) {
        if self.limit_cpu.is_some() || self.limit_memory.is_some() || self.limit_pids.is_some() {
            let limits = task
                .resources
                .get_or_insert_default()
                .limits
                .get_or_insert_default();
            set(&mut limits.nano_cpus, self.limit_cpu.as_ref());
            set(&mut limits.memory_bytes, self.limit_memory.as_ref());
            set(&mut limits.pids, self.limit_pids.as_ref());
        }
        if self.reserve_cpu.is_some() || self.reserve_memory.is_some() {
            let reservations = task
                .resources
                .get_or_insert_default()
                .reservations
                .get_or_insert_default();
            set(&mut reservations.nano_cpus, self.reserve_cpu.as_ref());
            set(&mut reservations.memory_bytes, self.reserve_memory.as_ref());
        }
        if let Some(max) = self.replicas_max_per_node {
            task.placement.get_or_insert_default().max_replicas = max;
        }
    }
}
