//! What is known of the terminal.

/// How a label stands out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    Error,
    Warning,
    Hint,
}

impl Style {
    /// `text` in this style, by ANSI codes.
    pub(super) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Error => "1;31",
            Self::Warning => "1;33",
            Self::Hint => "1;36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns of the terminal, if stdout or stderr is one.
pub(super) fn columns() -> Option<usize> {
    terminal_size::terminal_size()
        .map(|(width, _)| usize::from(width.0))
        .filter(|columns| *columns > 0)
}
