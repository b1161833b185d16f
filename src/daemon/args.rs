//! What the daemon can be told, by flag, environment or file, in this order.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use skep_proto::{Code, Error, Result};

/// Where the file is looked for when none is named; it need not exist there.
const DEFAULT_FILE: &str = "/etc/skep/skep.toml";

/// What Raft says of each of its steps is for those who debug Raft.
const LOG_LEVEL: &str = "info,openraft=warn";

/// Run this host's daemon
///
/// Every setting may also stand in the configuration file, under the flag's
/// name; a flag wins over the environment, and that over the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Configuration file (default /etc/skep/skep.toml, if it exists)
    #[arg(long, value_name = "FILE", env = "SKEP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where this node keeps its state [default: /var/lib/skep]
    #[arg(long, value_name = "DIR", env = "SKEP_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Local socket for the command line [default: /run/skep/skep.sock]
    #[arg(long, value_name = "PATH", env = "SKEP_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Group whose members may use the local socket
    #[arg(long, value_name = "NAME", env = "SKEP_GROUP")]
    pub group: Option<String>,
    /// This host's Docker Engine [default: unix:///var/run/docker.sock]
    #[arg(long, value_name = "URL", env = "SKEP_ENGINE")]
    pub engine: Option<String>,
    /// Name of this node [default: the host's own]
    #[arg(long, value_name = "NAME", env = "SKEP_HOSTNAME")]
    pub hostname: Option<String>,
    /// Where to listen for the cluster, unless init or join says otherwise [default: 0.0.0.0:2377]
    #[arg(long, value_name = "ADDR", env = "SKEP_LISTEN_ADDR")]
    pub listen_addr: Option<String>,
    /// Address, interface or name that others reach this node by
    #[arg(long, value_name = "ADDR", env = "SKEP_ADVERTISE_ADDR")]
    pub advertise_addr: Option<String>,
    /// error, warn, info, debug or trace, or a filter such as info,skep_manager=debug
    #[arg(long, value_name = "LEVEL", env = "SKEP_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Log lines as text or json
    #[arg(long, value_name = "FORMAT", env = "SKEP_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Issue node certificates that live this many seconds, to see them renewed
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SKEP_CERT_EXPIRY_SECONDS",
        hide = true
    )]
    pub cert_expiry_seconds: Option<u32>,
}

/// The file, with the flags' names as keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    group: Option<String>,
    engine: Option<String>,
    hostname: Option<String>,
    listen_addr: Option<String>,
    advertise_addr: Option<String>,
    log_level: Option<String>,
    log_format: Option<String>,
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where this node keeps its state.
    pub data_dir: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// Group of the local socket; the daemon's own if there is none.
    pub group: Option<String>,
    /// Path of the Docker Engine's socket.
    pub engine_socket: PathBuf,
    /// What this node is called.
    pub hostname: String,
    /// Where the cluster's listener is bound by default.
    pub listen_addr: String,
    /// What others reach it by, if it was said.
    pub advertise_addr: Option<String>,
    /// Filter of the log.
    pub log_level: String,
    /// JSON lines instead of text.
    pub log_json: bool,
    /// How long node certificates live, ns, instead of what the swarm says.
    pub cert_expiry_ns: Option<i64>,
}

impl Settings {
    /// Flags and environment over the file over the defaults.
    pub fn resolve(args: Args) -> Result<Self> {
        let file = read(args.config.as_deref())?;
        let engine = args.engine.or(file.engine);
        let engine = engine.as_deref().unwrap_or("unix:///var/run/docker.sock");
        let engine_socket = engine.strip_prefix("unix://").unwrap_or(engine);
        if !engine_socket.starts_with('/') {
            return Err(Error::invalid(
                "engine",
                format!("{engine} is not a unix:// address of an absolute path"),
            )
            .hint("for example --engine unix:///var/run/docker.sock"));
        }
        let log_json = match args.log_format.or(file.log_format).as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                return Err(Error::invalid(
                    "log-format",
                    format!("{other} is neither text nor json"),
                ));
            }
        };
        let hostname = match args.hostname.or(file.hostname) {
            Some(name) if !name.trim().is_empty() => name,
            Some(_) => return Err(Error::invalid("hostname", "is empty")),
            None => nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .ok_or_else(|| Error::invalid("hostname", "this host's name cannot be read"))?,
        };
        Ok(Self {
            data_dir: args
                .data_dir
                .or(file.data_dir)
                .unwrap_or_else(|| "/var/lib/skep".into()),
            socket: args
                .socket
                .or(file.socket)
                .unwrap_or_else(|| "/run/skep/skep.sock".into()),
            group: args.group.or(file.group),
            engine_socket: engine_socket.into(),
            hostname,
            listen_addr: args
                .listen_addr
                .or(file.listen_addr)
                .unwrap_or_else(|| "0.0.0.0:2377".into()),
            advertise_addr: args.advertise_addr.or(file.advertise_addr),
            log_level: match args.log_level.or(file.log_level) {
                Some(level) if level == "info" => LOG_LEVEL.into(),
                Some(level) => level,
                None => LOG_LEVEL.into(),
            },
            log_json,
            cert_expiry_ns: args
                .cert_expiry_seconds
                .map(|seconds| i64::from(seconds.max(5)) * 1_000_000_000),
        })
    }
}

fn read(named: Option<&Path>) -> Result<File> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(Error::new(
                Code::Invalid,
                format!("cannot read {}: {error}", path.display()),
            )
            .at("config"));
        }
    };
    toml::from_str(&text).map_err(|error| {
        Error::new(
            Code::Invalid,
            format!("{}: {}", path.display(), error.to_string().trim_end()),
        )
        .at("config")
        .hint("keys are the names of the daemon's flags: see skep daemon --help")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, args: Args) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skep.toml");
        std::fs::write(&path, text).unwrap();
        Settings::resolve(Args {
            config: Some(path),
            ..args
        })
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let args = Args {
            hostname: Some("flag".into()),
            ..Args::default()
        };
        let settings = with_file("hostname = \"file\"\ndata-dir = \"/srv/skep\"\n", args).unwrap();
        assert_eq!(settings.hostname, "flag");
        assert_eq!(settings.data_dir, PathBuf::from("/srv/skep"));
        assert_eq!(settings.listen_addr, "0.0.0.0:2377");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = with_file("hostnam = \"x\"\n", Args::default()).unwrap_err();
        assert_eq!(error.field, "config");
        assert!(error.message.contains("hostnam"), "{}", error.message);
    }

    #[test]
    fn an_engine_that_is_no_socket_is_refused() {
        let error = with_file("engine = \"tcp://1.2.3.4:2375\"\n", Args::default()).unwrap_err();
        assert_eq!(error.field, "engine");
    }

    #[test]
    fn a_named_file_must_exist() {
        let args = Args {
            config: Some("/nonexistent/skep.toml".into()),
            ..Args::default()
        };
        assert!(Settings::resolve(args).is_err());
    }
}
