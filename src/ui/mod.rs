//! Every byte that a person or a script sees goes through [`Ui`]: data to
//! stdout, all else (status, warnings, hints, errors, progress) to stderr.
//!
//! Invariant: knows no command and no server.

pub mod human;
pub mod progress;
mod screen;
pub mod table;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use skep_proto::Error;

pub use progress::Progress;
use screen::Style;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// If stderr is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal, the pipe or the file that a command writes to, and its clock.
pub struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    out_tty: bool,
    err_tty: bool,
    color: bool,
    columns: Option<usize>,
    fixed_now_ns: Option<i64>,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui")
            .field("out_tty", &self.out_tty)
            .field("err_tty", &self.err_tty)
            .finish_non_exhaustive()
    }
}

impl Ui {
    /// The process's own stdout and stderr.
    pub fn standard(color: Color) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_tty, err_tty) = (out.is_terminal(), err.is_terminal());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self {
            columns: screen::columns(),
            out: Box::new(io::BufWriter::new(out)),
            err: Box::new(err),
            out_tty,
            err_tty,
            color: match color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => err_tty && !plain,
            },
            fixed_now_ns: None,
        }
    }

    /// A screen that is only remembered, `columns` wide if it poses as a
    /// terminal, with a clock that stands still.
    pub fn captured(columns: Option<usize>, now_ns: i64) -> (Self, Captured) {
        let captured = Captured::default();
        let ui = Self {
            out: Box::new(captured.out.clone()),
            err: Box::new(captured.err.clone()),
            out_tty: columns.is_some(),
            err_tty: false,
            color: false,
            columns,
            fixed_now_ns: Some(now_ns),
        };
        (ui, captured)
    }

    /// Unix nanoseconds.
    pub fn now_ns(&self) -> i64 {
        self.fixed_now_ns.unwrap_or_else(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
    }

    /// Columns of the terminal that stdout is; `None` when it is none.
    pub fn out_columns(&self) -> Option<usize> {
        self.columns.filter(|_| self.out_tty)
    }

    /// Whether stdout is a terminal.
    pub fn is_out_terminal(&self) -> bool {
        self.out_tty
    }

    /// Data, as it is: to stdout.
    pub fn data(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())
    }

    /// A line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Data that need not be text: container output.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Container output that went to stderr goes to stderr.
    pub fn error_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.flush()?;
        self.err.write_all(bytes)
    }

    /// Hands over what is still buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }

    /// A sentence on what happened.
    pub fn status(&mut self, text: &str) {
        self.note(&format!("{text}\n"));
    }

    /// Something that went well but not as one would wish.
    pub fn warning(&mut self, text: &str) {
        let label = self.styled(Style::Warning, "Warning:");
        self.note(&format!("{label} {text}\n"));
    }

    /// What to do next.
    pub fn hint(&mut self, text: &str) {
        let label = self.styled(Style::Hint, "Hint:");
        self.note(&format!("{label} {text}\n"));
    }

    /// What went wrong, in which field, and what to do about it.
    pub fn error(&mut self, error: &Error) {
        let label = self.styled(Style::Error, "Error:");
        let mut text = error.to_string();
        if !error.object.is_empty() && !text.contains(name_of(&error.object)) {
            text = format!("{}: {text}", error.object);
        }
        self.note(&format!("{label} {text}\n"));
        if !error.hint.is_empty() {
            let hint = error.hint.clone();
            self.hint(&hint);
        }
    }

    /// Shows how something comes along: as bars on a terminal, as lines
    /// elsewhere, or not at all when `quiet`.
    pub fn progress(&mut self, quiet: bool) -> Progress<'_> {
        Progress::new(self, quiet)
    }

    /// What goes to stderr has no more room to complain.
    fn note(&mut self, text: &str) {
        let _ = self.out.flush();
        let _ = self.err.write_all(text.as_bytes());
        let _ = self.err.flush();
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.color {
            style.paint(text)
        } else {
            text.to_owned()
        }
    }
}

/// `web` of `service web`.
fn name_of(object: &str) -> &str {
    object.rsplit(' ').next().unwrap_or(object)
}

/// What a captured [`Ui`] was told.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    out: Buffer,
    err: Buffer,
}

impl Captured {
    /// What went to stdout.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What went to stderr.
    pub fn err(&self) -> String {
        self.err.text()
    }
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_proto::Code;

    #[test]
    fn data_goes_to_stdout_and_all_else_to_stderr() {
        let (mut ui, seen) = Ui::captured(None, 0);
        ui.line("id").unwrap();
        ui.warning("slow");
        ui.error(&Error::invalid("name", "is empty").hint("give one"));
        assert_eq!(seen.out(), "id\n");
        assert_eq!(
            seen.err(),
            "Warning: slow\nError: name: is empty\nHint: give one\n"
        );
    }

    #[test]
    fn an_error_names_its_object_once() {
        let (mut ui, seen) = Ui::captured(None, 0);
        ui.error(&Error::not_found("service", "web"));
        ui.error(&Error::new(Code::OutOfSequence, "changed meanwhile").on("service web"));
        assert_eq!(
            seen.err(),
            "Error: service web not found\nHint: skep service ls lists what there is\n\
             Error: service web: changed meanwhile\n"
        );
    }
}
