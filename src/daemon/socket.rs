//! The local socket: who may open it has an operator's rights.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Group, chown};
use skep_proto::{Error, Result};
use tokio::net::{UnixListener, UnixStream};

/// Binds `path` with mode 0660 and the group, in place of what a daemon that
/// is gone has left there.
pub async fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::precondition(format!("{}: {what}: {error}", path.display())).at("socket")
    };
    let gid = match group {
        Some(name) => Some(
            Group::from_name(name)
                .ok()
                .flatten()
                .ok_or_else(|| Error::invalid("group", format!("there is no group {name}")))?
                .gid,
        ),
        None => None,
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| failed("its folder cannot be made", &e))?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(
            Error::precondition(format!("another daemon serves {}", path.display()))
                .at("socket")
                .hint("stop it, or start this one with another --socket and --data-dir"),
        );
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("an old socket cannot be removed", &error)),
    }
    let listener = UnixListener::bind(path).map_err(|e| failed("cannot be bound", &e))?;
    chown(path, None, gid).map_err(|e| failed("its group cannot be set", &e))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(|e| failed("its mode cannot be set", &e))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_closed_to_others_and_to_a_second_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/skep.sock");
        let first = bind(&path, None).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(bind(&path, None).await.is_err());
        drop(first);
        bind(&path, None).await.unwrap();
        let error = bind(&path, Some("no-such-group-here")).await.unwrap_err();
        assert_eq!(error.field, "group");
    }
}
