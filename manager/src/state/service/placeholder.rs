//! Placeholders in a spec, `{{.Node.Hostname}}`: each worker fills them in for
//! its own task; here they are only read, so that a mistake is told at once.

use skep_proto::{Error, Result};

/// What may stand between `{{` and `}}`, besides `index .Service.Labels "KEY"`.
pub const PLACEHOLDERS: &[&str] = &[
    ".Service.ID",
    ".Service.Name",
    ".Node.ID",
    ".Node.Hostname",
    ".Node.Platform.Architecture",
    ".Node.Platform.OS",
    ".Task.ID",
    ".Task.Name",
    ".Task.Slot",
];

/// Whether `text` has any placeholder, valid or not.
pub(super) fn has_any(text: &str) -> bool {
    text.contains("{{")
}

/// Refuses a placeholder that no worker could fill in.
pub(super) fn validate(field: &str, text: &str) -> Result<()> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some(end) = end_of(after) else {
            return Err(Error::invalid(field, "has {{ without }}").hint(known()));
        };
        let inner = after.get(..end).unwrap_or_default().trim();
        if !PLACEHOLDERS.contains(&inner) && !is_label_index(inner) {
            return Err(
                Error::invalid(field, format!("{{{{{inner}}}}} is not a placeholder"))
                    .hint(known()),
            );
        }
        rest = after.get(end + 2..).unwrap_or_default();
    }
    Ok(())
}

fn known() -> String {
    let all: Vec<String> = PLACEHOLDERS
        .iter()
        .map(|p| format!("{{{{{p}}}}}"))
        .collect();
    format!(
        "placeholders are {}, {{{{index .Service.Labels \"KEY\"}}}}",
        all.join(", ")
    )
}

/// Where the closing `}}` is, one within quotes not counted.
fn end_of(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '}' if !quoted && chars.peek().is_some_and(|(_, next)| *next == '}') => {
                return Some(at);
            }
            _ => {}
        }
    }
    None
}

/// `index .Service.Labels "KEY"`; the key has no quote and no backslash in it.
fn is_label_index(inner: &str) -> bool {
    let key = inner
        .strip_prefix("index")
        .map(str::trim_start)
        .and_then(|rest| rest.strip_prefix(".Service.Labels"))
        .map(str::trim_start)
        .and_then(|rest| rest.strip_prefix('"'))
        .and_then(|rest| rest.strip_suffix('"'));
    key.is_some_and(|key| !key.is_empty() && !key.contains(['"', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_placeholders_are_taken_with_or_without_blanks() {
        for text in [
            "",
            "plain }} text",
            "{{.Node.Hostname}}",
            "a-{{ .Task.Slot }}-{{.Service.Name}}",
            "{{index .Service.Labels \"a.b/c\"}}",
            "{{index .Service.Labels \"odd}}key\"}}",
        ] {
            assert_eq!(validate("env", text), Ok(()), "{text}");
        }
    }

    #[test]
    fn an_unknown_or_unclosed_placeholder_names_the_known_ones() {
        for text in [
            "{{.Node.Hostname",
            "{{}}",
            "{{.Node.Name}}",
            "{{.Service.Labels}}",
            "{{ join }}",
            "{{index .Service.Labels}}",
            "{{index .Service.Labels \"\"}}",
            "{{.Task.ID}}{{.X}}",
        ] {
            let error = validate("task.container.env[0]", text).unwrap_err();
            assert_eq!(error.field, "task.container.env[0]");
            assert!(error.hint.contains(".Node.Platform.OS"), "{text}");
        }
    }
}
