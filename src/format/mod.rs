//! `--format`: Go templates with Docker's functions over any JSON value, and
//! the lists that they lay out.
//!
//! Invariant: knows no object of the swarm.

mod funcs;
mod listing;
mod value;

use gtmpl_ng::Context;
use serde_json::Value;
use skep_proto::{Error, Result};

pub use listing::{Column, Listing};

/// A parsed template.
pub struct Template(gtmpl_ng::Template);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Parses what `--format` was given; `\t` and `\n` may be written out.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, funcs::ROWS)
    }

    /// The same for a line of headers: functions leave them as they are.
    fn parse_for_headers(text: &str) -> Result<Self> {
        Self::parse_with(text, funcs::HEADERS)
    }

    fn parse_with(text: &str, functions: &[(&str, gtmpl_ng::Func)]) -> Result<Self> {
        let mut template = gtmpl_ng::Template::default();
        for (name, function) in functions {
            template.add_func(name, *function);
        }
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        template.parse(text).map_err(|error| {
            Error::invalid("--format", format!("template parsing error: {error}"))
                .hint("for example --format '{{.ID}}: {{.Name}}', or --format json")
        })?;
        Ok(Self(template))
    }

    /// What the template makes of `value`.
    pub fn render(&self, value: &Value) -> Result<String> {
        self.0
            .render(&Context::from(value::from_json(value)))
            .map_err(|error| {
                Error::invalid("--format", format!("template execution error: {error}"))
                    .hint("--format json shows the fields that there are")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, value: &Value) -> String {
        Template::parse(template).unwrap().render(value).unwrap()
    }

    #[test]
    fn dockers_functions_work() {
        let value = json!({
            "Name": "web front", "Args": ["a", "b"], "Labels": {"z": "1", "a": "2"},
            "Replicas": 3, "Ratio": 0.5, "None": null, "Text": "a,b",
        });
        let cases = [
            ("{{json .Args}}", r#"["a","b"]"#),
            ("{{json .Labels}}", r#"{"a":"2","z":"1"}"#),
            (
                "{{json .Replicas}} {{json .Ratio}} {{json .None}}",
                "3 0.5 null",
            ),
            ("{{join .Args \"-\"}}", "a-b"),
            ("{{upper .Name}} {{lower \"AB\"}}", "WEB FRONT ab"),
            ("{{title .Name}}", "Web Front"),
            ("{{index (split .Text \",\") 1}}", "b"),
            ("[{{pad .Text 1 2}}]", "[ a,b  ]"),
            ("{{truncate .Name 3}}", "web"),
            ("{{range .Args}}{{.}};{{end}}", "a;b;"),
            ("{{.Name}}\\t{{.Replicas}}", "web front\t3"),
            ("{{index .Labels \"z\"}} {{.Missing}}", "1 <no value>"),
            ("{{if gt .Replicas 2}}many{{end}}", "many"),
            ("{{printf \"%-5s|\" .Text}}", "a,b  |"),
        ];
        for (template, text) in cases {
            assert_eq!(render(template, &value), text, "{template}");
        }
    }

    #[test]
    fn a_broken_template_is_refused_with_an_example() {
        for broken in ["{{.ID", "{{nofunction .ID}}", "{{end}}"] {
            let error = Template::parse(broken).unwrap_err();
            assert_eq!(error.field, "--format", "{broken}");
            assert!(!error.hint.is_empty());
        }
    }
}
