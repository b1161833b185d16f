//! The network of this manager, silently gone for a while: for drills.
//!
//! Packets of the cluster's port are dropped by an nftables table of our own;
//! connections stay open, as they do when a cable is pulled.

use std::process::Stdio;
use std::time::Duration;

use skep_proto::{Error, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest cut: the node must not be lost to whoever drills it.
pub const CUT_MAX: Duration = Duration::from_secs(60);
/// A call of `nft` that takes longer has failed.
const NFT_TIMEOUT: Duration = Duration::from_secs(5);

const TABLE: &str = "skep_drill";

/// Drops what goes to and comes from `ports` on this host for `duration`, then
/// lets it pass again. Returns when the cut is over.
pub async fn cut(port: u16, duration: Duration) -> Result<()> {
    let rules = format!(
        "table inet {TABLE} {{\n\
         chain in {{ type filter hook input priority -300; tcp dport {port} drop; tcp sport {port} drop; }}\n\
         chain out {{ type filter hook output priority -300; tcp dport {port} drop; tcp sport {port} drop; }}\n\
         }}\n"
    );
    nft(&rules).await?;
    tokio::time::sleep(duration.min(CUT_MAX)).await;
    heal().await
}

/// Removes what a cut has left, if anything: also done when a daemon starts.
pub async fn heal() -> Result<()> {
    // Adding before deleting makes the deletion succeed whether it is there or not.
    nft(&format!(
        "add table inet {TABLE}\ndelete table inet {TABLE}\n"
    ))
    .await
}

async fn nft(rules: &str) -> Result<()> {
    let failed = |why: String| {
        Error::precondition(format!(
            "nft cannot change this host's packet filter: {why}"
        ))
        .hint("a cut needs the nft command (Debian's nftables) and the right to use it")
    };
    let run = async {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(NFT_TIMEOUT, run).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {NFT_TIMEOUT:?}"))),
    }
}
