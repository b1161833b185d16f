//! `skep explain`

use clap_complete::ArgValueCandidates;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{Explanation, Refusal, Task, TaskState, Verdict};

use super::rows::reason;
use super::{CommandResult, Session, completion, inspect};
use crate::shape;
use crate::ui::table::{columns_with, natural};
use crate::ui::{Ui, human};

/// Say why tasks are, or are not, where they should be
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: inspect::Format,
    /// A service or a task: id, name or unique prefix
    #[arg(value_name = "SERVICE|TASK", add = ArgValueCandidates::new(completion::services))]
    reference: String,
}

/// For `--format`.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    headline: String,
    desired: u64,
    running: u64,
    notes: Vec<String>,
    tasks: Vec<shape::Task>,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let explanation = session.client().await?.explain(&args.reference).await?;
    match args.format.format.as_deref() {
        Some(format) if !format.trim().is_empty() => {
            let shape = Shape {
                headline: explanation.headline.clone(),
                desired: explanation.desired,
                running: explanation.running,
                notes: explanation.notes.clone(),
                tasks: explanation
                    .tasks
                    .iter()
                    .map(|t| shape::Task::new(t, explanation.service.as_ref()))
                    .collect(),
            };
            inspect::print(ui, Some(format), &[shape])
        }
        _ => {
            ui.data(&text(&explanation, ui.now_ns()))?;
            Ok(())
        }
    }
}

fn text(explanation: &Explanation, now_ns: i64) -> String {
    let mut text = format!("{}\n", explanation.headline);
    for note in &explanation.notes {
        text.push_str(&format!("  {note}\n"));
    }
    let mut tasks: Vec<&Task> = explanation.tasks.iter().collect();
    tasks.sort_by(|a, b| natural(&a.short_name(), &b.short_name()));
    placed(&mut text, explanation, &tasks, now_ns);
    for (verdict, names) in unplaced(&tasks) {
        let waits = if names.len() == 1 { "waits" } else { "wait" };
        text.push_str(&format!(
            "\n{} {waits} for a node: {}\n",
            names.join(", "),
            verdict.summary
        ));
        refusals(&mut text, &verdict.refusals);
    }
    text
}

/// Tasks that have a node: where they are and how they do.
fn placed(text: &mut String, explanation: &Explanation, tasks: &[&Task], now_ns: i64) {
    let hostname = |id: &str| {
        let node = explanation.nodes.iter().find(|n| n.id() == id);
        node.map_or(id, |n| n.hostname()).to_owned()
    };
    let rows: Vec<Vec<String>> = tasks
        .iter()
        .filter(|t| t.state() > TaskState::Pending)
        .map(|t| {
            let since = t.status.as_ref().map_or(0, |s| s.at_ns);
            let mut row = vec![
                format!("  {}", t.short_name()),
                hostname(&t.node_id),
                format!(
                    "{} {}",
                    t.state().word(),
                    human::ago(now_ns, since).to_lowercase()
                ),
            ];
            let message = t.status.as_ref().map_or("", |s| s.message.as_str());
            match (reason(t), t.state() == TaskState::Running) {
                ("", true) => {}
                ("", false) => row.push(message.to_owned()),
                (reason, _) => row.push(reason.to_owned()),
            }
            row
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&columns_with(&rows, 0, 3));
    }
}

/// Tasks without a node; those with the same verdict together.
fn unplaced<'a>(tasks: &[&'a Task]) -> Vec<(&'a Verdict, Vec<String>)> {
    let mut groups: Vec<(&Verdict, Vec<String>)> = Vec::new();
    for task in tasks.iter().filter(|t| t.state() <= TaskState::Pending) {
        let Some(verdict) = &task.verdict else {
            continue;
        };
        let same = |(v, _): &&mut (&Verdict, Vec<String>)| {
            v.summary == verdict.summary && v.refusals == verdict.refusals
        };
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(task.short_name()),
            None => groups.push((verdict, vec![task.short_name()])),
        }
    }
    groups
}

fn refusals(text: &mut String, refusals: &[Refusal]) {
    if refusals.is_empty() {
        return;
    }
    let dash = |value: &str| match value {
        "" => "-".to_owned(),
        value => value.to_owned(),
    };
    let header = ["  FILTER", "NODES", "WHY", "NEAREST", "MISSING"];
    let mut rows = vec![header.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()];
    rows.extend(refusals.iter().map(|r| {
        vec![
            format!("  {}", shape::filter_word(r.filter())),
            r.nodes.to_string(),
            r.reason.clone(),
            dash(&r.nearest),
            dash(&r.missing),
        ]
    }));
    text.push_str(&columns_with(&rows, 0, 3));
    let mut remedies: Vec<&str> = refusals
        .iter()
        .map(|r| r.remedy.as_str())
        .filter(|r| !r.is_empty())
        .collect();
    remedies.dedup();
    if !remedies.is_empty() {
        text.push_str("  What would help:\n");
        for remedy in remedies {
            text.push_str(&format!("    {remedy}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::{NOW, node, service, task};
    use skep_proto::v1::Filter;

    #[test]
    fn tasks_with_the_same_verdict_are_told_once() {
        let verdict = Verdict {
            at_ns: NOW,
            nodes: 4,
            refusals: vec![
                Refusal {
                    filter: Filter::Constraint.into(),
                    nodes: 3,
                    reason: "constraint node.labels.zone==eu not met".into(),
                    nearest: "beta".into(),
                    missing: String::new(),
                    remedy: "skep node update --label-add zone=eu NODE".into(),
                },
                Refusal {
                    filter: Filter::Resources.into(),
                    nodes: 1,
                    reason: "not enough memory".into(),
                    nearest: "alpha".into(),
                    missing: "128 MiB memory short".into(),
                    remedy: String::new(),
                },
            ],
            summary: "no suitable node (3 constraint; 1 memory)".into(),
        };
        let pending = |id: &str, slot| Task {
            verdict: Some(verdict.clone()),
            ..task(id, slot, TaskState::Pending, TaskState::Running, 1)
        };
        let explanation = Explanation {
            service: Some(service("s1", "web", 3)),
            tasks: vec![
                pending("c", 3),
                pending("b", 2),
                task("a", 1, TaskState::Running, TaskState::Running, 5),
            ],
            nodes: vec![node("n1", "alpha", None)],
            desired: 3,
            running: 1,
            notes: vec!["The swarm waits for a node that fits.".into()],
            headline: "web: 1 of 3 running; 2 wait for a node".into(),
        };
        insta::assert_snapshot!(text(&explanation, NOW), @r#"
web: 1 of 3 running; 2 wait for a node
  The swarm waits for a node that fits.

  web.1   alpha   running 5 minutes ago

web.2, web.3 wait for a node: no suitable node (3 constraint; 1 memory)
  FILTER       NODES   WHY                                       NEAREST   MISSING
  constraint   3       constraint node.labels.zone==eu not met   beta      -
  resources    1       not enough memory                         alpha     128 MiB memory short
  What would help:
    skep node update --label-add zone=eu NODE
"#);
    }
}
