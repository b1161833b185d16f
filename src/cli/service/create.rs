//! `skep service create`

use std::path::PathBuf;

use skep_proto::v1::service_spec::Mode;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{CreateService, Global, Mount, Replicated, ServiceSpec};
use skep_proto::{Error, Result};

use super::flags::{Common, container, task};
use super::registry;
use crate::cli::converge::{Waiting, converge};
use crate::cli::parse::{self, HostEntry, Pair, PortSpec, Ulimit};
use crate::cli::{CommandError, CommandResult, Session};
use crate::ui::Ui;

/// Run a new service
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Image to run
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Arguments, or the command with its arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<String>,
    #[command(flatten)]
    lists: Lists,
    /// Name of the service
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// replicated, or global for one task on every node
    #[arg(long, value_name = "MODE", default_value = "replicated",
          value_parser = ["replicated", "global"])]
    mode: String,
    /// Number of tasks [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<u64>,
    /// Send the credentials of the image's registry along
    #[arg(long)]
    with_registry_auth: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    common: Common,
}

/// Flags that make lists; `update` has them as `-add` and `-rm`.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Lists {
    /// Environment variable; a NAME alone takes its value from here (can be repeated)
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse::env)]
    env: Vec<String>,
    /// File with a variable per line (can be repeated)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Label of the service (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    label: Vec<Pair>,
    /// Label of its containers (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    container_label: Vec<Pair>,
    /// Mount such as type=volume,source=data,target=/data (can be repeated)
    #[arg(long, value_name = "MOUNT", value_parser = parse::mount)]
    mount: Vec<Mount>,
    /// Condition on nodes, such as node.labels.zone==eu (can be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Vec<String>,
    /// Port such as 8080:80 or published=8080,target=80,mode=host (can be repeated)
    #[arg(long, short, value_name = "PORT", value_parser = parse::port)]
    publish: Vec<PortSpec>,
    /// Line of /etc/hosts (can be repeated)
    #[arg(long, value_name = "NAME:IP", value_parser = parse::host_entry)]
    host: Vec<HostEntry>,
    /// DNS server (can be repeated)
    #[arg(long, value_name = "IP")]
    dns: Vec<std::net::IpAddr>,
    /// DNS search domain (can be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// DNS option (can be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Supplementary group (can be repeated)
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Add a Linux capability (can be repeated)
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a Linux capability (can be repeated)
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Kernel setting of the container (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    sysctl: Vec<Pair>,
    /// Limit such as nofile=1024:65536 (can be repeated)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse::ulimit)]
    ulimit: Vec<Ulimit>,
}

impl Lists {
    fn apply(self, spec: &mut ServiceSpec) -> Result<()> {
        spec.labels = self.label.into_iter().collect();
        let ports = self.publish.into_iter().flatten();
        spec.endpoint.get_or_insert_default().ports = ports.collect();
        if !self.constraint.is_empty() {
            task(spec).placement.get_or_insert_default().constraints = self.constraint;
        }
        let container = container(spec);
        for path in &self.env_file {
            container.env.extend(env_file(path)?);
        }
        container.env.extend(self.env);
        container.labels = self.container_label.into_iter().collect();
        container.mounts = self.mount;
        container.hosts = self.host.into_iter().map(|h| h.0).collect();
        container.groups = self.group;
        container.cap_add = self.cap_add;
        container.cap_drop = self.cap_drop;
        container.sysctls = self.sysctl.into_iter().collect();
        container.ulimits = self.ulimit;
        if !(self.dns.is_empty() && self.dns_search.is_empty() && self.dns_option.is_empty()) {
            let dns = container.dns.get_or_insert_default();
            dns.nameservers = self.dns.iter().map(ToString::to_string).collect();
            dns.search = self.dns_search;
            dns.options = self.dns_option;
        }
        Ok(())
    }
}

/// A variable per line; empty lines and lines with `#` are left out.
fn env_file(path: &std::path::Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::invalid("--env-file", format!("{}: {e}", path.display())))?;
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            parse::env(line).map_err(|e| {
                Error::invalid("--env-file", format!("{}:{number}: {e}", path.display()))
            })
        })
        .collect()
}

/// The spec that the flags describe.
fn spec(args: Args) -> Result<ServiceSpec, CommandError> {
    let mut spec = ServiceSpec {
        name: args.name,
        mode: Some(match (args.mode.as_str(), args.replicas) {
            ("global", None) => Mode::Global(Global {}),
            ("global", Some(_)) => {
                return Err(CommandError::usage(Error::invalid(
                    "--replicas",
                    "replicas can only be used with replicated mode",
                )));
            }
            (_, replicas) => Mode::Replicated(Replicated {
                replicas: replicas.unwrap_or(1),
            }),
        }),
        ..ServiceSpec::default()
    };
    args.lists.apply(&mut spec)?;
    args.common.apply(&mut spec)?;
    let container = container(&mut spec);
    container.image = args.image;
    container.args = args.args;
    Ok(spec)
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let waiting = args.waiting.clone();
    let with_auth = args.with_registry_auth;
    let mut spec = spec(args)?;
    if with_auth {
        registry::authorize(ui, container(&mut spec)).await?;
    }
    let client = session.client().await?;
    let response = client
        .write(Verb::CreateService(CreateService { spec: Some(spec) }))
        .await?;
    ui.line(&response.id)?;
    for warning in &response.warnings {
        ui.warning(warning);
    }
    converge(ui, &client, &response.id, &waiting).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use skep_proto::names::Words;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> ServiceSpec {
        let line = Line::try_parse_from([&["create"], line].concat()).unwrap();
        spec(line.args).unwrap()
    }

    #[test]
    fn nothing_given_is_one_replica_and_no_opinion() {
        let spec = parsed(&["nginx"]);
        assert_eq!(spec.replicas(), 1);
        assert_eq!((spec.update, spec.rollback), (None, None));
        let task = spec.task.unwrap();
        assert_eq!(
            (task.resources, task.restart, task.placement),
            (None, None, None)
        );
        let container = task.container.unwrap();
        assert_eq!(container.image, "nginx");
        assert_eq!(container.health, None);
    }

    #[test]
    fn every_part_of_a_spec_has_its_flag() {
        let spec = parsed(&[
            "--name",
            "web",
            "--replicas",
            "3",
            "-e",
            "A=1",
            "-l",
            "tier=front",
            "--container-label",
            "c=d",
            "--mount",
            "source=data,target=/data",
            "--constraint",
            "node.role==worker",
            "--limit-cpu",
            "0.5",
            "--limit-memory",
            "512m",
            "--limit-pids",
            "100",
            "--reserve-memory",
            "64m",
            "--restart-condition",
            "on-failure",
            "--restart-delay",
            "1s",
            "--restart-max-attempts",
            "3",
            "--restart-window",
            "1m",
            "--update-parallelism",
            "2",
            "--update-failure-action",
            "rollback",
            "--rollback-order",
            "start-first",
            "--replicas-max-per-node",
            "2",
            "-p",
            "8080:80",
            "--health-cmd",
            "true",
            "--health-interval",
            "5s",
            "--stop-signal",
            "SIGINT",
            "--stop-grace-period",
            "3s",
            "-u",
            "1000",
            "-w",
            "/srv",
            "--hostname",
            "h",
            "--host",
            "db:10.0.0.7",
            "--dns",
            "10.0.0.2",
            "-t",
            "--read-only",
            "--init=false",
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop",
            "ALL",
            "--sysctl",
            "a.b=1",
            "--ulimit",
            "nofile=1024",
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=1m",
            "--group",
            "video",
            "--entrypoint",
            "sh -c 'echo hi'",
            "nginx:1",
            "-g",
            "daemon off;",
        ]);
        assert_eq!((spec.name.as_str(), spec.replicas()), ("web", 3));
        assert_eq!(spec.labels["tier"], "front");
        let update = spec.update.as_ref().unwrap();
        assert_eq!(
            (update.parallelism, update.failure_action().word()),
            (2, "rollback")
        );
        assert_eq!(
            spec.rollback.as_ref().unwrap().order().word(),
            "start-first"
        );
        assert_eq!(
            spec.endpoint.as_ref().unwrap().ports[0].published_port,
            8080
        );
        let task = spec.task.unwrap();
        let limits = task.resources.as_ref().unwrap().limits.unwrap();
        assert_eq!(
            (limits.nano_cpus, limits.memory_bytes, limits.pids),
            (500_000_000, 512 << 20, 100)
        );
        assert_eq!(task.reserved().memory_bytes, 64 << 20);
        let restart = task.restart.unwrap();
        assert_eq!(restart.condition().word(), "on-failure");
        assert_eq!(
            (restart.delay_ns, restart.max_attempts),
            (Some(1_000_000_000), 3)
        );
        let placement = task.placement.unwrap();
        assert_eq!(
            (placement.constraints, placement.max_replicas),
            (vec!["node.role==worker".to_owned()], 2)
        );
        assert_eq!(task.log_driver.unwrap().options["max-size"], "1m");
        let c = task.container.unwrap();
        assert_eq!(c.command, ["sh", "-c", "echo hi"]);
        assert_eq!(c.args, ["-g", "daemon off;"]);
        assert_eq!(c.env, ["A=1"]);
        assert_eq!(c.health.unwrap().test, ["CMD-SHELL", "true"]);
        assert_eq!((c.init, c.tty, c.read_only), (Some(false), true, true));
        assert_eq!(c.stop_grace_period_ns, Some(3_000_000_000));
        assert_eq!((c.user.as_str(), c.dir.as_str()), ("1000", "/srv"));
        assert_eq!(c.hosts, ["10.0.0.7 db"]);
        assert_eq!(c.dns.unwrap().nameservers, ["10.0.0.2"]);
        assert_eq!(c.ulimits[0].hard, 1024);
        assert_eq!(
            (c.cap_add, c.cap_drop, c.groups),
            (
                vec!["NET_ADMIN".to_owned()],
                vec!["ALL".to_owned()],
                vec!["video".to_owned()]
            )
        );
        assert_eq!(c.sysctls["a.b"], "1");
    }

    #[test]
    fn a_global_service_has_no_number_of_replicas() {
        let line =
            Line::try_parse_from(["create", "--mode", "global", "--replicas", "2", "x"]).unwrap();
        let error = spec(line.args).unwrap_err();
        assert_eq!(error.exit, crate::cli::Exit::Usage);
        let spec = parsed(&["--mode", "global", "x"]);
        assert!(spec.is_global());
    }

    #[test]
    fn a_wrong_value_names_its_flag_and_shows_an_example() {
        let error = Line::try_parse_from(["create", "--limit-memory", "lots", "x"]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("--limit-memory") && text.contains("512m"),
            "{text}"
        );
    }

    #[test]
    fn files_of_variables_name_the_broken_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1\nB=two words\n").unwrap();
        assert_eq!(env_file(&path).unwrap(), ["A=1", "B=two words"]);
        std::fs::write(&path, "A=1\n=2\n").unwrap();
        assert!(env_file(&path).unwrap_err().message.contains("env:2:"));
    }
}
