//! Fetching images: one pull per image at a time, however many tasks wait for
//! it, told about in percent, and given up when nothing moves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::Client;
use crate::runtime::{Progress, Result, RuntimeError};

/// A pull that says nothing for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);
/// A pull is given up after this, whatever it says.
const PULL_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
enum State {
    Under(String),
    Done(Result<()>),
}

type Key = (String, String);

/// The pulls under way.
#[derive(Debug, Default, Clone)]
pub struct Pulls {
    under_way: Arc<Mutex<HashMap<Key, Arc<watch::Sender<State>>>>>,
}

impl Pulls {
    /// Fetches `image`, or waits for somebody else's fetch of it. `auth` is the
    /// base64 JSON of Docker's `X-Registry-Auth`. When nobody waits any more,
    /// the pull ends.
    pub async fn pull(
        &self,
        client: &Arc<Client>,
        image: &str,
        auth: &str,
        progress: Progress,
    ) -> Result<()> {
        let credentials = credentials(auth)?;
        let mut state = self.join(client, image, auth, credentials);
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Done(result) => return result,
                State::Under(text) => progress(text),
            }
            if state.changed().await.is_err() {
                return Err(RuntimeError::Unavailable(format!(
                    "the pull of {image} was interrupted"
                )));
            }
        }
    }

    fn join(
        &self,
        client: &Arc<Client>,
        image: &str,
        auth: &str,
        credentials: Option<DockerCredentials>,
    ) -> watch::Receiver<State> {
        let key = (image.to_owned(), auth.to_owned());
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = under_way.get(&key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(State::Under(format!("pulling {image}")));
        let sender = Arc::new(sender);
        under_way.insert(key.clone(), sender.clone());
        let (pulls, client) = (self.clone(), client.clone());
        tokio::spawn(async move {
            let run = run(&client, &key.0, credentials, &sender);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    result = &mut run => {
                        pulls.forget(&key, false);
                        sender.send_replace(State::Done(result));
                        return;
                    }
                    () = sender.closed() => {
                        // Somebody may have joined since.
                        if pulls.forget(&key, true) {
                            return;
                        }
                    }
                }
            }
        });
        receiver
    }

    /// Whether the entry is gone; with `if_unwanted`, only when nobody waits.
    fn forget(&self, key: &Key, if_unwanted: bool) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = under_way.get(key).is_some_and(|s| s.receiver_count() > 0);
        if if_unwanted && wanted {
            return false;
        }
        under_way.remove(key);
        true
    }
}

async fn run(
    client: &Client,
    image: &str,
    credentials: Option<DockerCredentials>,
    state: &watch::Sender<State>,
) -> Result<()> {
    let docker = client.docker().await?;
    let options = CreateImageOptionsBuilder::default()
        .from_image(&with_tag(image))
        .build();
    let failed = |why: String| {
        RuntimeError::Refused(format!(
            "image {image} is not on this host and cannot be pulled: {why}; check the image's \
             name and the registry, give credentials with --with-registry-auth, or load the \
             image into this host's engine"
        ))
    };
    let end = Instant::now() + PULL_MAX;
    let mut stream = std::pin::pin!(docker.create_image(Some(options), None, credentials));
    let mut layers = Layers::default();
    loop {
        let wait = (Instant::now() + STALL_MAX).min(end);
        match tokio::time::timeout_at(wait, stream.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(info))) => {
                let text = match layers.add(info) {
                    Some(percent) => format!("pulling {image}: {percent} %"),
                    None => format!("pulling {image}"),
                };
                state.send_if_modified(|s| match s {
                    State::Under(old) if *old != text => {
                        *old = text;
                        true
                    }
                    _ => false,
                });
            }
            Ok(Some(Err(error))) => {
                return Err(match client.error(error) {
                    RuntimeError::Unavailable(why) => RuntimeError::Unavailable(why),
                    other => failed(other.to_string()),
                });
            }
            Err(_) if Instant::now() >= end => {
                return Err(failed(format!("not done after {} s", PULL_MAX.as_secs())));
            }
            Err(_) => {
                return Err(failed(format!(
                    "nothing came for {} s",
                    STALL_MAX.as_secs()
                )));
            }
        }
    }
}

/// The engine pulls every tag of an image that names none.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Bytes of each layer, to make one percentage of them.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (i64, i64)>);

impl Layers {
    fn add(&mut self, info: CreateImageInfo) -> Option<i64> {
        if let (Some(id), Some(detail)) = (info.id, info.progress_detail)
            && info.status.as_deref() == Some("Downloading")
            && let (Some(current), Some(total)) = (detail.current, detail.total)
            && total > 0
        {
            self.0.insert(id, (current.clamp(0, total), total));
        } else if self.0.is_empty() {
            return None;
        }
        let (done, all) = self.0.values().fold((0_i64, 0_i64), |sum, layer| {
            (sum.0 + layer.0, sum.1 + layer.1)
        });
        (all > 0).then(|| done.saturating_mul(100) / all)
    }
}

/// Reads what a service was given for its registry.
fn credentials(auth: &str) -> Result<Option<DockerCredentials>> {
    if auth.is_empty() {
        return Ok(None);
    }
    let refused = || {
        RuntimeError::Refused(
            "registry_auth is not the base64 JSON of Docker's X-Registry-Auth; \
             log in and update the service with --with-registry-auth"
                .to_owned(),
        )
    };
    let json = [STANDARD, URL_SAFE, STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(auth).ok())
        .ok_or_else(refused)?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_means_latest() {
        for (image, pulled) in [
            ("nginx", "nginx:latest"),
            ("r:5000/nginx", "r:5000/nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("nginx@sha256:ab", "nginx@sha256:ab"),
        ] {
            assert_eq!(with_tag(image), pulled);
        }
    }

    #[test]
    fn progress_is_one_percentage_of_all_layers() {
        let part = |id: &str, current, total| {
            serde_json::from_value(serde_json::json!({
                "id": id, "status": "Downloading",
                "progressDetail": {"current": current, "total": total}
            }))
            .unwrap()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.add(CreateImageInfo::default()), None);
        assert_eq!(layers.add(part("a", 50, 100)), Some(50));
        assert_eq!(layers.add(part("b", 0, 100)), Some(25));
    }

    #[test]
    fn credentials_are_read_in_either_alphabet_and_refused_with_a_remedy() {
        let json = r#"{"username":"u?","password":"p>"}"#;
        for auth in [STANDARD.encode(json), URL_SAFE.encode(json)] {
            let read = credentials(&auth).unwrap().unwrap();
            assert_eq!(read.username.as_deref(), Some("u?"));
        }
        assert_eq!(credentials("").unwrap(), None);
        let error = credentials("!!").unwrap_err().to_string();
        assert!(error.contains("--with-registry-auth"), "{error}");
    }
}
