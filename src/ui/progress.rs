//! How something comes along: rows that change in place on a terminal, a line
//! per change elsewhere.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;

/// Redraws per second on a terminal.
const REDRAWS_PER_SECOND: u8 = 20;
/// Width of a bar in characters, without its brackets.
const BAR: usize = 50;

/// One progress display; it stays on the screen as it was last.
#[derive(Debug)]
pub struct Progress<'a> {
    ui: &'a mut Ui,
    face: Face,
}

#[derive(Debug)]
enum Face {
    Quiet,
    /// The last text of each row, so that only changes are said.
    Lines(BTreeMap<String, String>),
    Rows {
        screen: MultiProgress,
        rows: BTreeMap<String, ProgressBar>,
        overall: ProgressBar,
        footer: ProgressBar,
    },
}

impl<'a> Progress<'a> {
    pub(super) fn new(ui: &'a mut Ui, quiet: bool) -> Self {
        // What was said before must be above the rows.
        let _ = ui.flush();
        let face = match (quiet, ui.err_tty) {
            (true, _) => Face::Quiet,
            (false, false) => Face::Lines(BTreeMap::new()),
            (false, true) => {
                let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
                let screen = MultiProgress::with_draw_target(target);
                let overall = screen.add(row());
                let footer = screen.add(row());
                Face::Rows {
                    screen,
                    rows: BTreeMap::new(),
                    overall,
                    footer,
                }
            }
        };
        Self { ui, face }
    }

    /// Unix nanoseconds by the screen's clock.
    pub fn now_ns(&self) -> i64 {
        self.ui.now_ns()
    }

    /// The first row.
    pub fn overall(&mut self, text: &str) {
        match &self.face {
            Face::Rows { overall, .. } => overall.set_message(text.to_owned()),
            _ => self.line("", text),
        }
    }

    /// The rows between, in the order of their keys: what is not given goes.
    pub fn rows(&mut self, texts: &BTreeMap<String, String>) {
        match &mut self.face {
            Face::Quiet => {}
            Face::Lines(last) => {
                last.retain(|key, _| key.is_empty() || key == "footer" || texts.contains_key(key))
            }
            Face::Rows {
                screen,
                rows,
                overall,
                ..
            } => {
                rows.retain(|key, bar| {
                    let keep = texts.contains_key(key);
                    if !keep {
                        bar.finish_and_clear();
                        screen.remove(bar);
                    }
                    keep
                });
                let mut above = overall.clone();
                for (key, text) in texts {
                    let bar = rows
                        .entry(key.clone())
                        .or_insert_with(|| screen.insert_after(&above, row()));
                    bar.set_message(text.clone());
                    above = bar.clone();
                }
                return;
            }
        }
        for (key, text) in texts {
            self.line(key, text);
        }
    }

    /// The last row.
    pub fn footer(&mut self, text: &str) {
        match &self.face {
            Face::Rows { footer, .. } => footer.set_message(text.to_owned()),
            _ => self.line("footer", text),
        }
    }

    /// Whether rows are redrawn in place, so that bars make sense.
    pub fn is_live(&self) -> bool {
        matches!(self.face, Face::Rows { .. })
    }

    /// Leaves the display as it is.
    pub fn end(self) {
        if let Face::Rows {
            rows,
            overall,
            footer,
            ..
        } = self.face
        {
            overall.abandon();
            rows.values().for_each(ProgressBar::abandon);
            footer.abandon();
        }
    }

    fn line(&mut self, key: &str, text: &str) {
        let Face::Lines(last) = &mut self.face else {
            return;
        };
        if text.is_empty() || last.get(key).is_some_and(|l| l == text) {
            return;
        }
        last.insert(key.to_owned(), text.to_owned());
        let text = text.to_owned();
        self.ui.status(&text);
    }
}

fn row() -> ProgressBar {
    // The template is a constant: should it not parse, the default shows the message too.
    let style = ProgressStyle::with_template("{wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::no_length().with_style(style)
}

/// `[=====>    ]` at `step` of `steps`.
pub fn bar(step: usize, steps: usize) -> String {
    let filled = (BAR * step.min(steps)).checked_div(steps).unwrap_or(0);
    let mut text = String::with_capacity(BAR + 3);
    text.push('[');
    text.extend(std::iter::repeat_n('=', filled));
    text.push('>');
    text.extend(std::iter::repeat_n(' ', BAR.saturating_sub(filled)));
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn without_a_terminal_only_changes_are_said() {
        let (mut ui, seen) = Ui::captured(None, 0);
        let mut progress = ui.progress(false);
        for _ in 0..2 {
            progress.overall("overall progress: 1 out of 2 tasks");
            progress.rows(&texts(&[("1", "1/2: running"), ("2", "2/2: pending")]));
        }
        progress.rows(&texts(&[("2", "2/2: running")]));
        progress.end();
        assert_eq!(
            seen.err(),
            "overall progress: 1 out of 2 tasks\n1/2: running\n2/2: pending\n2/2: running\n"
        );
    }

    #[test]
    fn quiet_progress_says_nothing() {
        let (mut ui, seen) = Ui::captured(None, 0);
        let mut progress = ui.progress(true);
        progress.overall("x");
        progress.footer("y");
        progress.end();
        assert_eq!(seen.err(), "");
    }

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(bar(0, 9).matches('=').count(), 0);
        assert_eq!(bar(9, 9).matches('=').count(), BAR);
        assert_eq!(bar(20, 9).len(), BAR + 3);
    }
}
