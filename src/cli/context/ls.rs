//! `skep context ls`

use crate::cli::CommandResult;
use crate::client::{Contexts, DEFAULT_CONTEXT, DEFAULT_SOCKET};
use crate::format::{Column, Listing};
use crate::ui::Ui;

/// List contexts; the one in use has a star
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub struct Args {
    /// table, json, or a Go template such as '{{.Name}} {{.Managers}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print names only
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: &[Column] = &[
    Column::shown("Name", "NAME"),
    Column::shown("ClusterID", "CLUSTER ID"),
    Column::shown("Managers", "MANAGERS"),
    Column::extra("Current", "CURRENT"),
];

pub fn run(args: &Args, ui: &mut Ui) -> CommandResult {
    let contexts = Contexts::of_user()?;
    let current = contexts.current();
    let mut listing = Listing::new(COLUMNS);
    let names = contexts.names()?;
    if args.quiet {
        for name in std::iter::once(DEFAULT_CONTEXT).chain(names.iter().map(String::as_str)) {
            ui.line(name)?;
        }
        return Ok(());
    }
    let is_table = args.format.as_deref().is_none_or(|f| f.trim() == "table");
    let mut row = |name: &str, cluster: String, managers: String| {
        let star = if is_table && name == current {
            " *"
        } else {
            ""
        };
        listing.push(vec![
            format!("{name}{star}"),
            cluster,
            managers,
            (name == current).to_string(),
        ]);
    };
    row(
        DEFAULT_CONTEXT,
        String::new(),
        format!("unix://{DEFAULT_SOCKET}"),
    );
    for name in &names {
        match contexts.load(name) {
            Ok(bundle) => row(name, bundle.cluster_id, bundle.managers.join(",")),
            Err(error) => {
                row(name, String::new(), String::new());
                ui.warning(&error.to_string());
            }
        }
    }
    ui.data(&listing.render(args.format.as_deref())?)?;
    Ok(())
}
