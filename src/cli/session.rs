//! Whom one command line speaks to.

use std::path::PathBuf;
use std::time::Duration;

use skep_proto::{Error, Result};

use super::parse;
use crate::client::{Client, Contexts, DEFAULT_CONTEXT, DEFAULT_SOCKET, Target};

/// How to reach a manager. Flags win over the environment, and that over the
/// context in use.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Socket of a daemon on this host [env: SKEP_SOCKET] [default: /run/skep/skep.sock]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "context"])]
    pub socket: Option<PathBuf>,
    /// Manager to connect to, with the context's certificate (can be repeated) [env: SKEP_HOST]
    #[arg(long, short = 'H', value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Context to use [env: SKEP_CONTEXT]
    #[arg(long, short = 'c', value_name = "NAME")]
    pub context: Option<String>,
    /// How long a request may take, an election included
    #[arg(long, value_name = "DURATION", default_value = "20s", env = "SKEP_TIMEOUT",
          hide_env = true, value_parser = parse::duration)]
    pub timeout: i64,
}

/// One command line's way to the swarm.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
}

impl Session {
    /// By these flags.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.connection.timeout).unwrap_or(0))
    }

    /// A connection to a manager or to this host's daemon.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.target()?, self.timeout()).await
    }

    fn target(&self) -> Result<Target> {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        target(&self.connection, env, Contexts::of_user)
    }
}

fn target(
    flags: &Connection,
    env: impl Fn(&str) -> Option<String>,
    contexts: impl FnOnce() -> Result<Contexts>,
) -> Result<Target> {
    if let Some(path) = &flags.socket {
        return Ok(Target::Socket(path.clone()));
    }
    let by_flag = !flags.host.is_empty() || flags.context.is_some();
    if !by_flag && let Some(path) = env("SKEP_SOCKET") {
        return Ok(Target::Socket(path.into()));
    }
    let mut hosts = flags.host.clone();
    if !by_flag && let Some(list) = env("SKEP_HOST") {
        hosts.extend(list.split(',').map(str::to_owned));
    }
    if let [only] = hosts.as_slice()
        && let Some(path) = only.strip_prefix("unix://")
    {
        return Ok(Target::Socket(path.into()));
    }
    let named = flags.context.clone().or_else(|| env("SKEP_CONTEXT"));
    let local = || Ok(Target::Socket(DEFAULT_SOCKET.into()));
    let (name, contexts) = match named {
        Some(name) => (name, contexts()),
        // Whoever keeps no contexts needs no home for them.
        None => match contexts() {
            Ok(contexts) => (contexts.current(), Ok(contexts)),
            Err(_) if hosts.is_empty() => return local(),
            Err(error) => return Err(error),
        },
    };
    if name == DEFAULT_CONTEXT {
        return if hosts.is_empty() {
            local()
        } else {
            Err(Error::invalid(
                "--host",
                "a manager elsewhere asks for a certificate, and no context with one is in use",
            )
            .hint(
                "on a manager: skep context create NAME; skep context export NAME FILE; \
                 here: skep context import NAME FILE",
            ))
        };
    }
    let bundle = contexts?.load(&name)?;
    let addrs = if hosts.is_empty() {
        bundle.managers.clone()
    } else {
        hosts
    };
    Ok(Target::Managers {
        addrs,
        bundle: Box::new(bundle),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Bundle;

    fn contexts() -> (tempfile::TempDir, Contexts) {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(dir.path());
        let pem = "-----BEGIN X-----\n".to_owned();
        contexts
            .save(&Bundle {
                name: "prod".into(),
                cluster_id: "c".into(),
                managers: vec!["m1:2377".into()],
                root_pem: pem.clone(),
                cert_pem: pem.clone(),
                key_pem: pem,
            })
            .unwrap();
        (dir, contexts)
    }

    fn found(flags: &Connection, env: &[(&str, &str)], contexts: &Contexts) -> String {
        let env = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        match target(flags, env, || Ok(contexts.clone())) {
            Ok(Target::Socket(path)) => path.display().to_string(),
            Ok(Target::Managers { addrs, bundle }) => {
                format!("{}: {}", bundle.name, addrs.join(","))
            }
            Err(error) => format!("error {}", error.field),
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_context_in_use() {
        let (_dir, contexts) = contexts();
        let none = Connection::default();
        assert_eq!(found(&none, &[], &contexts), DEFAULT_SOCKET);
        let env = [("SKEP_SOCKET", "/e.sock")];
        assert_eq!(found(&none, &env, &contexts), "/e.sock");
        let flags = Connection {
            context: Some("prod".into()),
            ..Connection::default()
        };
        assert_eq!(found(&flags, &env, &contexts), "prod: m1:2377");
        let env = [("SKEP_CONTEXT", "prod"), ("SKEP_HOST", "m2,m3")];
        assert_eq!(found(&none, &env, &contexts), "prod: m2,m3");
        contexts.choose("prod").unwrap();
        assert_eq!(found(&none, &[], &contexts), "prod: m1:2377");
        let env = [("SKEP_HOST", "unix:///h.sock")];
        assert_eq!(found(&none, &env, &contexts), "/h.sock");
    }

    #[test]
    fn a_host_without_a_certificate_is_refused() {
        let (_dir, contexts) = contexts();
        let flags = Connection {
            host: vec!["m1".into()],
            ..Connection::default()
        };
        assert_eq!(found(&flags, &[], &contexts), "error --host");
    }
}
