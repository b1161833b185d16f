//! Fills the placeholders that a spec may hold in its hostname, its
//! environment's values and its mounts: exactly Swarm's, nothing else.

use skep_proto::v1::Assignment;

use super::{Owner, RuntimeError, container_name};

/// What placeholders stand for on this node.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The task.
    pub assignment: &'a Assignment,
    /// The node.
    pub owner: &'a Owner,
    /// The node's architecture, as the kernel says it.
    pub architecture: &'a str,
}

/// `text` with its placeholders filled. `field` names the place for errors.
pub fn expand(context: Context<'_>, field: &str, text: &str) -> Result<String, RuntimeError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((inside, behind)) = after.split_once("}}") else {
            return Err(RuntimeError::Refused(format!(
                "{field}: \"{text}\" opens a placeholder with {{{{ and does not close it"
            )));
        };
        // Go's templates trim spaces at `{{- ` and ` -}}`.
        let inside = match inside.strip_prefix("- ") {
            Some(trimmed) => {
                filled.truncate(filled.trim_end().len());
                trimmed
            }
            None => inside,
        };
        let (inside, behind) = match inside.strip_suffix(" -") {
            Some(trimmed) => (trimmed, behind.trim_start()),
            None => (inside, behind),
        };
        filled.push_str(&value(context, field, inside.trim())?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(context: Context<'_>, field: &str, placeholder: &str) -> Result<String, RuntimeError> {
    let task = context.assignment;
    Ok(match placeholder {
        ".Service.ID" => task.service_id.clone(),
        ".Service.Name" => task.service_name.clone(),
        ".Node.ID" => context.owner.node_id.clone(),
        ".Node.Hostname" => context.owner.hostname.clone(),
        ".Node.Platform.Architecture" => context.architecture.to_owned(),
        ".Node.Platform.OS" => std::env::consts::OS.to_owned(),
        ".Task.ID" => task.task_id.clone(),
        ".Task.Name" => container_name(task),
        ".Task.Slot" if task.slot == 0 => task.node_id.clone(),
        ".Task.Slot" => task.slot.to_string(),
        other => return label(context, field, other),
    })
}

/// `index .Service.Labels "key"`; a label that is not there is an error.
fn label(context: Context<'_>, field: &str, placeholder: &str) -> Result<String, RuntimeError> {
    let key = placeholder
        .strip_prefix("index ")
        .map(str::trim_start)
        .and_then(|p| p.strip_prefix(".Service.Labels"))
        .map(str::trim)
        .and_then(|k| k.strip_prefix('"')?.strip_suffix('"'));
    let Some(key) = key else {
        return Err(RuntimeError::Refused(format!(
            "{field}: unknown placeholder {{{{{placeholder}}}}}; there are .Service.ID, \
             .Service.Name, index .Service.Labels \"KEY\", .Node.ID, .Node.Hostname, \
             .Node.Platform.Architecture, .Node.Platform.OS, .Task.ID, .Task.Name, .Task.Slot"
        )));
    };
    match context.assignment.service_labels.get(key) {
        Some(value) => Ok(value.clone()),
        None => Err(RuntimeError::Refused(format!(
            "{field}: the service has no label {key}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let owner = Owner {
            cluster_id: "c".into(),
            node_id: "n1".into(),
            hostname: "host-a".into(),
        };
        let assignment = Assignment {
            task_id: "t1".into(),
            service_id: "s1".into(),
            service_name: "web".into(),
            slot: 3,
            node_id: "n1".into(),
            service_labels: [("zone".to_owned(), "eu".to_owned())].into(),
            ..Assignment::default()
        };
        let context = Context {
            assignment: &assignment,
            owner: &owner,
            architecture: "x86_64",
        };
        expand(context, "hostname", text).map_err(|e| e.to_string())
    }

    #[test]
    fn swarms_placeholders_are_filled() {
        let cases = [
            ("plain", "plain"),
            ("{{.Node.Hostname}}", "host-a"),
            ("{{ .Service.Name }}-{{.Task.Slot}}", "web-3"),
            ("{{.Task.Name}}", "web.3.t1"),
            ("/srv/{{.Task.ID}}/x", "/srv/t1/x"),
            (r#"{{index .Service.Labels "zone"}}"#, "eu"),
            ("a {{- .Node.ID -}} b", "an1b"),
        ];
        for (text, filled) in cases {
            assert_eq!(check(text).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, word) in [
            ("{{.Task.Color}}", ".Task.Color"),
            ("{{.Node.Hostname", "does not close"),
            (r#"{{index .Service.Labels "none"}}"#, "no label none"),
        ] {
            let error = check(text).unwrap_err();
            assert!(
                error.contains(word) && error.contains("hostname"),
                "{error}"
            );
        }
    }
}
