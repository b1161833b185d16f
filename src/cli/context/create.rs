//! `skep context create`

use skep_proto::v1::IssueOperatorRequest;

use crate::cli::{CommandResult, Session, parse};
use crate::client::{Bundle, Contexts};
use crate::ui::Ui;

/// Make a certificate for operating this swarm from elsewhere
///
/// Run it on a manager; `skep context export` then makes a file to take along.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the certificate lives [default: a year]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    valid_for: Option<i64>,
    /// Name of the context, and of the operator in the certificate
    #[arg(value_name = "NAME")]
    name: String,
}

pub async fn run(args: Args, ui: &mut Ui, session: &Session) -> CommandResult {
    let contexts = Contexts::of_user()?;
    contexts.check_free(&args.name)?;
    let client = session.client().await?;
    let mut local = client.local("context create")?;
    let issued = client
        .bounded(local.issue_operator(IssueOperatorRequest {
            name: args.name.clone(),
            valid_for_ns: args.valid_for.unwrap_or_default(),
        }))
        .await?;
    let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
    contexts.save(&Bundle {
        name: args.name.clone(),
        cluster_id: issued.cluster_id,
        managers: issued.managers.into_iter().map(|m| m.addr).collect(),
        root_pem: text(issued.root_pem),
        cert_pem: text(issued.cert_pem),
        key_pem: text(issued.key_pem),
    })?;
    ui.line(&args.name)?;
    ui.hint(&format!(
        "skep context export {name} {name}.skep writes a file that \
         skep context import takes in elsewhere",
        name = args.name
    ));
    Ok(())
}
