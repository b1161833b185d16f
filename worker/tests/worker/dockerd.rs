//! A Docker Engine of the test's own, in a temporary folder.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListContainersOptionsBuilder};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the image of the tests is called.
pub const IMAGE: &str = "skep-test:1";

pub struct Dockerd {
    folder: tempfile::TempDir,
    live_restore: bool,
    /// A network namespace with a bridge for containers; else they have no network.
    namespace: Option<String>,
    child: Option<Child>,
}

/// Whether an engine can be run here; says loudly when not.
pub fn is_possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let dockerd = Path::new("/usr/sbin/dockerd").exists();
    let busybox = Path::new("/bin/busybox").exists();
    if !(root && dockerd && busybox) {
        eprintln!(
            "SKIPPED: this test runs a Docker Engine of its own and needs root (here: {root}), \
             /usr/sbin/dockerd (here: {dockerd}) and a static /bin/busybox (here: {busybox})"
        );
    }
    root && dockerd && busybox
}

impl Dockerd {
    pub async fn start(live_restore: bool, with_network: bool) -> Self {
        let namespace = with_network.then(|| format!("skep-test-{}", std::process::id()));
        if let Some(name) = &namespace {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let folder = tempfile::Builder::new()
            .prefix("skep-engine-")
            .tempdir()
            .unwrap();
        let mut dockerd = Self {
            folder,
            live_restore,
            namespace,
            child: None,
        };
        dockerd.run().await;
        dockerd.make_image().await;
        dockerd
    }

    pub fn socket(&self) -> String {
        format!(
            "unix://{}",
            self.folder.path().join("docker.sock").display()
        )
    }

    /// Runs the engine and waits until it answers.
    pub async fn run(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path("log"))
            .unwrap();
        let _ = std::fs::remove_file(path("docker.sock"));
        let _ = std::fs::remove_file(path("pid"));
        let mut command = match &self.namespace {
            None => Command::new("/usr/sbin/dockerd"),
            Some(name) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net=/run/netns/{name}"));
                enter.arg("/usr/sbin/dockerd");
                enter
            }
        };
        command
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["-H", &self.socket()])
            .args(["--storage-driver", "vfs"])
            .args(["--iptables=false", "--ip6tables=false"])
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .process_group(0);
        if self.namespace.is_none() {
            command.args(["--bridge", "none"]);
        }
        if self.live_restore {
            command.arg("--live-restore");
        }
        self.child = Some(command.spawn().unwrap());
        let start = Instant::now();
        while !self.answers().await {
            if start.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(path("log")).unwrap_or_default();
                panic!("the engine did not come up; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn answers(&self) -> bool {
        match Docker::connect_with_unix(&self.socket(), 5, bollard::API_DEFAULT_VERSION) {
            Ok(docker) => docker.negotiate_version().await.is_ok(),
            Err(_) => false,
        }
    }

    pub async fn docker(&self) -> Docker {
        Docker::connect_with_unix(&self.socket(), 60, bollard::API_DEFAULT_VERSION)
            .unwrap()
            .negotiate_version()
            .await
            .unwrap()
    }

    /// All containers: name and state.
    pub async fn containers(&self) -> Vec<(String, String)> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let mut found: Vec<(String, String)> = self
            .docker()
            .await
            .list_containers(Some(options))
            .await
            .unwrap()
            .into_iter()
            .map(|c| {
                let name = c.names.unwrap_or_default().concat();
                let state = c.state.map(|s| s.to_string()).unwrap_or_default();
                (name.trim_start_matches('/').to_owned(), state)
            })
            .collect();
        found.sort();
        found
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = i32::try_from(child.id()).unwrap();
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }

    /// The engine is killed with its containerd; its containers are not.
    pub fn kill(&mut self) {
        let path = self.folder.path().join("exec/containerd/containerd.pid");
        let containerd = std::fs::read_to_string(&path)
            .ok()
            .and_then(|pid| pid.trim().parse::<i32>().ok());
        self.signal(Signal::SIGKILL);
        self.wait();
        if let Some(pid) = containerd {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            while Path::new(&format!("/proc/{pid}/exe")).exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Where nobody reaps orphans, the next engine takes it for alive.
            let _ = std::fs::remove_file(&path);
        }
    }

    /// The engine ends in order.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.wait();
    }

    /// The engine hangs, or goes on.
    pub fn hang(&self, hangs: bool) {
        self.signal(if hangs {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        });
    }

    fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    async fn make_image(&self) {
        let root = self.folder.path().join("image");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "sleep", "echo", "cat", "env", "test", "hostname", "dd", "tail",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .output()
            .unwrap();
        assert!(tar.status.success());
        let (repo, tag) = IMAGE.split_once(':').unwrap();
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repo)
            .tag(tag)
            .build();
        let docker = self.docker().await;
        let body = bollard::body_full(tar.stdout.into());
        let mut stream = docker.create_image(Some(options), Some(body), None).boxed();
        while let Some(info) = stream.next().await {
            info.unwrap();
        }
    }

    /// Processes that the engine left behind, by the folder in their arguments.
    fn leftovers(&self) -> Vec<i32> {
        let folder = self.folder.path().to_str().unwrap().to_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&folder) {
                found.push(pid);
                found.extend(children(pid));
            }
        }
        found
    }
}

fn ip(args: &[&str]) {
    let done = Command::new("ip").args(args).status().unwrap();
    assert!(done.success(), "ip {args:?}");
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect()
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.hang(false);
            self.kill();
        }
        for pid in self.leftovers() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(name) = &self.namespace {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let folder = self.folder.path().to_str().unwrap().to_owned();
        for _ in 0..20 {
            let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
            let ours: Vec<&str> = mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(1))
                .filter(|point| point.starts_with(&folder))
                .collect();
            if ours.is_empty() {
                break;
            }
            for point in ours.iter().rev() {
                let _ = Command::new("umount").args(["-l", point]).status();
            }
        }
    }
}
