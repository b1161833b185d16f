//! A lab of real hosts for one test, made and removed by `deploy/lab`.
//!
//! Labs are up one at a time: a test that measures time must not share its two
//! cores with another one's engines.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::wait::eventually;

/// The image that tests run: a web server and a shell.
pub const IMAGE: &str = "skep/web:1";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Why real hosts cannot be had here, if they cannot.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("hosts need root".into());
    }
    ["dockerd", "docker", "ip", "nsenter", "busybox"]
        .iter()
        .find(|tool| {
            !Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .map(|tool| format!("there is no {tool}: deploy/prepare installs it"))
}

/// Hosts on this machine, until dropped.
pub struct Lab {
    hosts: usize,
    engine_flags: String,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// `hosts` hosts whose daemons run, and no swarm. `None`, said loudly, where
    /// that cannot be; in CI it has to be.
    pub fn without_swarm(hosts: usize) -> Option<Self> {
        Self::make(hosts, 0, "", &[])
    }

    /// A swarm of `hosts` hosts of which the first `managers` manage.
    pub fn swarm(hosts: usize, managers: usize) -> Option<Self> {
        Self::make(hosts, managers, "", &[])
    }

    /// A swarm whose daemons are started again when they end by themselves.
    pub fn supervised(hosts: usize, managers: usize) -> Option<Self> {
        Self::make(hosts, managers, "", &["--supervise"])
    }

    /// A swarm whose engines leave containers alone when they restart.
    pub fn with_live_restore(hosts: usize, managers: usize) -> Option<Self> {
        Self::make(hosts, managers, "--live-restore", &[])
    }

    fn make(hosts: usize, managers: usize, engine_flags: &str, up: &[&str]) -> Option<Self> {
        if let Some(reason) = missing() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI runs every test, and {reason}"
            );
            eprintln!("NOT RUN: {reason}");
            return None;
        }
        // A test that failed with the lab up says nothing about this one.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        let lab = Self {
            hosts,
            engine_flags: engine_flags.to_owned(),
            _turn: turn,
        };
        lab.run(&[&["up", &hosts.to_string()][..], up].concat());
        lab.run(&["image", "--build-web", IMAGE]);
        if managers > 0 {
            lab.form(managers);
        }
        Some(lab)
    }

    /// Makes host 1 found a swarm and the others join it.
    fn form(&self, managers: usize) {
        self.ok(1, &["swarm", "init", "--advertise-addr", &self.ip(1)]);
        for host in 2..=self.hosts {
            let role = if host <= managers {
                "manager"
            } else {
                "worker"
            };
            let token = self.token(role);
            self.join(host, &token).expect_ok("join");
        }
        self.until_ready(self.hosts);
    }

    /// The token by which a host joins in `role`.
    pub fn token(&self, role: &str) -> String {
        let token = self.ok(1, &["swarm", "join-token", "-q", role]);
        token.trim().to_owned()
    }

    /// Lets `host` join by way of host 1.
    pub fn join(&self, host: usize, token: &str) -> Said {
        let remote = format!("{}:2377", self.ip(1));
        let own = self.ip(host);
        let args = [
            "swarm",
            "join",
            "--token",
            token,
            "--advertise-addr",
            &own,
            &remote,
        ];
        self.skep(host, &args)
    }

    /// Waits until a manager lists `count` nodes as ready.
    pub fn until_ready(&self, count: usize) {
        eventually(Duration::from_secs(30), "all nodes are ready", || {
            let nodes = self.skep(1, &["node", "ls", "--format", "{{.Status}}"]);
            let ready = nodes.out.lines().filter(|line| *line == "Ready").count();
            (ready == count).then_some(()).ok_or(nodes.to_string())
        });
    }

    /// Runs a command of `deploy/lab` that has to succeed.
    pub fn run(&self, args: &[&str]) -> String {
        let said = self.try_run(args);
        said.expect_ok(&format!("lab {}", args.join(" ")));
        said.out.trim_end().to_owned()
    }

    /// The same for one that may fail.
    pub fn try_run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(script());
        command.args(args).env("SKEP_BIN", skep_binary());
        command.env("SKEP_LAB_ENGINE_FLAGS", &self.engine_flags);
        let level = std::env::var("SKEP_LAB_LOG_LEVEL").unwrap_or_else(|_| "info".into());
        command.env("SKEP_LAB_LOG_LEVEL", level);
        for (name, value) in [("PREFIX", "e2e"), ("SUBNET", "10.98.0")] {
            let name = format!("SKEP_LAB_{name}");
            if std::env::var_os(&name).is_none() {
                command.env(name, value);
            }
        }
        Said::of(command)
    }

    /// Runs `skep` as an operator on `host` would.
    pub fn skep(&self, host: usize, args: &[&str]) -> Said {
        let mut command = Command::new(skep_binary());
        command
            .arg("--socket")
            .arg(self.path("sock", host))
            .args(args);
        Said::of(command)
    }

    /// The same for what runs on by itself, such as `logs --follow`.
    pub fn skep_command(&self, host: usize, args: &[&str]) -> Command {
        let mut command = Command::new(skep_binary());
        command
            .arg("--socket")
            .arg(self.path("sock", host))
            .args(args);
        command
    }

    /// Runs `skep` on this machine, which is no member, against a manager's `address`.
    pub fn skep_remote(&self, address: &str, args: &[&str]) -> Said {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(skep_binary());
        command
            .args(["--timeout", "5s", "--host", address])
            .args(args);
        command.env("HOME", home.path());
        Said::of(command)
    }

    /// Runs `skep` on `host`; it has to succeed. Returns what it printed.
    pub fn ok(&self, host: usize, args: &[&str]) -> String {
        let said = self.skep(host, args);
        said.expect_ok(&format!("skep {}", args.join(" ")));
        said.out
    }

    /// Runs `docker` against the engine of `host`; it has to succeed.
    pub fn docker(&self, host: usize, args: &[&str]) -> String {
        let mut command = Command::new("docker");
        let engine = format!("unix://{}", self.path("engine", host).display());
        command.args(["-H", &engine]).args(args);
        let said = Said::of(command);
        said.expect_ok(&format!("docker {}", args.join(" ")));
        said.out
    }

    /// Runs a command in the namespaces of `host`; it has to succeed.
    pub fn inside(&self, host: usize, args: &[&str]) -> String {
        let host = host.to_string();
        let mut all = vec!["exec", host.as_str()];
        all.extend(args);
        self.run(&all)
    }

    /// The end of the log of the daemon of `host`.
    pub fn daemon_log(&self, host: usize) -> String {
        let path = self.run(&["log", &host.to_string(), "daemon"]);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The data directory of the daemon of `host`.
    pub fn data(&self, host: usize) -> PathBuf {
        self.path("data", host)
    }

    /// Address of `host`.
    pub fn ip(&self, host: usize) -> String {
        self.run(&["ip", &host.to_string()])
    }

    /// Name of `host` as a node of the swarm.
    pub fn name(&self, host: usize) -> String {
        let prefix = std::env::var("SKEP_LAB_PREFIX").unwrap_or_else(|_| "e2e".into());
        format!("{prefix}{host}")
    }

    /// Numbers of all hosts.
    pub fn hosts(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.hosts
    }

    fn path(&self, what: &str, host: usize) -> PathBuf {
        PathBuf::from(self.run(&[what, &host.to_string()]))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.hosts() {
                eprintln!("--- daemon log of host {host}\n{}", self.daemon_log(host));
            }
            if std::env::var_os("SKEP_E2E_KEEP").is_some() {
                eprintln!("SKEP_E2E_KEEP is set: the lab is left up");
                return;
            }
        }
        self.try_run(&["down"]);
    }
}

/// How a command ended and what it said.
pub struct Said {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Runs `command` to its end.
    pub fn of(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        let output: Output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics with all that was said unless it succeeded.
    #[track_caller]
    pub fn expect_ok(&self, what: &str) {
        assert!(self.code == 0, "{what}: {self}");
    }

    /// Asserts that it was refused with `code` and that stderr has every word.
    #[track_caller]
    pub fn expect_refusal(&self, code: i32, words: &[&str]) {
        assert!(self.code == code, "expected exit code {code}: {self}");
        for word in words {
            let found = self.err.to_lowercase().contains(&word.to_lowercase());
            assert!(found, "stderr does not say '{word}': {self}");
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}{}", self.code, self.out, self.err)
    }
}

/// The binary under test.
pub fn skep_binary() -> &'static str {
    env!("CARGO_BIN_EXE_skep")
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/lab")
}
