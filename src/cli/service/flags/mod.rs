//! Flags that `create` and `update` share: single values that replace what
//! was. Lists differ, since `update` adds to them and removes from them.

mod container;
mod health;
mod resources;
mod restart;
mod rollout;

pub use container::{Command, command};
use skep_proto::Result;
use skep_proto::v1::{ContainerSpec, ServiceSpec, TaskSpec};

/// All of them.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Common {
    #[command(flatten)]
    container: container::Flags,
    #[command(flatten)]
    health: health::Flags,
    #[command(flatten)]
    resources: resources::Flags,
    #[command(flatten)]
    restart: restart::Flags,
    #[command(flatten)]
    update: rollout::Update,
    #[command(flatten)]
    rollback: rollout::Rollback,
}

impl Common {
    /// Changes what was given.
    pub fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        self.update.apply(&mut spec.update);
        self.rollback.apply(&mut spec.rollback);
        let task = spec.task.get_or_insert_default();
        self.resources.apply(task);
        self.restart.apply(task);
        self.container.apply(task);
        self.health
            .apply(&mut task.container.get_or_insert_default().health)
    }
}

/// The container of a spec, made if it has none.
pub fn container(spec: &mut ServiceSpec) -> &mut ContainerSpec {
    task(spec).container.get_or_insert_default()
}

/// The task of a spec, made if it has none.
pub fn task(spec: &mut ServiceSpec) -> &mut TaskSpec {
    spec.task.get_or_insert_default()
}

/// Puts `value` where it is given.
fn set<T: Clone>(place: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        *place = value.clone();
    }
}
