//! What every `inspect` has in common.

use std::future::Future;

use serde::Serialize;

use super::{CommandError, CommandResult, Exit};
use crate::format::Template;
use crate::shape;
use crate::ui::Ui;

/// What it prints and how.
#[derive(Debug, Default, clap::Args)]
pub struct Format {
    /// json, or a Go template such as '{{.Spec.Name}}'
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub format: Option<String>,
}

/// Prints objects as JSON, or as `format` wants them.
pub fn print<T: Serialize>(ui: &mut Ui, format: Option<&str>, objects: &[T]) -> CommandResult {
    match format.map(str::trim) {
        None | Some("") => ui.line(&shape::pretty(&objects)?)?,
        Some("json") => {
            for object in objects {
                ui.line(&shape::value(object)?.to_string())?;
            }
        }
        Some(format) => {
            let template = Template::parse(format)?;
            for object in objects {
                ui.line(&template.render(&shape::value(object)?)?)?;
            }
        }
    }
    Ok(())
}

/// Does something with each, says what fails, and goes on with the next.
pub async fn each<T, F>(
    ui: &mut Ui,
    references: &[String],
    act: impl Fn(String) -> F,
) -> Result<Vec<T>, (Vec<T>, CommandError)>
where
    F: Future<Output = skep_proto::Result<T>>,
{
    let mut done = Vec::new();
    let mut failed = false;
    for reference in references {
        match act(reference.clone()).await {
            Ok(value) => done.push(value),
            Err(error) => {
                failed = true;
                ui.error(&error);
            }
        }
    }
    if failed {
        Err((done, CommandError::said(Exit::Failed)))
    } else {
        Ok(done)
    }
}

/// Prints what was found, even if something was not.
pub fn print_found<T: Serialize>(
    ui: &mut Ui,
    format: Option<&str>,
    found: Result<Vec<T>, (Vec<T>, CommandError)>,
) -> CommandResult {
    match found {
        Ok(objects) => print(ui, format, &objects),
        Err((objects, error)) => {
            print(ui, format, &objects)?;
            Err(error)
        }
    }
}
