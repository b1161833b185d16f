//! `--with-registry-auth`: an image's registry credentials, as Docker's own
//! client keeps them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::json;
use skep_proto::v1::ContainerSpec;
use skep_proto::{Error, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::ui::Ui;

/// How Docker's client calls the registry of images without one.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// A helper that asks a person does not do so here.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);

/// What is read of `~/.docker/config.json`.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a helper answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    username: String,
    secret: String,
}

/// Puts the credentials for the container's image into its spec.
pub async fn authorize(ui: &mut Ui, container: &mut ContainerSpec) -> Result<()> {
    let registry = registry(&container.image);
    let Some(path) = config_path() else {
        ui.warning("neither DOCKER_CONFIG nor HOME is set: no registry credentials were sent");
        return Ok(());
    };
    match credentials(&read(&path)?, &registry).await? {
        Some(header) => container.registry_auth = header,
        None => ui.warning(&format!(
            "{} holds no credentials for {registry}: none were sent (docker login {registry})",
            path.display()
        )),
    }
    Ok(())
}

/// The registry that an image is pulled from, as its credentials are filed.
fn registry(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => DOCKER_HUB.to_owned(),
            host => host.to_owned(),
        },
        _ => DOCKER_HUB.to_owned(),
    }
}

fn config_path() -> Option<PathBuf> {
    let dir = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    dir("DOCKER_CONFIG")
        .or_else(|| dir("HOME").map(|home| home.join(".docker")))
        .map(|dir| dir.join("config.json"))
}

fn read(path: &Path) -> Result<Config> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| {
            Error::invalid("--with-registry-auth", format!("{}: {e}", path.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(Error::invalid(
            "--with-registry-auth",
            format!("{}: {error}", path.display()),
        )),
    }
}

/// The value of an `X-Registry-Auth` header.
async fn credentials(config: &Config, registry: &str) -> Result<Option<String>> {
    let helper = config.helpers.get(registry).unwrap_or(&config.store);
    let auth = if helper.is_empty() {
        config
            .auths
            .iter()
            .find(|(key, _)| key.as_str() == registry || host(key) == host(registry))
            .map(|(_, auth)| auth.clone())
    } else {
        ask(helper, registry).await?
    };
    let Some(auth) = auth else {
        return Ok(None);
    };
    header(auth, registry).map(Some)
}

/// `ghcr.io` of `https://ghcr.io/v2/`.
fn host(address: &str) -> &str {
    let address = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    address.split('/').next().unwrap_or(address)
}

fn header(mut auth: Auth, registry: &str) -> Result<String> {
    if !auth.auth.is_empty() {
        let pair = STANDARD
            .decode(auth.auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) =
            pair.as_deref()
                .and_then(|p| p.split_once(':'))
                .ok_or_else(|| {
                    Error::invalid(
                        "--with-registry-auth",
                        format!("the credentials for {registry} are not readable"),
                    )
                    .hint(format!("docker login {registry} writes them anew"))
                })?;
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    let header = if auth.identitytoken.is_empty() {
        json!({
            "username": auth.username, "password": auth.password, "serveraddress": registry,
        })
    } else {
        json!({ "identitytoken": auth.identitytoken, "serveraddress": registry })
    };
    Ok(URL_SAFE.encode(header.to_string()))
}

/// Asks a credential helper; `None` when it knows none for this registry.
async fn ask(helper: &str, registry: &str) -> Result<Option<Auth>> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Error::invalid("--with-registry-auth", format!("{program}: {why}"));
    let answer = async {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(registry.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, answer)
        .await
        .map_err(|_| failed(format!("no answer within {HELPER_TIMEOUT:?}")))?
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(said)),
        };
    }
    let secret: Secret =
        serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("its answer: {e}")))?;
    Ok(Some(match secret.username.as_str() {
        "<token>" => Auth {
            identitytoken: secret.secret,
            ..Auth::default()
        },
        _ => Auth {
            username: secret.username,
            password: secret.secret,
            ..Auth::default()
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_registry_are_docker_hubs() {
        for (image, of) in [
            ("nginx", DOCKER_HUB),
            ("library/nginx:1", DOCKER_HUB),
            ("docker.io/library/nginx", DOCKER_HUB),
            ("ghcr.io/a/b:1", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("reg:5000/a@sha256:0", "reg:5000"),
        ] {
            assert_eq!(registry(image), of, "{image}");
        }
    }

    #[tokio::test]
    async fn credentials_become_the_header_that_engines_take() {
        let config: Config = serde_json::from_value(json!({
            "auths": {
                "https://ghcr.io/v2/": { "auth": STANDARD.encode("me:pa:ss") },
                "r.example": { "identitytoken": "tok" },
                "broken.example": { "auth": "!" },
            }
        }))
        .unwrap();
        let decode = |text: String| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE.decode(text).unwrap()).unwrap()
        };
        let header = credentials(&config, "ghcr.io").await.unwrap().unwrap();
        assert_eq!(decode(header)["password"], "pa:ss");
        let header = credentials(&config, "r.example").await.unwrap().unwrap();
        assert_eq!(decode(header)["identitytoken"], "tok");
        assert_eq!(credentials(&config, "other.example").await.unwrap(), None);
        assert!(credentials(&config, "broken.example").await.is_err());
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_named() {
        let config = Config {
            store: "surely-not-installed".into(),
            ..Config::default()
        };
        let error = credentials(&config, "ghcr.io").await.unwrap_err();
        assert!(
            error
                .message
                .contains("docker-credential-surely-not-installed")
        );
    }
}
