//! `skep events`

use std::time::Duration;

use skep_proto::names::Words;
use skep_proto::v1::{Event, FilterTerm, WatchRequest};
use skep_proto::{Code, Error, Result};

use super::{CommandResult, Session, parse};
use crate::format::Template;
use crate::shape;
use crate::ui::{Ui, human};

/// Before a stream that ended is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Show what happens in the swarm from now on
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep events that fit: type, event, node, service, label (can be repeated)
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::filter)]
    filter: Vec<FilterTerm>,
    /// Show what happens to tasks too
    #[arg(long)]
    tasks: bool,
    /// json, or a Go template such as '{{.Type}} {{.Action}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let format = Format::parse(args.format.as_deref())?;
    let client = session.client().await?;
    let watch = WatchRequest {
        filters: args.filter,
        tasks: args.tasks,
    };
    let mut events = client.watch(watch.clone()).await?;
    loop {
        ui.flush()?;
        let message = tokio::select! {
            message = events.message() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let error = match message {
            Ok(Some(event)) if event.missed > 0 => {
                ui.warning(&format!(
                    "too much happened at once: {} transactions are not shown",
                    event.missed
                ));
                continue;
            }
            Ok(Some(event)) => {
                ui.line(&format.render(&event)?)?;
                continue;
            }
            Ok(None) => skep_proto::Error::unavailable("the manager ended the stream"),
            Err(status) => Error::from(status),
        };
        if !matches!(error.code(), Code::Unavailable | Code::Exhausted) {
            return Err(error.into());
        }
        ui.warning(&format!("{error}; some events may be missing"));
        tokio::time::sleep(PAUSE).await;
        events = client.watch(watch.clone()).await?;
    }
}

enum Format {
    Line,
    Json,
    Template(Template),
}

impl Format {
    fn parse(text: Option<&str>) -> Result<Self> {
        Ok(match text.map(str::trim) {
            None | Some("") => Self::Line,
            Some("json") => Self::Json,
            Some(text) => Self::Template(Template::parse(text)?),
        })
    }

    fn render(&self, event: &Event) -> Result<String> {
        match self {
            Self::Line => Ok(line(event)),
            Self::Json => Ok(shape::value(&shape::Event::from(event))?.to_string()),
            Self::Template(template) => template.render(&shape::value(&shape::Event::from(event))?),
        }
    }
}

/// `2026-… service update q0x… (name=web, replicas.new=5, replicas.old=3)`
fn line(event: &Event) -> String {
    let attributes: Vec<String> = event
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!(
        "{} {} {} {} ({})",
        human::rfc3339_fixed(event.at_ns),
        event.kind().word(),
        shape::action_word(event.action()),
        event.id,
        attributes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::v1::{Kind, event::Action};

    #[test]
    fn an_event_is_a_line_or_what_the_template_makes_of_it() {
        let event = Event {
            at_ns: 1_767_323_045_600_000_000,
            action: Action::Update.into(),
            kind: Kind::Service.into(),
            id: "s1".into(),
            attributes: [
                ("name".to_owned(), "web".to_owned()),
                ("replicas.new".to_owned(), "5".to_owned()),
            ]
            .into(),
            version: 9,
            missed: 0,
        };
        let render = |format| Format::parse(format).unwrap().render(&event).unwrap();
        assert_eq!(
            render(None),
            "2026-01-02T03:04:05.600000000Z service update s1 (name=web, replicas.new=5)"
        );
        assert_eq!(
            render(Some("{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")),
            "service update web"
        );
        assert!(render(Some("json")).contains("\"timeNano\":1767323045600000000"));
    }
}
