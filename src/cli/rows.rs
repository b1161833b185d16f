//! Rows that several verbs print: tasks under their slots, ports, names for ids.

use std::collections::BTreeMap;

use skep_proto::Result;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{Node, PortConfig, PortMode, Service, Task, TaskState};

use super::CommandResult;
use crate::client::Client;
use crate::format::{Column, Listing};
use crate::ui::table::{ellipsis, natural, width};
use crate::ui::{Ui, human};

/// Characters of an id that are shown where it may be cut.
const ID_SHOWN: usize = 12;
/// Characters of an error that are shown on a narrow terminal.
const ERROR_SHOWN_MIN: usize = 30;

/// What ids stand for.
#[derive(Debug, Default)]
pub struct Names {
    services: BTreeMap<String, Service>,
    nodes: BTreeMap<String, Node>,
}

impl Names {
    /// Of everything that there is.
    pub async fn fetch(client: &Client) -> Result<Self> {
        let (services, nodes) =
            tokio::try_join!(client.services(Vec::new()), client.nodes(Vec::new()))?;
        Ok(Self::of(services, nodes))
    }

    /// Of these.
    pub fn of(services: Vec<Service>, nodes: Vec<Node>) -> Self {
        Self {
            services: services
                .into_iter()
                .map(|s| (s.id().to_owned(), s))
                .collect(),
            nodes: nodes.into_iter().map(|n| (n.id().to_owned(), n)).collect(),
        }
    }

    /// A node's hostname, or its id when the node is gone.
    pub fn node(&self, id: &str) -> String {
        self.nodes
            .get(id)
            .map(Node::hostname)
            .filter(|name| !name.is_empty())
            .unwrap_or(id)
            .to_owned()
    }

    fn image(&self, task: &Task) -> String {
        self.services
            .get(&task.service_id)
            .and_then(|s| s.template(task.template_version))
            .and_then(|t| t.task.as_ref()?.container.as_ref())
            .map(|c| c.image.clone())
            .unwrap_or_default()
    }
}

/// How tasks are listed.
#[derive(Debug, Default, clap::Args)]
pub struct Tasks {
    /// table, json, or a Go template such as '{{.Name}}: {{.CurrentState}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show ids instead of names
    #[arg(long)]
    no_resolve: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "ID"),
    Column::shown("Name", "NAME"),
    Column::shown("Image", "IMAGE"),
    Column::shown("Node", "NODE"),
    Column::shown("DesiredState", "DESIRED STATE"),
    Column::shown("CurrentState", "CURRENT STATE"),
    Column::shown("Error", "ERROR"),
    Column::shown("Ports", "PORTS"),
];
/// Where the error stands.
const ERROR_COLUMN: usize = 6;

impl Tasks {
    /// Prints them: by name, the newest of a slot first, older ones below it.
    pub fn print(&self, ui: &mut Ui, tasks: Vec<Task>, names: &Names) -> CommandResult {
        let text = self.render(tasks, names, ui.now_ns(), ui.out_columns())?;
        ui.data(&text)?;
        Ok(())
    }

    fn render(
        &self,
        mut tasks: Vec<Task>,
        names: &Names,
        now_ns: i64,
        columns: Option<usize>,
    ) -> Result<String> {
        tasks.sort_by(|a, b| {
            natural(&a.short_name(), &b.short_name())
                .then_with(|| b.meta().created_at_ns.cmp(&a.meta().created_at_ns))
                .then_with(|| a.id().cmp(b.id()))
        });
        let id = |id: &str| match self.no_trunc {
            true => id.to_owned(),
            false => short_id(id),
        };
        if self.quiet {
            return Ok(tasks.iter().map(|t| format!("{}\n", id(t.id()))).collect());
        }
        let is_table = self
            .format
            .as_deref()
            .is_none_or(|f| f.trim().starts_with("table") || f.trim().is_empty());
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut previous = String::new();
        for task in &tasks {
            let slot = if self.no_resolve {
                task.short_name()
                    .replacen(&task.service_name, &task.service_id, 1)
            } else {
                task.short_name()
            };
            let name = if is_table && slot == previous {
                format!(" \\_ {slot}")
            } else {
                slot.clone()
            };
            previous = slot;
            let image = names.image(task);
            rows.push(vec![
                id(task.id()),
                name,
                if self.no_trunc {
                    image
                } else {
                    without_digest(&image)
                },
                match self.no_resolve {
                    true => task.node_id.clone(),
                    false => names.node(&task.node_id),
                },
                capitalized(task.desired().word()),
                current_state(task, now_ns),
                error(task),
                task.status
                    .as_ref()
                    .map(|s| ports(&s.ports, PortMode::Host))
                    .unwrap_or_default(),
            ]);
        }
        if is_table
            && !self.no_trunc
            && let Some(columns) = columns
        {
            cut_errors(&mut rows, columns);
        }
        let mut listing = Listing::new(COLUMNS);
        rows.into_iter().for_each(|row| listing.push(row));
        listing.render(self.format.as_deref())
    }
}

/// Errors get the room that the other columns leave.
fn cut_errors(rows: &mut [Vec<String>], columns: usize) {
    let others: usize = COLUMNS
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != ERROR_COLUMN)
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            cells
                .map(|c| width(c))
                .max()
                .unwrap_or(0)
                .max(width(column.header))
                + 3
        })
        .sum();
    let room = columns.saturating_sub(others + 3).max(ERROR_SHOWN_MIN);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(ERROR_COLUMN)) {
        if width(cell) > room {
            *cell = format!("{}\"", ellipsis(cell, room.saturating_sub(1)));
        }
    }
}

/// `Running 5 minutes ago`.
fn current_state(task: &Task, now_ns: i64) -> String {
    let since = task.status.as_ref().map_or(0, |s| s.at_ns);
    let since = if since == 0 {
        task.meta().created_at_ns
    } else {
        since
    };
    format!(
        "{} {}",
        capitalized(task.state().word()),
        human::ago(now_ns, since).to_lowercase()
    )
}

/// Why a task is not well, in quotes; empty if it is.
fn error(task: &Task) -> String {
    match reason(task) {
        "" => String::new(),
        reason => format!("\"{reason}\""),
    }
}

/// Why a task is not well: its error, or why it waits for a node.
pub fn reason(task: &Task) -> &str {
    let error = task.status.as_ref().map_or("", |s| s.error.as_str());
    if error.is_empty() && task.state() <= TaskState::Pending {
        return task.verdict.as_ref().map_or("", |v| v.summary.as_str());
    }
    error
}

/// The first characters of an id.
pub fn short_id(id: &str) -> String {
    id.chars().take(ID_SHOWN).collect()
}

/// `Ready` of `ready`.
pub fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// `nginx:1.27` of `nginx:1.27@sha256:…`.
pub fn without_digest(image: &str) -> String {
    image.split('@').next().unwrap_or(image).to_owned()
}

/// `*:80->80/tcp, *:8000-8002->8000-8002/tcp`: what of `mode` is published.
pub fn ports(ports: &[PortConfig], mode: PortMode) -> String {
    let mut ports: Vec<(&'static str, u32, u32)> = ports
        .iter()
        .filter(|p| p.mode() == mode)
        .map(|p| (p.protocol().word(), p.published_port, p.target_port))
        .collect();
    ports.sort_unstable();
    let mut ranges: Vec<(&'static str, u32, u32, u32)> = Vec::new();
    for (protocol, published, target) in ports {
        match ranges.last_mut() {
            Some((p, from, to, length))
                if *p == protocol && *from + *length == published && *to + *length == target =>
            {
                *length += 1;
            }
            _ => ranges.push((protocol, published, target, 1)),
        }
    }
    let texts: Vec<String> = ranges
        .into_iter()
        .map(|(protocol, published, target, length)| {
            let range = |first: u32| match length {
                1 => first.to_string(),
                _ => format!("{first}-{}", first + length - 1),
            };
            format!("*:{}->{}/{protocol}", range(published), range(target))
        })
        .collect();
    texts.join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use skep_proto::v1::*;

    /// 2026-01-02 03:04:05 UTC.
    pub const NOW: i64 = 1_767_323_045_000_000_000;
    const MINUTE: i64 = 60_000_000_000;

    /// A node; a manager if `leader` says whether it leads.
    pub fn node(id: &str, hostname: &str, leader: Option<bool>) -> Node {
        Node {
            meta: Some(Meta {
                id: id.into(),
                version: 3,
                created_at_ns: NOW,
                ..Meta::default()
            }),
            spec: Some(NodeSpec {
                labels: [("zone".to_owned(), "eu".to_owned())].into(),
                role: i32::from(leader.is_some()),
                ..NodeSpec::default()
            }),
            description: Some(NodeDescription {
                hostname: hostname.into(),
                platform: Some(Platform {
                    architecture: "x86_64".into(),
                    os: "linux".into(),
                }),
                resources: Some(Resources {
                    nano_cpus: 4_000_000_000,
                    memory_bytes: 8 << 30,
                }),
                engine: Some(EngineDescription {
                    version: "28.2.2".into(),
                    plugins: vec![
                        Plugin {
                            r#type: "Log".into(),
                            name: "local".into(),
                        },
                        Plugin {
                            r#type: "Log".into(),
                            name: "json-file".into(),
                        },
                    ],
                    ..EngineDescription::default()
                }),
            }),
            status: Some(NodeStatus {
                state: NodeState::Ready.into(),
                addr: "10.0.0.1".into(),
                ..NodeStatus::default()
            }),
            manager: leader.map(|leader| ManagerStatus {
                raft_id: 1,
                addr: "10.0.0.1:2377".into(),
                leader,
                reachability: Reachability::Reachable.into(),
            }),
            ..Node::default()
        }
    }

    /// A replicated service.
    pub fn service(id: &str, name: &str, replicas: u64) -> Service {
        let task = TaskSpec {
            container: Some(ContainerSpec {
                image: "nginx:1.27@sha256:0123".into(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        };
        let endpoint = EndpointSpec {
            ports: vec![PortConfig {
                target_port: 80,
                published_port: 8080,
                ..PortConfig::default()
            }],
        };
        Service {
            meta: Some(Meta {
                id: id.into(),
                version: 5,
                created_at_ns: NOW,
                ..Meta::default()
            }),
            spec: Some(ServiceSpec {
                name: name.into(),
                task: Some(task.clone()),
                mode: Some(service_spec::Mode::Replicated(Replicated { replicas })),
                endpoint: Some(endpoint.clone()),
                ..ServiceSpec::default()
            }),
            template_version: 5,
            templates: vec![Template {
                version: 5,
                task: Some(task),
                endpoint: Some(endpoint),
            }],
            ..Service::default()
        }
    }

    /// A task of service `s1`, `minutes` old.
    pub fn task(id: &str, slot: u64, state: TaskState, desired: TaskState, minutes: i64) -> Task {
        Task {
            meta: Some(Meta {
                id: id.into(),
                created_at_ns: NOW - minutes * MINUTE,
                ..Meta::default()
            }),
            service_id: "s1".into(),
            service_name: "web".into(),
            slot,
            node_id: if state <= TaskState::Pending {
                String::new()
            } else {
                "n1".into()
            },
            template_version: 5,
            desired: desired.into(),
            status: Some(TaskStatus {
                state: state.into(),
                at_ns: NOW - minutes * MINUTE,
                ..TaskStatus::default()
            }),
            ..Task::default()
        }
    }

    fn example() -> (Vec<Task>, Names) {
        let mut failed = task(
            "aaaaaaaaaaaaaaaaa",
            1,
            TaskState::Failed,
            TaskState::Shutdown,
            9,
        );
        if let Some(status) = &mut failed.status {
            status.error = "task: non-zero exit (137): out of memory, killed by the kernel".into();
        }
        let mut pending = task(
            "ccccccccccccccccc",
            2,
            TaskState::Pending,
            TaskState::Running,
            1,
        );
        pending.verdict = Some(Verdict {
            summary: "no suitable node (1 drained)".into(),
            ..Verdict::default()
        });
        let running = task(
            "bbbbbbbbbbbbbbbbb",
            1,
            TaskState::Running,
            TaskState::Running,
            5,
        );
        let names = Names::of(
            vec![service("s1", "web", 2)],
            vec![node("n1", "alpha", None)],
        );
        (vec![failed, pending, running], names)
    }

    #[test]
    fn older_tasks_of_a_slot_hang_below_the_newest() {
        let (tasks, names) = example();
        let text = Tasks::default().render(tasks, &names, NOW, None).unwrap();
        insta::assert_snapshot!(text, @r#"
        ID             NAME        IMAGE        NODE      DESIRED STATE   CURRENT STATE                ERROR                                                              PORTS
        bbbbbbbbbbbb   web.1       nginx:1.27   alpha     Running         Running 5 minutes ago                                                                           
        aaaaaaaaaaaa    \_ web.1   nginx:1.27   alpha     Shutdown        Failed 9 minutes ago         "task: non-zero exit (137): out of memory, killed by the kernel"   
        cccccccccccc   web.2       nginx:1.27             Running         Pending about a minute ago   "no suitable node (1 drained)"
        "#);
    }

    #[test]
    fn errors_are_cut_only_where_the_terminal_is_too_narrow() {
        let (tasks, names) = example();
        let narrow = Tasks::default()
            .render(tasks.clone(), &names, NOW, Some(80))
            .unwrap();
        assert!(narrow.contains("…\""), "{narrow}");
        assert!(
            narrow.contains("\"no suitable node (1 drained)\""),
            "{narrow}"
        );
        let wide = Tasks::default()
            .render(tasks, &names, NOW, Some(200))
            .unwrap();
        assert!(wide.contains("killed by the kernel\""), "{wide}");
    }

    #[test]
    fn templates_see_whole_names_and_quiet_ids_only() {
        let (tasks, names) = example();
        let template = Tasks {
            format: Some("{{.Name}} {{.Node}}".into()),
            ..Tasks::default()
        };
        assert_eq!(
            template.render(tasks.clone(), &names, NOW, None).unwrap(),
            "web.1 alpha\nweb.1 alpha\nweb.2 \n"
        );
        let quiet = Tasks {
            quiet: true,
            ..Tasks::default()
        };
        assert_eq!(
            quiet.render(tasks, &names, NOW, None).unwrap(),
            "bbbbbbbbbbbb\naaaaaaaaaaaa\ncccccccccccc\n"
        );
    }

    #[test]
    fn neighbouring_ports_are_one_range() {
        let port = |published: u32, target: u32, mode: PortMode| PortConfig {
            published_port: published,
            target_port: target,
            mode: mode.into(),
            ..PortConfig::default()
        };
        let all = [
            port(8001, 81, PortMode::Ingress),
            port(8000, 80, PortMode::Ingress),
            port(9000, 80, PortMode::Ingress),
            port(7000, 70, PortMode::Host),
        ];
        assert_eq!(
            ports(&all, PortMode::Ingress),
            "*:8000-8001->80-81/tcp, *:9000->80/tcp"
        );
        assert_eq!(ports(&all, PortMode::Host), "*:7000->70/tcp");
    }
}
