//! `skep service update`

use std::collections::BTreeMap;

use clap_complete::ArgValueCandidates;
use skep_proto::objects::Identified;
use skep_proto::v1::service_spec::Mode;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{Mount, Replicated, ServiceSpec, UpdateService};
use skep_proto::{Error, Result};

use super::flags::{Command, Common, command, container, task};
use super::registry;
use crate::cli::converge::{Waiting, converge};
use crate::cli::parse::{self, HostEntry, Pair, PortSpec, Ulimit};
use crate::cli::{CommandError, CommandResult, Session, completion};
use crate::ui::Ui;

/// Change a service
///
/// Tasks are replaced as --update-* say, and only if something changes that
/// they would notice.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id, name or unique prefix
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,
    #[command(flatten)]
    lists: Lists,
    /// Image to run
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Arguments of the command, in words as a shell splits them
    #[arg(long, value_name = "COMMAND", value_parser = command, allow_hyphen_values = true)]
    args: Option<Command>,
    /// Number of tasks
    #[arg(long, value_name = "N")]
    replicas: Option<u64>,
    /// Replace every task even if nothing changes
    #[arg(long)]
    force: bool,
    /// Take back the last change instead
    #[arg(long)]
    rollback: bool,
    /// Send the credentials of the image's registry along
    #[arg(long)]
    with_registry_auth: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    common: Common,
}

/// Flags that add to lists and remove from them.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Lists {
    /// Add or change an environment variable (can be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::env)]
    env_add: Vec<String>,
    /// Remove an environment variable (can be repeated)
    #[arg(long, value_name = "NAME")]
    env_rm: Vec<String>,
    /// Add or change a label (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    label_add: Vec<Pair>,
    /// Remove a label (can be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or change a label of the containers (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    container_label_add: Vec<Pair>,
    /// Remove a label of the containers (can be repeated)
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add or change the mount at its target (can be repeated)
    #[arg(long, value_name = "MOUNT", value_parser = parse::mount)]
    mount_add: Vec<Mount>,
    /// Remove the mount at this target (can be repeated)
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Add a condition on nodes (can be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<String>,
    /// Remove a condition on nodes (can be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<String>,
    /// Publish a port (can be repeated)
    #[arg(long, value_name = "PORT", value_parser = parse::port)]
    publish_add: Vec<PortSpec>,
    /// Publish a port of the container no longer (can be repeated)
    #[arg(long, value_name = "TARGET-PORT", value_parser = parse::port)]
    publish_rm: Vec<PortSpec>,
    /// Add a line of /etc/hosts (can be repeated)
    #[arg(long, value_name = "NAME:IP", value_parser = parse::host_entry)]
    host_add: Vec<HostEntry>,
    /// Remove a line of /etc/hosts (can be repeated)
    #[arg(long, value_name = "NAME:IP", value_parser = parse::host_entry)]
    host_rm: Vec<HostEntry>,
    /// Add a DNS server (can be repeated)
    #[arg(long, value_name = "IP")]
    dns_add: Vec<std::net::IpAddr>,
    /// Remove a DNS server (can be repeated)
    #[arg(long, value_name = "IP")]
    dns_rm: Vec<std::net::IpAddr>,
    /// Add a DNS search domain (can be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search_add: Vec<String>,
    /// Remove a DNS search domain (can be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,
    /// Add a DNS option (can be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option_add: Vec<String>,
    /// Remove a DNS option (can be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,
    /// Add a supplementary group (can be repeated)
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Remove a supplementary group (can be repeated)
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Add a Linux capability (can be repeated)
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a Linux capability (can be repeated)
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Add or change a kernel setting of the container (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    sysctl_add: Vec<Pair>,
    /// Remove a kernel setting of the container (can be repeated)
    #[arg(long, value_name = "KEY")]
    sysctl_rm: Vec<String>,
    /// Add or change a limit (can be repeated)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse::ulimit)]
    ulimit_add: Vec<Ulimit>,
    /// Remove a limit (can be repeated)
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
}

impl Lists {
    fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        map(&mut spec.labels, &self.label_add, &self.label_rm);
        self.apply_ports(spec);
        if !(self.constraint_add.is_empty() && self.constraint_rm.is_empty()) {
            let placement = task(spec).placement.get_or_insert_default();
            list(
                &mut placement.constraints,
                &self.constraint_add,
                &self.constraint_rm,
            );
        }
        let c = container(spec);
        map(
            &mut c.labels,
            &self.container_label_add,
            &self.container_label_rm,
        );
        map(&mut c.sysctls, &self.sysctl_add, &self.sysctl_rm);
        keyed(&mut c.env, &self.env_add, &self.env_rm, |e| {
            e.split('=').next().unwrap_or(e)
        });
        let remove: Vec<String> = self
            .mount_rm
            .iter()
            .map(|t| t.trim_end_matches('/').to_owned())
            .collect();
        keyed(&mut c.mounts, &self.mount_add, &remove, |m| {
            m.target.trim_end_matches('/')
        });
        keyed(&mut c.ulimits, &self.ulimit_add, &self.ulimit_rm, |u| {
            &u.name
        });
        let hosts = |entries: &[HostEntry]| entries.iter().map(|h| h.0.clone()).collect::<Vec<_>>();
        list(&mut c.hosts, &hosts(&self.host_add), &hosts(&self.host_rm));
        list(&mut c.groups, &self.group_add, &self.group_rm);
        self.apply_capabilities(&mut c.cap_add, &mut c.cap_drop);
        let mut dns = c.dns.clone().unwrap_or_default();
        let texts =
            |ips: &[std::net::IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        list(
            &mut dns.nameservers,
            &texts(&self.dns_add),
            &texts(&self.dns_rm),
        );
        list(&mut dns.search, &self.dns_search_add, &self.dns_search_rm);
        list(&mut dns.options, &self.dns_option_add, &self.dns_option_rm);
        if c.dns.is_some() || dns != Default::default() {
            c.dns = Some(dns);
        }
        Ok(())
    }

    /// A capability that is added is not dropped any more, and the reverse.
    fn apply_capabilities(&self, add: &mut Vec<String>, drop: &mut Vec<String>) {
        list(add, &self.cap_add, &self.cap_drop);
        list(drop, &self.cap_drop, &self.cap_add);
    }

    fn apply_ports(&self, spec: &mut ServiceSpec) {
        if self.publish_add.is_empty() && self.publish_rm.is_empty() {
            return;
        }
        let ports = &mut spec.endpoint.get_or_insert_default().ports;
        let gone = |port: &skep_proto::v1::PortConfig| {
            self.publish_rm.iter().flatten().any(|rm| {
                rm.target_port == port.target_port
                    && rm.protocol == port.protocol
                    && (rm.published_port == 0 || rm.published_port == port.published_port)
            })
        };
        ports.retain(|port| !gone(port));
        for port in self.publish_add.iter().flatten() {
            ports.retain(|p| {
                p.published_port == 0
                    || (p.published_port, p.protocol, p.mode)
                        != (port.published_port, port.protocol, port.mode)
            });
            if !ports.contains(port) {
                ports.push(port.clone());
            }
        }
    }
}

fn map(map: &mut BTreeMap<String, String>, add: &[Pair], rm: &[String]) {
    map.retain(|key, _| !rm.contains(key));
    map.extend(add.iter().cloned());
}

fn list(items: &mut Vec<String>, add: &[String], rm: &[String]) {
    items.retain(|item| !rm.contains(item));
    for item in add {
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
}

/// The same where an item has a name, and a new one takes the old one's place.
fn keyed<T: Clone>(items: &mut Vec<T>, add: &[T], rm: &[String], key: impl Fn(&T) -> &str) {
    items.retain(|item| !rm.iter().any(|r| r == key(item)));
    for new in add {
        match items.iter_mut().find(|item| key(item) == key(new)) {
            Some(item) => *item = new.clone(),
            None => items.push(new.clone()),
        }
    }
}

/// Changes what the flags say.
fn edit(args: &Args, spec: &mut ServiceSpec) -> Result<()> {
    args.lists.apply(spec)?;
    args.common.apply(spec)?;
    if let Some(replicas) = args.replicas {
        if spec.is_global() {
            return Err(Error::invalid(
                "--replicas",
                "replicas can only be used with replicated mode",
            ));
        }
        spec.mode = Some(Mode::Replicated(Replicated { replicas }));
    }
    if args.force {
        let task = task(spec);
        task.force_update = task.force_update.wrapping_add(1);
    }
    let container = container(spec);
    if let Some(image) = &args.image {
        container.image.clone_from(image);
    }
    if let Some(words) = &args.args {
        container.args.clone_from(&words.0);
    }
    Ok(())
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let service = client.service(&args.service).await?;
    let mut spec = service.spec.clone().unwrap_or_default();
    if args.rollback {
        let mut edited = spec.clone();
        edit(&args, &mut edited)?;
        if edited != spec {
            return Err(CommandError::usage(Error::invalid(
                "--rollback",
                "other flags may not be combined with --rollback",
            )));
        }
    } else {
        edit(&args, &mut spec)?;
        if args.with_registry_auth {
            registry::authorize(ui, container(&mut spec)).await?;
        }
    }
    let response = client
        .write(Verb::UpdateService(UpdateService {
            service: service.id().to_owned(),
            version: service.meta().version,
            spec: (!args.rollback).then_some(spec),
            rollback: args.rollback,
        }))
        .await?;
    ui.line(&args.service)?;
    for warning in &response.warnings {
        ui.warning(warning);
    }
    let waiting = match args.rollback {
        true => args.waiting.for_rollback(),
        false => args.waiting,
    };
    converge(ui, &client, service.id(), &waiting).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::service;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn edited(spec: &ServiceSpec, line: &[&str]) -> ServiceSpec {
        let line = Line::try_parse_from([&["update"], line, &["web"]].concat()).unwrap();
        let mut spec = spec.clone();
        edit(&line.args, &mut spec).unwrap();
        spec
    }

    fn example() -> ServiceSpec {
        service("s1", "web", 2).spec.unwrap()
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let mut spec = example();
        spec.task
            .as_mut()
            .unwrap()
            .container
            .as_mut()
            .unwrap()
            .registry_auth = "kept".into();
        assert_eq!(edited(&spec, &[]), spec);
    }

    #[test]
    fn lists_are_added_to_and_removed_from() {
        let spec = edited(
            &example(),
            &[
                "--env-add",
                "A=1",
                "--env-add",
                "B=2",
                "--label-add",
                "x=y",
                "--mount-add",
                "source=d,target=/d",
                "--constraint-add",
                "node.role==worker",
                "--host-add",
                "db:10.0.0.7",
                "--cap-drop",
                "ALL",
                "--ulimit-add",
                "nofile=10",
            ],
        );
        let spec = edited(
            &spec,
            &[
                "--env-add",
                "A=3",
                "--env-rm",
                "B",
                "--label-rm",
                "x",
                "--mount-rm",
                "/d/",
                "--constraint-rm",
                "node.role==worker",
                "--host-rm",
                "db:10.0.0.7",
                "--cap-add",
                "ALL",
                "--ulimit-add",
                "nofile=20",
            ],
        );
        assert!(spec.labels.is_empty());
        let task = spec.task.unwrap();
        assert!(task.placement.unwrap().constraints.is_empty());
        let c = task.container.unwrap();
        assert_eq!(c.env, ["A=3"]);
        assert!(c.mounts.is_empty() && c.hosts.is_empty() && c.cap_drop.is_empty());
        assert_eq!(c.cap_add, ["ALL"]);
        assert_eq!((c.ulimits.len(), c.ulimits[0].soft), (1, 20));
    }

    #[test]
    fn a_port_is_removed_by_its_target() {
        let spec = edited(
            &example(),
            &["--publish-rm", "80", "--publish-add", "443:8443"],
        );
        let ports = spec.endpoint.unwrap().ports;
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].published_port, ports[0].target_port), (443, 8443));
    }

    #[test]
    fn a_port_that_is_published_again_moves() {
        let spec = edited(&example(), &["--publish-add", "8080:81"]);
        let ports = spec.endpoint.unwrap().ports;
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].target_port, 81);
    }

    #[test]
    fn force_counts_up_and_image_and_args_replace() {
        let spec = edited(
            &example(),
            &[
                "--force",
                "--image",
                "b:2",
                "--args",
                "-c 'a b'",
                "--replicas",
                "7",
            ],
        );
        assert_eq!(spec.replicas(), 7);
        let task = spec.task.unwrap();
        assert_eq!(task.force_update, 1);
        let c = task.container.unwrap();
        assert_eq!(
            (c.image.as_str(), c.args),
            ("b:2", vec!["-c".to_owned(), "a b".to_owned()])
        );
    }
}
