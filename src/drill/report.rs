//! What a drill found, for people and for programs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json as value};

use super::Mode;
use super::load::{Call, Client, Sample};
use super::timeline::{Window, label};

/// One round.
#[derive(Debug, Clone)]
pub struct Report {
    /// From 1.
    pub round: u32,
    /// What was done to the leader.
    pub mode: Mode,
    /// Hostname of the leader that ended.
    pub old_leader: String,
    /// Hostname of the next one.
    pub new_leader: String,
    /// Until a read through a survivor named it.
    pub new_leader_after: Option<Duration>,
    /// Until a write that was begun after the end was acknowledged.
    pub first_write_after: Option<Duration>,
    /// Until a read that was begun after the end was answered.
    pub first_read_after: Option<Duration>,
    /// What each client felt.
    pub clients: Vec<ClientReport>,
    /// Writes that were acknowledged in the round.
    pub writes_acknowledged: usize,
    /// Those of them that the swarm does not know afterwards.
    pub writes_lost: usize,
    /// Tasks that ran before.
    pub tasks_watched: usize,
    /// Those that no longer run in the same container, or new ones.
    pub tasks_changed: usize,
    /// How long after the clients were served the ended manager was back.
    pub back_after: Option<Duration>,
    /// When the leader was told to end.
    pub ended_at: Instant,
    /// Every call.
    pub samples: Vec<Sample>,
}

/// One client of one round.
#[derive(Debug, Clone)]
pub struct ClientReport {
    /// Hostname of its manager.
    pub at: String,
    /// Writing or reading.
    pub call: Call,
    /// Calls that were answered well.
    pub served: usize,
    /// Calls that failed.
    pub failed: usize,
    /// Longest time without an answer, around the leader's end.
    pub longest_gap: Duration,
}

impl ClientReport {
    pub(super) fn of(
        number: usize,
        client: &Client,
        samples: &[Sample],
        ended_at: Instant,
    ) -> Self {
        let mine: Vec<&Sample> = samples.iter().filter(|s| s.client == number).collect();
        let mut answers: Vec<Instant> = mine
            .iter()
            .filter(|s| s.result.is_ok())
            .map(|s| s.ended)
            .collect();
        answers.sort();
        let longest_gap = answers
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if *b >= ended_at => Some(*b - *a),
                _ => None,
            })
            .max()
            .unwrap_or_default();
        Self {
            at: client.at.clone(),
            call: client.call,
            served: answers.len(),
            failed: mine.len() - answers.len(),
            longest_gap,
        }
    }
}

/// The rounds as a program reads them. Times in milliseconds.
pub fn json(reports: &[Report]) -> Value {
    let ms = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1000.0);
    let rounds: Vec<Value> = reports
        .iter()
        .map(|r| {
            value!({
                "round": r.round,
                "mode": r.mode.done(),
                "old_leader": r.old_leader,
                "new_leader": r.new_leader,
                "new_leader_after_ms": ms(r.new_leader_after),
                "first_write_after_ms": ms(r.first_write_after),
                "first_read_after_ms": ms(r.first_read_after),
                "writes_acknowledged": r.writes_acknowledged,
                "writes_lost": r.writes_lost,
                "tasks_watched": r.tasks_watched,
                "tasks_changed": r.tasks_changed,
                "manager_back_after_ms": ms(r.back_after),
                "clients": r.clients.iter().map(|c| value!({
                    "manager": c.at,
                    "call": label(c.call),
                    "served": c.served,
                    "failed": c.failed,
                    "longest_gap_ms": ms(Some(c.longest_gap)),
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    value!({
        "rounds": rounds,
        "first_write_after_ms": spread(reports, |r| r.first_write_after),
        "first_read_after_ms": spread(reports, |r| r.first_read_after),
        "new_leader_after_ms": spread(reports, |r| r.new_leader_after),
        "writes_lost": reports.iter().map(|r| r.writes_lost).sum::<usize>(),
        "tasks_changed": reports.iter().map(|r| r.tasks_changed).sum::<usize>(),
    })
}

fn spread(reports: &[Report], of: impl Fn(&Report) -> Option<Duration>) -> Value {
    let mut ms: Vec<f64> = reports
        .iter()
        .filter_map(of)
        .map(|d| d.as_secs_f64() * 1000.0)
        .collect();
    ms.sort_by(f64::total_cmp);
    value!({
        "min": ms.first(),
        "median": median(&ms),
        "max": ms.last(),
        "n": ms.len(),
    })
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((upper + *sorted.get(middle.checked_sub(1)?)?) / 2.0)
}

/// One round as a person reads it: the figures, then the picture.
pub fn text(report: &Report, columns: usize) -> String {
    let mut out = String::new();
    let time = |d: Option<Duration>| d.map_or_else(|| "never".to_owned(), show);
    let _ = writeln!(
        out,
        "Round {}: leader {} {}",
        report.round,
        report.old_leader,
        report.mode.done()
    );
    let rows = [
        (
            "new leader",
            format!(
                "{} after {}",
                report.new_leader,
                time(report.new_leader_after)
            ),
        ),
        ("first write after", time(report.first_write_after)),
        ("first read after", time(report.first_read_after)),
        (
            "writes lost",
            format!(
                "{} of {} acknowledged",
                report.writes_lost, report.writes_acknowledged
            ),
        ),
        (
            "tasks changed",
            format!(
                "{} of {} running",
                report.tasks_changed, report.tasks_watched
            ),
        ),
        (
            "manager back",
            report.back_after.map_or_else(
                || "not yet".to_owned(),
                |d| format!("{} after the clients", show(d)),
            ),
        ),
    ];
    for (name, figure) in rows {
        let _ = writeln!(out, "  {name:<18} {figure}");
    }
    let longest = report
        .clients
        .iter()
        .map(|c| c.longest_gap)
        .max()
        .unwrap_or_default();
    let wide = report.clients.iter().map(|c| c.at.len()).max().unwrap_or(0);
    let window = Window::around(report.ended_at, longest, columns.saturating_sub(wide + 30));
    let _ = writeln!(out);
    for (number, client) in report.clients.iter().enumerate() {
        let _ = writeln!(
            out,
            "  {:<wide$} {:<6} {} gap {}{}",
            client.at,
            label(client.call),
            window.row(&report.samples, number),
            show(client.longest_gap),
            if client.failed > 0 {
                format!(", {} failed", client.failed)
            } else {
                String::new()
            },
        );
    }
    let indent = " ".repeat(wide + 10);
    let mark = window.column(report.ended_at);
    let _ = writeln!(out, "{indent}{}▲ {}", " ".repeat(mark), report.mode.done());
    out
}

/// Several rounds on a few lines: least, median and most of each figure.
pub fn summary(reports: &[Report]) -> String {
    let mut out = format!("{} rounds (median, least to most)\n", reports.len());
    type Figure = fn(&Report) -> Option<Duration>;
    let figures: [(&str, Figure); 4] = [
        ("new leader after", |r| r.new_leader_after),
        ("first write after", |r| r.first_write_after),
        ("first read after", |r| r.first_read_after),
        ("longest gap", |r| {
            r.clients.iter().map(|c| c.longest_gap).max()
        }),
    ];
    for (name, figure) in figures {
        let mut times: Vec<Duration> = reports.iter().filter_map(figure).collect();
        times.sort();
        if let (Some(least), Some(most), Some(median)) =
            (times.first(), times.last(), times.get(times.len() / 2))
        {
            let _ = writeln!(
                out,
                "  {name:<18} {} ({} to {})",
                show(*median),
                show(*least),
                show(*most)
            );
        }
    }
    let lost: usize = reports.iter().map(|r| r.writes_lost).sum();
    let acknowledged: usize = reports.iter().map(|r| r.writes_acknowledged).sum();
    let changed: usize = reports.iter().map(|r| r.tasks_changed).sum();
    let _ = writeln!(
        out,
        "  {:<18} {lost} of {acknowledged} acknowledged",
        "writes lost"
    );
    let _ = writeln!(out, "  {:<18} {changed}", "tasks changed");
    out
}

fn show(d: Duration) -> String {
    let ms = d.as_secs_f64() * 1000.0;
    if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_gap_counts_only_around_the_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let samples: Vec<Sample> = [(0, 1), (500, 501), (520, 570)]
            .into_iter()
            .map(|(from, to)| Sample {
                client: 0,
                call: Call::Read,
                started: at(from),
                ended: at(to),
                result: Ok(String::new()),
            })
            .collect();
        let client = Client {
            at: "n".into(),
            call: Call::Read,
        };
        let report = ClientReport::of(0, &client, &samples, at(510));
        assert_eq!(report.longest_gap, Duration::from_millis(69));
        assert_eq!(report.served, 3);
    }
}
