//! `skep service logs`

use std::collections::BTreeMap;
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use skep_proto::v1::logs_response::Item;
use skep_proto::v1::{LogLine, LogSource, LogStream, LogsRequest};
use skep_proto::{Code, Error};

use crate::cli::rows::short_id;
use crate::cli::{CommandError, CommandResult, Exit, Session, completion, parse};
use crate::ui::{Ui, human};

/// Before a stream that broke is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Show what the containers of a service or a task print
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what is printed from now on
    #[arg(long, short)]
    follow: bool,
    /// Last lines of each task, or all
    #[arg(long, short = 'n', value_name = "N", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Lines since a time such as 2026-01-02T15:04:05Z, or a duration ago such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show when each line was printed
    #[arg(long, short)]
    timestamps: bool,
    /// Show the lines alone, without what printed them
    #[arg(long, conflicts_with_all = ["no_task_ids", "no_resolve"])]
    raw: bool,
    /// Leave the tasks' ids out
    #[arg(long)]
    no_task_ids: bool,
    /// Show ids instead of names
    #[arg(long)]
    no_resolve: bool,
    /// Cut no ids
    #[arg(long)]
    no_trunc: bool,
    /// A service or a task: id, name or unique prefix
    #[arg(value_name = "SERVICE|TASK", add = ArgValueCandidates::new(completion::services))]
    reference: String,
}

/// How many lines; `None` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(Option<u64>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|n| Tail(Some(n)))
            .map_err(|_| "expected a number of lines such as 100, or all".into()),
    }
}

/// The moment that `--since` names.
fn since(text: &str, now_ns: i64) -> Result<i64, Error> {
    if let Ok(ago_ns) = parse::duration(text) {
        return Ok(now_ns.saturating_sub(ago_ns));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation)]
        return Ok((seconds * 1e9) as i64);
    }
    let moment = text
        .parse::<jiff::Timestamp>()
        .ok()
        .map(|t| t.as_nanosecond())
        .or_else(|| {
            let day: jiff::civil::DateTime = text.parse().ok()?;
            let utc = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            Some(utc.timestamp().as_nanosecond())
        });
    moment.and_then(|ns| i64::try_from(ns).ok()).ok_or_else(|| {
        Error::invalid(
            "--since",
            format!("{text:?} is neither a time nor a duration"),
        )
        .hint("for example 2026-01-02T15:04:05Z, 2026-01-02 or 10m")
    })
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let since_ns = match &args.since {
        Some(text) => since(text, ui.now_ns()).map_err(CommandError::usage)?,
        None => 0,
    };
    let client = session.client().await?;
    let request = LogsRequest {
        reference: args.reference.clone(),
        follow: args.follow,
        tail: args.tail.0,
        since_ns,
        stdout: true,
        stderr: true,
    };
    let mut lines = client.logs(request.clone()).await?;
    let mut screen = Screen::new(&args);
    let mut newest_ns = 0;
    let mut gaps = false;
    loop {
        // What was read is on the screen before more is waited for.
        ui.flush()?;
        let message = tokio::select! {
            message = lines.message() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match message {
            Ok(Some(response)) => match response.item {
                Some(Item::Batch(batch)) => {
                    for line in &batch.lines {
                        newest_ns = newest_ns.max(line.at_ns);
                        screen.print(ui, line)?;
                    }
                }
                Some(Item::Source(source)) => screen.know(source),
                Some(Item::Gap(gap)) => {
                    gaps = true;
                    let node = match gap.hostname.is_empty() {
                        true => &gap.node_id,
                        false => &gap.hostname,
                    };
                    ui.warning(&format!("lines of node {node} are missing: {}", gap.reason));
                }
                None => {}
            },
            Ok(None) => break,
            Err(status) => {
                let error = Error::from(status);
                if !args.follow || error.code() != Code::Unavailable {
                    return Err(error.into());
                }
                ui.warning(&format!("{error}; some lines may be missing"));
                tokio::time::sleep(PAUSE).await;
                lines = client.logs(again(&request, newest_ns)).await?;
            }
        }
    }
    if gaps {
        return Err(CommandError::said(Exit::Failed));
    }
    Ok(())
}

/// The request that goes on behind the newest line that was shown.
fn again(request: &LogsRequest, newest_ns: i64) -> LogsRequest {
    if newest_ns == 0 {
        return request.clone();
    }
    LogsRequest {
        since_ns: newest_ns.saturating_add(1),
        tail: None,
        ..request.clone()
    }
}

/// Lays lines out.
struct Screen {
    raw: bool,
    timestamps: bool,
    task_ids: bool,
    resolve: bool,
    trunc: bool,
    sources: BTreeMap<String, String>,
    width: usize,
}

impl Screen {
    fn new(args: &Args) -> Self {
        Self {
            raw: args.raw,
            timestamps: args.timestamps,
            task_ids: !args.no_task_ids,
            resolve: !args.no_resolve,
            trunc: !args.no_trunc,
            sources: BTreeMap::new(),
            width: 0,
        }
    }

    /// `web.1.qs3ux2qz9lzy@alpha`
    fn know(&mut self, source: LogSource) {
        let service = match self.resolve {
            true => &source.service_name,
            false => &source.service_id,
        };
        let slot = match source.slot {
            0 => source.node_id.clone(),
            slot => slot.to_string(),
        };
        let mut name = format!("{service}.{slot}");
        if self.task_ids {
            let id = match self.trunc {
                true => short_id(&source.task_id),
                false => source.task_id.clone(),
            };
            name = format!("{name}.{id}");
        }
        let node = match self.resolve && !source.hostname.is_empty() {
            true => &source.hostname,
            false => &source.node_id,
        };
        name = format!("{name}@{node}");
        self.width = self.width.max(name.chars().count());
        self.sources.insert(source.task_id, name);
    }

    fn print(&self, ui: &mut Ui, line: &LogLine) -> std::io::Result<()> {
        let mut text = Vec::with_capacity(line.data.len() + 64);
        if self.timestamps {
            text.extend_from_slice(human::rfc3339_fixed(line.at_ns).as_bytes());
            text.push(b' ');
        }
        if !self.raw {
            let name = self.sources.get(&line.task_id).unwrap_or(&line.task_id);
            let pad = self.width.saturating_sub(name.chars().count());
            text.extend_from_slice(name.as_bytes());
            text.extend(std::iter::repeat_n(b' ', pad));
            text.extend_from_slice(b"    | ");
        }
        text.extend_from_slice(&line.data);
        if !line.data.ends_with(b"\n") {
            text.push(b'\n');
        }
        match line.stream() {
            LogStream::Stdout => ui.bytes(&text),
            LogStream::Stderr => ui.error_bytes(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn printed(flags: &[&str]) -> (String, String) {
        let line = Line::try_parse_from([&["logs"], flags, &["web"]].concat()).unwrap();
        let mut screen = Screen::new(&line.args);
        let (mut ui, seen) = Ui::captured(None, 0);
        for (task, node, slot) in [
            ("aaaaaaaaaaaaaaaa", "alpha", 1),
            ("bbbbbbbbbbbbbbbb", "be", 10),
        ] {
            screen.know(LogSource {
                task_id: task.into(),
                service_name: "web".into(),
                service_id: "s1".into(),
                slot,
                node_id: "n1".into(),
                hostname: node.into(),
            });
        }
        let log = |task: &str, stream: LogStream, text: &'static str| LogLine {
            task_id: task.into(),
            stream: stream.into(),
            at_ns: 1_767_323_045_600_000_000,
            data: text.as_bytes().into(),
        };
        screen
            .print(
                &mut ui,
                &log("aaaaaaaaaaaaaaaa", LogStream::Stdout, "hello\n"),
            )
            .unwrap();
        screen
            .print(&mut ui, &log("bbbbbbbbbbbbbbbb", LogStream::Stderr, "oops"))
            .unwrap();
        (seen.out(), seen.err())
    }

    #[test]
    fn lines_carry_what_printed_them() {
        let (out, err) = printed(&[]);
        assert_eq!(out, "web.1.aaaaaaaaaaaa@alpha    | hello\n");
        assert_eq!(err, "web.10.bbbbbbbbbbbb@be      | oops\n");
    }

    #[test]
    fn flags_strip_lines_down() {
        assert_eq!(printed(&["--raw"]).0, "hello\n");
        assert_eq!(printed(&["--no-task-ids"]).0, "web.1@alpha    | hello\n");
        assert_eq!(
            printed(&["--raw", "--timestamps"]).0,
            "2026-01-02T03:04:05.600000000Z hello\n"
        );
        assert_eq!(
            printed(&["--no-trunc"]).0,
            "web.1.aaaaaaaaaaaaaaaa@alpha    | hello\n"
        );
    }

    #[test]
    fn a_stream_that_breaks_goes_on_behind_what_was_shown() {
        let request = LogsRequest {
            tail: Some(0),
            since_ns: 5,
            follow: true,
            ..LogsRequest::default()
        };
        assert_eq!(again(&request, 0), request);
        let on = again(&request, 9);
        assert_eq!((on.since_ns, on.tail, on.follow), (10, None, true));
    }

    #[test]
    fn since_is_a_time_or_a_duration_ago() {
        let now = 1_767_323_045_000_000_000;
        assert_eq!(since("10s", now), Ok(now - 10_000_000_000));
        assert_eq!(since("2026-01-02T03:04:05Z", now), Ok(now));
        assert_eq!(since("2026-01-02T04:04:05+01:00", now), Ok(now));
        assert_eq!(since("2026-01-02T03:04:05", now), Ok(now));
        assert_eq!(since("2026-01-02", now), Ok(now - 11_045_000_000_000));
        assert_eq!(since("1767323045", now), Ok(now));
        assert_eq!(since("yesterday", now).unwrap_err().field, "--since");
    }
}
