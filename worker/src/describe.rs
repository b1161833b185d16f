//! What this node is, for the scheduler and for people; asked again every so
//! often, and told when it changed.

use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::{EngineDescription, NodeDescription, Platform};
use tokio::sync::watch;

use crate::runtime::Runtime;

/// How often an engine that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The kernel's word for the architecture, such as `x86_64`.
pub fn architecture() -> String {
    nix::sys::utsname::uname()
        .ok()
        .and_then(|name| name.machine().to_str().map(str::to_owned))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The description of a node whose engine has not answered yet: no resources.
pub fn without_engine(hostname: &str, error: &str) -> NodeDescription {
    NodeDescription {
        hostname: hostname.to_owned(),
        platform: Some(Platform {
            architecture: architecture(),
            os: std::env::consts::OS.to_owned(),
        }),
        resources: None,
        engine: Some(EngineDescription {
            error: error.to_owned(),
            ..EngineDescription::default()
        }),
    }
}

/// Keeps `description` up to date until nobody reads it. `engine_error` wakes
/// it when the engine comes or goes. What an engine said it is stands while it
/// is away, together with why it is away.
pub async fn run<R: Runtime>(
    runtime: Arc<R>,
    description: watch::Sender<NodeDescription>,
    mut engine_error: watch::Receiver<String>,
    interval: Duration,
) {
    loop {
        let answer = runtime.describe().await;
        let wait = if answer.is_ok() { interval } else { RETRY };
        description.send_if_modified(|held| {
            let mut new = held.clone();
            match answer {
                Ok(facts) => {
                    new.engine = Some(facts.engine);
                    new.resources = Some(facts.resources);
                }
                Err(error) => {
                    new.engine.get_or_insert_default().error = error.to_string();
                }
            }
            let changed = *held != new;
            *held = new;
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = engine_error.changed() => if changed.is_err() { return },
            () = description.closed() => return,
        }
    }
}
