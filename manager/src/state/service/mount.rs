//! What is mounted where.

use std::collections::BTreeMap;

use skep_proto::v1::{Mount, MountType};
use skep_proto::{Error, Result};

use super::placeholder;
use crate::state::check;

/// Permission bits, sticky and set-id bits included.
const MODE_MAX: u32 = 0o7777;

pub(super) fn validate(field: &str, mounts: &[Mount]) -> Result<()> {
    let mut targets: BTreeMap<String, String> = BTreeMap::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = format!("{field}[{i}]");
        one(&at, mount)?;
        let target = check::clean_path(&mount.target);
        let at = format!("{at}.target");
        if let Some(other) = targets.get(&target) {
            return Err(check::conflict(
                &at,
                other,
                format!("duplicate mount point: {target}"),
            ));
        }
        targets.insert(target, at);
    }
    Ok(())
}

fn one(at: &str, mount: &Mount) -> Result<()> {
    let (source, target) = (format!("{at}.source"), format!("{at}.target"));
    let Ok(kind) = MountType::try_from(mount.r#type) else {
        return Err(Error::invalid(
            format!("{at}.type"),
            format!("{} is not a value it can have", mount.r#type),
        )
        .hint("it can be bind, volume, tmpfs"));
    };
    check::absolute_path(&target, &mount.target)?;
    placeholder::validate(&target, &mount.target)?;
    if check::clean_path(&mount.target) == "/" {
        return Err(Error::invalid(
            target,
            "the container's / cannot be mounted over",
        ));
    }
    check::text(&source, &mount.source)?;
    placeholder::validate(&source, &mount.source)?;
    match kind {
        MountType::Bind => bind_source(&source, &mount.source)?,
        MountType::Volume => volume_source(&source, &mount.source)?,
        MountType::Tmpfs if !mount.source.is_empty() => {
            return Err(Error::invalid(source, "a tmpfs has no source").hint("leave it out"));
        }
        MountType::Tmpfs => {}
    }
    tmpfs_options(at, kind, mount)
}

fn bind_source(field: &str, source: &str) -> Result<()> {
    // What a placeholder becomes is known on the worker only.
    if source.starts_with("{{") {
        return Ok(());
    }
    if !source.starts_with('/') {
        return Err(Error::invalid(
            field,
            format!("invalid bind mount source, must be an absolute path: {source:?}"),
        )
        .hint("for a named volume use type=volume"));
    }
    Ok(())
}

fn volume_source(field: &str, source: &str) -> Result<()> {
    if source.is_empty() || placeholder::has_any(source) {
        return Ok(());
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let fits = source.len() >= 2
        && source
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && source.bytes().all(inner);
    if fits {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{source:?} is not a volume name"))
        .hint("volume names have letters, digits, _ . - and at least two characters; for a path use type=bind"))
}

fn tmpfs_options(at: &str, kind: MountType, mount: &Mount) -> Result<()> {
    if kind != MountType::Tmpfs {
        for (name, set) in [
            ("tmpfs_size_bytes", mount.tmpfs_size_bytes != 0),
            ("tmpfs_mode", mount.tmpfs_mode != 0),
        ] {
            if set {
                return Err(Error::invalid(
                    format!("{at}.{name}"),
                    format!("is for a tmpfs, but {at}.type is another"),
                ));
            }
        }
    }
    if mount.tmpfs_size_bytes < 0 {
        return Err(Error::invalid(
            format!("{at}.tmpfs_size_bytes"),
            "is negative",
        ));
    }
    if mount.tmpfs_mode > MODE_MAX {
        return Err(Error::invalid(
            format!("{at}.tmpfs_mode"),
            format!(
                "{:o} has more than the permission bits 7777",
                mount.tmpfs_mode
            ),
        ));
    }
    Ok(())
}
