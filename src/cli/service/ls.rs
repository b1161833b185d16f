//! `skep service ls`

use std::collections::BTreeMap;

use skep_proto::Result;
use skep_proto::objects::Identified;
use skep_proto::v1::{FilterTerm, PortMode, Service, Task, TaskState};

use crate::cli::rows::{ports, short_id, without_digest};
use crate::cli::{CommandResult, Session, parse};
use crate::format::{Column, Listing};
use crate::ui::Ui;
use crate::ui::table::natural;

/// List services
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub struct Args {
    /// Keep services that fit: id, name, label, mode (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    /// table, json, or a Go template such as '{{.Name}} {{.Replicas}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "ID"),
    Column::shown("Name", "NAME"),
    Column::shown("Mode", "MODE"),
    Column::shown("Replicas", "REPLICAS"),
    Column::shown("Image", "IMAGE"),
    Column::shown("Ports", "PORTS"),
];

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let client = session.client().await?;
    let mut services = client.services(args.filter).await?;
    services.sort_by(|a, b| natural(a.name(), b.name()));
    if args.quiet {
        for service in &services {
            ui.line(&short_id(service.id()))?;
        }
        return Ok(());
    }
    let tasks = if services.is_empty() {
        Vec::new()
    } else {
        client.tasks(Vec::new()).await?
    };
    ui.data(&render(&services, &tasks, args.format.as_deref())?)?;
    Ok(())
}

/// Running and wanted tasks of one service.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    running: u64,
    wanted: u64,
}

fn counts(tasks: &[Task]) -> BTreeMap<&str, Count> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for task in tasks {
        let count = counts.entry(task.service_id.as_str()).or_default();
        // Of any version, and even if it is being stopped: it does run.
        count.running += u64::from(task.state() == TaskState::Running);
        count.wanted += u64::from(task.desired() == TaskState::Running);
    }
    counts
}

fn render(services: &[Service], tasks: &[Task], format: Option<&str>) -> Result<String> {
    let counts = counts(tasks);
    let mut listing = Listing::new(COLUMNS);
    for service in services {
        let count = counts.get(service.id()).copied().unwrap_or_default();
        let endpoint = service
            .current_template()
            .and_then(|t| t.endpoint.as_ref())
            .or_else(|| service.spec.as_ref().and_then(|s| s.endpoint.as_ref()));
        listing.push(vec![
            short_id(service.id()),
            service.name().to_owned(),
            mode(service).to_owned(),
            replicas(service, count),
            without_digest(
                service
                    .spec
                    .as_ref()
                    .and_then(|s| s.container())
                    .map_or("", |c| c.image.as_str()),
            ),
            endpoint
                .map(|e| ports(&e.ports, PortMode::Ingress))
                .unwrap_or_default(),
        ]);
    }
    listing.render(format)
}

fn mode(service: &Service) -> &'static str {
    if service.is_global() {
        "global"
    } else {
        "replicated"
    }
}

fn replicas(service: &Service, count: Count) -> String {
    let wanted = if service.is_global() {
        count.wanted
    } else {
        service.replicas()
    };
    let max = service
        .spec
        .as_ref()
        .and_then(|s| s.task.as_ref()?.placement.as_ref())
        .map_or(0, |p| p.max_replicas);
    let mut text = format!("{}/{wanted}", count.running);
    if max > 0 && !service.is_global() {
        text.push_str(&format!(" (max {max} per node)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::{service, task};
    use skep_proto::v1::{Global, Placement, service_spec::Mode};

    #[test]
    fn the_columns_are_dockers() {
        let mut global = service("s2222222222222222", "agent", 0);
        if let Some(spec) = &mut global.spec {
            spec.mode = Some(Mode::Global(Global {}));
        }
        let mut limited = service("s3", "limited", 4);
        if let Some(task) = limited.spec.as_mut().and_then(|s| s.task.as_mut()) {
            task.placement = Some(Placement {
                max_replicas: 2,
                ..Placement::default()
            });
        }
        let services = [service("s1", "web", 3), global, limited];
        let tasks = [
            task("a", 1, TaskState::Running, TaskState::Running, 1),
            task("b", 2, TaskState::Running, TaskState::Shutdown, 1),
            task("c", 3, TaskState::Pending, TaskState::Running, 1),
        ];
        insta::assert_snapshot!(render(&services, &tasks, None).unwrap(), @r#"
        ID             NAME      MODE         REPLICAS               IMAGE        PORTS
        s1             web       replicated   2/3                    nginx:1.27   *:8080->80/tcp
        s22222222222   agent     global       0/0                    nginx:1.27   *:8080->80/tcp
        s3             limited   replicated   0/4 (max 2 per node)   nginx:1.27   *:8080->80/tcp
        "#);
        insta::assert_snapshot!(render(&[], &[], None).unwrap(), @"ID        NAME      MODE      REPLICAS   IMAGE     PORTS");
    }
}
