//! `--mount type=volume,source=data,target=/data,readonly`.

use skep_proto::v1::{Mount, MountType};

use super::{Parsed, size};

const EXAMPLE: &str = "expected fields such as type=volume,source=data,target=/data";

/// A mount in fields.
pub fn mount(text: &str) -> Parsed<Mount> {
    let mut mount = Mount {
        r#type: MountType::Volume.into(),
        ..Mount::default()
    };
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("type", Some(word)) => mount.r#type = kind(word)?.into(),
            ("source" | "src", Some(source)) => mount.source = source.to_owned(),
            ("target" | "dst" | "destination", Some(target)) => mount.target = target.to_owned(),
            ("readonly" | "ro", value) => mount.read_only = boolean(&key, value)?,
            ("tmpfs-size", Some(value)) => {
                mount.tmpfs_size_bytes = size(value).map_err(|e| format!("{key}: {e}"))?;
            }
            ("tmpfs-mode", Some(mode)) => {
                mount.tmpfs_mode = u32::from_str_radix(mode, 8)
                    .ok()
                    .filter(|m| *m <= 0o7777)
                    .ok_or_else(|| format!("{key}: expected an octal mode such as 1777"))?;
            }
            (_, None) => return Err(format!("field {key:?} has no value; {EXAMPLE}")),
            (_, Some(_)) => {
                return Err(format!(
                    "unknown field {key:?}; there are type, source, target, readonly, \
                     tmpfs-size and tmpfs-mode"
                ));
            }
        }
    }
    check(mount)
}

fn check(mount: Mount) -> Parsed<Mount> {
    let kind = mount.r#type();
    if mount.target.is_empty() {
        return Err(format!("target is missing; {EXAMPLE}"));
    }
    if !mount.target.starts_with('/') {
        return Err(format!("target {} is no absolute path", mount.target));
    }
    let is_tmpfs = kind == MountType::Tmpfs;
    if is_tmpfs && !mount.source.is_empty() {
        return Err("a tmpfs has no source".into());
    }
    if !is_tmpfs && (mount.tmpfs_size_bytes != 0 || mount.tmpfs_mode != 0) {
        return Err("tmpfs-size and tmpfs-mode go with type=tmpfs only".into());
    }
    if kind == MountType::Bind && !mount.source.starts_with('/') {
        return Err(format!(
            "source {:?} of a bind mount is no absolute path",
            mount.source
        ));
    }
    Ok(mount)
}

fn kind(word: &str) -> Parsed<MountType> {
    match word {
        "bind" => Ok(MountType::Bind),
        "volume" => Ok(MountType::Volume),
        "tmpfs" => Ok(MountType::Tmpfs),
        _ => Err(format!("type {word:?} is none of bind, volume and tmpfs")),
    }
}

fn boolean(key: &str, value: Option<&str>) -> Parsed<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key}: {other:?} is neither true nor false")),
    }
}

/// Fields between commas; a field in double quotes may hold commas.
pub(super) fn fields(text: &str) -> Parsed<Vec<String>> {
    let mut fields = vec![];
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_field_by_field() {
        let m = mount("type=bind,src=/srv,dst=/data,ro").unwrap();
        assert_eq!(m.r#type(), MountType::Bind);
        assert_eq!((m.source.as_str(), m.target.as_str()), ("/srv", "/data"));
        assert!(m.read_only);
        let m = mount("source=data,target=/data").unwrap();
        assert_eq!(m.r#type(), MountType::Volume);
        let m = mount("type=tmpfs,target=/tmp,tmpfs-size=64m,tmpfs-mode=1777").unwrap();
        assert_eq!((m.tmpfs_size_bytes, m.tmpfs_mode), (64 << 20, 0o1777));
        let m = mount("\"source=a,b\",target=/x,readonly=false").unwrap();
        assert_eq!(m.source, "a,b");
        assert!(!m.read_only);
    }

    #[test]
    fn a_wrong_mount_says_what_is_wrong() {
        let cases = [
            ("source=data", "target is missing"),
            ("target=data", "no absolute path"),
            ("type=nfs,target=/x", "none of bind"),
            ("type=bind,source=rel,target=/x", "no absolute path"),
            ("type=tmpfs,source=a,target=/x", "no source"),
            ("target=/x,tmpfs-size=1m", "type=tmpfs only"),
            ("target=/x,colour=red", "unknown field"),
            ("target=/x,source", "no value"),
            ("target=/x,ro=maybe", "neither true nor false"),
            ("\"target=/x", "not closed"),
        ];
        for (text, why) in cases {
            let error = mount(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
