//! Follows the engine: its events as they come, and whether it is there at all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::set::Input;
use crate::runtime::{Event, Runtime};

/// The first and the longest wait before an engine that went away is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often an engine that says nothing is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until the receiver of `inputs` is gone.
pub async fn watch<R: Runtime>(runtime: Arc<R>, inputs: mpsc::Sender<Input>) {
    let mut wait = RETRY.0;
    loop {
        match runtime.events().await {
            Ok(mut events) => {
                wait = RETRY.0;
                // What happened before is not told: look at everything once.
                if inputs.send(Input::Engine(None)).await.is_err() {
                    return;
                }
                let why = loop {
                    match tokio::time::timeout(PING_INTERVAL, events.next()).await {
                        Ok(Some(Event::Touched(task_id))) => {
                            if inputs.send(Input::Touched(task_id)).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => break format!("the {} went away", runtime.name()),
                        Err(_) => {
                            if let Err(error) = runtime.ping().await {
                                break error.to_string();
                            }
                        }
                    }
                };
                if inputs.send(Input::Engine(Some(why))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let why = Input::Engine(Some(error.to_string()));
                if inputs.send(why).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inputs.closed() => return,
        }
        wait = (wait * 2).min(RETRY.1);
    }
}
