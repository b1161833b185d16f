//! `skep node update`

use clap_complete::ArgValueCandidates;
use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{Availability, NodeSpec, Role, UpdateNode};
use skep_proto::{Error, Result};

use crate::cli::parse::{self, Pair};
use crate::cli::{CommandError, CommandResult, Session, completion};
use crate::client::Client;
use crate::ui::Ui;

/// Change a node
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whether it takes tasks: active, pause or drain
    #[arg(long, value_name = "WORD", value_parser = availability)]
    availability: Option<Availability>,
    /// What it is: worker or manager
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// Add or change a label (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    label_add: Vec<Pair>,
    /// Remove a label (can be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Id, hostname, unique prefix, or self
    #[arg(value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    node: String,
}

fn availability(word: &str) -> std::result::Result<Availability, String> {
    Availability::from_word(word)
        .ok_or_else(|| format!("expected one of {}", Availability::all_words()))
}

fn role(word: &str) -> std::result::Result<Role, String> {
    Role::from_word(word).ok_or_else(|| format!("expected one of {}", Role::all_words()))
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    if args.availability.is_none()
        && args.role.is_none()
        && args.label_add.is_empty()
        && args.label_rm.is_empty()
    {
        return Err(CommandError::usage(
            Error::invalid("node update", "nothing to change was given")
                .hint("for example --availability drain, or --label-add zone=eu"),
        ));
    }
    let client = session.client().await?;
    let warnings = change(&client, &args.node, |spec| {
        if let Some(availability) = args.availability {
            spec.set_availability(availability);
        }
        if let Some(role) = args.role {
            spec.set_role(role);
        }
        for key in &args.label_rm {
            if spec.labels.remove(key).is_none() {
                return Err(
                    Error::invalid("--label-rm", format!("the node has no label {key}"))
                        .hint(format!("skep node inspect {} shows them", args.node)),
                );
            }
        }
        spec.labels.extend(args.label_add.iter().cloned());
        Ok(())
    })
    .await?;
    for warning in &warnings {
        ui.warning(warning);
    }
    ui.line(&args.node)?;
    Ok(())
}

/// Changes a node's spec, and returns what the manager warns of.
pub async fn change(
    client: &Client,
    reference: &str,
    edit: impl FnOnce(&mut NodeSpec) -> Result<()>,
) -> Result<Vec<String>> {
    let node = client.node(reference).await?;
    let mut spec = node.spec.clone().unwrap_or_default();
    edit(&mut spec)?;
    let response = client
        .write(Verb::UpdateNode(UpdateNode {
            node: node.id().to_owned(),
            version: node.meta().version,
            spec: Some(spec),
        }))
        .await?;
    Ok(response.warnings)
}
