//! The connection to a Docker Engine: made when needed, made again after the
//! engine went away, and a deadline on every call.

use std::future::Future;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::Mutex;

use crate::runtime::{Result, RuntimeError};

/// Bollard's own limit on the wait for a response's head; ours are shorter
/// except for stops with a long grace.
const HEAD_TIMEOUT_S: u64 = 24 * 3600;
/// For finding out which version the engine speaks.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an engine is, and the client for it while it is there.
#[derive(Debug)]
pub struct Client {
    socket: String,
    docker: Mutex<Option<Docker>>,
}

impl Client {
    /// `socket`: `unix:///run/docker.sock`, or a path.
    pub fn new(socket: &str) -> Self {
        let socket = if socket.contains("://") {
            socket.to_owned()
        } else {
            format!("unix://{socket}")
        };
        Self {
            socket,
            docker: Mutex::new(None),
        }
    }

    /// `Docker Engine on unix:///run/docker.sock`.
    pub fn name(&self) -> String {
        format!("Docker Engine on {}", self.socket)
    }

    /// The client, connected and speaking the engine's version of the API.
    pub async fn docker(&self) -> Result<Docker> {
        let mut kept = self.docker.lock().await;
        if let Some(docker) = kept.as_ref() {
            return Ok(docker.clone());
        }
        let connect = async {
            Docker::connect_with_unix(&self.socket, HEAD_TIMEOUT_S, API_DEFAULT_VERSION)?
                .negotiate_version()
                .await
        };
        let docker = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|e| self.error(e))?,
            Err(_) => return Err(self.silent(CONNECT_TIMEOUT)),
        };
        *kept = Some(docker.clone());
        Ok(docker)
    }

    /// Forgets what is known of the engine: it may come back as another version.
    pub async fn reset(&self) {
        *self.docker.lock().await = None;
    }

    /// Makes one call and waits for it no longer than `deadline`.
    pub async fn call<T, F, Fut>(&self, deadline: Duration, call: F) -> Result<T>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let docker = self.docker().await?;
        match tokio::time::timeout(deadline, call(docker)).await {
            Ok(answer) => answer.map_err(|e| self.error(e)),
            Err(_) => Err(self.silent(deadline)),
        }
    }

    fn silent(&self, deadline: Duration) -> RuntimeError {
        RuntimeError::Unavailable(format!(
            "the {} does not answer (waited {} s)",
            self.name(),
            deadline.as_secs()
        ))
    }

    /// What an error of the engine means for a task.
    pub fn error(&self, error: bollard::errors::Error) -> RuntimeError {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => self.answer(status_code, message.trim().to_owned()),
            Error::SocketNotFoundError(_) => RuntimeError::Unavailable(format!(
                "there is no {}: start it, or name its socket",
                self.name()
            )),
            Error::DockerStreamError { error } => RuntimeError::Refused(error),
            // What the engine said cannot be read: asking again gives the same.
            Error::JsonDataError { message, .. } => RuntimeError::Refused(format!(
                "the {} answered something unknown: {message}",
                self.name()
            )),
            other => RuntimeError::Unavailable(format!(
                "the {} cannot be asked: {}",
                self.name(),
                innermost(&other)
            )),
        }
    }

    fn answer(&self, status: u16, message: String) -> RuntimeError {
        match status {
            404 if message.contains("No such image") || message.contains("no such image") => {
                RuntimeError::NoSuchImage(message)
            }
            404 if message.contains("container") => RuntimeError::NotFound(message),
            409 => RuntimeError::Conflict(message),
            503 => {
                RuntimeError::Unavailable(format!("the {} is not ready: {message}", self.name()))
            }
            // The engine is going down or coming up around the call.
            500 if ["shutting down", "context canceled", "transport is closing"]
                .iter()
                .any(|sign| message.contains(sign)) =>
            {
                RuntimeError::Unavailable(format!("the {} is going away: {message}", self.name()))
            }
            _ => RuntimeError::Refused(message),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_whether_to_look_wait_or_give_up() {
        let client = Client::new("/run/d.sock");
        let kinds = [
            (404, "No such image: nginx:1", "image"),
            (404, "No such container: web.1.t", "missing"),
            (
                409,
                "Conflict. The container name \"/x\" is already in use",
                "conflict",
            ),
            (503, "starting", "unavailable"),
            (
                500,
                "driver failed programming external connectivity",
                "refused",
            ),
            (400, "invalid mount config", "refused"),
        ];
        for (status, message, kind) in kinds {
            let got = match client.answer(status, message.to_owned()) {
                RuntimeError::NoSuchImage(_) => "image",
                RuntimeError::NotFound(_) => "missing",
                RuntimeError::Conflict(_) => "conflict",
                RuntimeError::Unavailable(_) => "unavailable",
                RuntimeError::Refused(_) => "refused",
            };
            assert_eq!(got, kind, "{status} {message}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_said_to_be_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(folder.path().join("none.sock").to_str().unwrap());
        let error = client.docker().await.unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Unavailable(m) if m.contains("none.sock")),
            "{error:?}"
        );
    }
}
