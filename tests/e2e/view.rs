//! What a swarm looks like from outside: by its command line and by its engines.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::{IMAGE, Lab};
use crate::wait::eventually;

/// How long a swarm may take to do what it should on a busy machine.
pub const CONVERGE: Duration = Duration::from_secs(40);

/// A row of `service ps`.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// `web.1`.
    pub name: String,
    /// Hostname of its node; empty while it has none.
    pub node: String,
    /// `Running`, `Shutdown`, …
    pub desired: String,
    /// `Running 3 seconds ago`.
    pub current: String,
    /// Why it failed or cannot be placed.
    pub error: String,
}

/// A container that a daemon runs for a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// The host that runs it.
    pub host: usize,
    /// Its id at the engine.
    pub id: String,
    /// `web.1.TASKID`.
    pub name: String,
}

impl Lab {
    /// Creates a service of [`IMAGE`] with `flags`, and waits until it has converged.
    pub fn create(&self, name: &str, replicas: usize, flags: &[&str]) {
        let replicas = replicas.to_string();
        let mut args = vec!["service", "create", "--name", name, "--replicas", &replicas];
        args.extend(["--restart-delay", "0s", "--stop-grace-period", "2s"]);
        args.extend(flags);
        args.push(IMAGE);
        self.ok(1, &args);
    }

    /// The rows of `service ps`, as `host` answers.
    pub fn tasks(&self, host: usize, service: &str) -> Result<Vec<TaskRow>, String> {
        let format = "{{.Name}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}";
        let said = self.skep(
            host,
            &["service", "ps", "--no-trunc", "--format", format, service],
        );
        if said.code != 0 {
            return Err(said.to_string());
        }
        Ok(said.out.lines().map(row).collect())
    }

    /// The tasks of `service` that run and should.
    pub fn running(&self, host: usize, service: &str) -> Result<Vec<TaskRow>, String> {
        let mut tasks = self.tasks(host, service)?;
        tasks.retain(|t| t.desired == "Running" && t.current.starts_with("Running"));
        Ok(tasks)
    }

    /// Waits until exactly `count` tasks of `service` run, as `host` answers.
    #[track_caller]
    pub fn until_running(&self, host: usize, service: &str, count: usize) -> Vec<TaskRow> {
        let what = format!("{count} tasks of {service} run");
        eventually(CONVERGE, &what, || {
            let running = self.running(host, service)?;
            if running.len() == count {
                Ok(running)
            } else {
                Err(format!("{:#?}", self.tasks(host, service)?))
            }
        })
    }

    /// The running containers of `service` on those of `hosts` that answer.
    pub fn containers(&self, hosts: &[usize], service: &str) -> Vec<Container> {
        let label = format!("label=com.docker.swarm.service.name={service}");
        let mut found = Vec::new();
        for host in hosts {
            let args = [
                "ps",
                "--no-trunc",
                "--filter",
                &label,
                "--format",
                "{{.ID}} {{.Names}}",
            ];
            for line in self.docker(*host, &args).lines() {
                if let Some((id, name)) = line.split_once(' ') {
                    found.push(Container {
                        host: *host,
                        id: id.to_owned(),
                        name: name.to_owned(),
                    });
                }
            }
        }
        found.sort();
        found
    }

    /// The running containers of `service` on every host.
    pub fn all_containers(&self, service: &str) -> Vec<Container> {
        let hosts: Vec<usize> = self.hosts().collect();
        self.containers(&hosts, service)
    }

    /// Waits until the engines of `hosts` run exactly `count` containers of `service`.
    #[track_caller]
    pub fn until_containers(&self, hosts: &[usize], service: &str, count: usize) -> Vec<Container> {
        let what = format!("{count} containers of {service} run on hosts {hosts:?}");
        eventually(CONVERGE, &what, || {
            let found = self.containers(hosts, service);
            if found.len() == count {
                Ok(found)
            } else {
                Err(format!("{found:#?}"))
            }
        })
    }

    /// Node name → what `column` of `node ls` says.
    pub fn nodes(&self, host: usize, column: &str) -> Result<BTreeMap<String, String>, String> {
        let format = format!("{{{{.Hostname}}}}\t{{{{.{column}}}}}");
        let said = self.skep(host, &["node", "ls", "--format", &format]);
        if said.code != 0 {
            return Err(said.to_string());
        }
        Ok(said
            .out
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Waits until `host` lists `node` with `value` in `column`.
    #[track_caller]
    pub fn until_node(&self, host: usize, node: usize, column: &str, value: &str) {
        let name = self.name(node);
        let what = format!("{column} of {name} is {value}");
        eventually(CONVERGE, &what, || {
            let nodes = self.nodes(host, column)?;
            if nodes.get(&name).is_some_and(|v| v == value) {
                Ok(())
            } else {
                Err(format!("{nodes:?}"))
            }
        });
    }

    /// The number of the host that leads, as `host` answers.
    #[track_caller]
    pub fn leader(&self, host: usize) -> usize {
        eventually(CONVERGE, "somebody leads", || {
            let status = self.nodes(host, "ManagerStatus")?;
            let led = self
                .hosts()
                .find(|n| status.get(&self.name(*n)).is_some_and(|s| s == "Leader"));
            led.ok_or(format!("{status:?}"))
        })
    }
}

fn row(line: &str) -> TaskRow {
    let mut cells = line.split('\t').map(|cell| cell.trim().to_owned());
    let mut next = || cells.next().unwrap_or_default();
    TaskRow {
        name: next(),
        node: next(),
        desired: next(),
        current: next(),
        error: next(),
    }
}
