//! `key=value` in its many uses.

use skep_proto::v1::FilterTerm;

pub use skep_proto::v1::Ulimit;

use super::Parsed;

/// A key with its value.
pub type Pair = (String, String);

/// `IP name`, as hosts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry(pub String);

/// `key=value`, or `key` for an empty value.
pub fn key_value(text: &str) -> Parsed<Pair> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err("the key is missing; expected key=value, such as zone=eu".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `NAME=value`; `NAME` alone takes the value that the name has here.
pub fn env(text: &str) -> Parsed<String> {
    let (name, value) = match text.split_once('=') {
        Some((name, _)) => (name, Some(text.to_owned())),
        None => (
            text,
            std::env::var(text).ok().map(|v| format!("{text}={v}")),
        ),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("there is no name; expected NAME=value, such as MODE=fast".into());
    }
    // A name that is set nowhere stays a name: the engine takes it for unset.
    Ok(value.unwrap_or_else(|| text.to_owned()))
}

/// `key=value` of `--filter`.
pub fn filter(text: &str) -> Parsed<FilterTerm> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok(FilterTerm {
            key: key.trim().to_ascii_lowercase(),
            value: value.trim().to_owned(),
        }),
        _ => Err("expected key=value, such as name=web".into()),
    }
}

/// `name:IP`, kept as `IP name`.
pub fn host_entry(text: &str) -> Parsed<HostEntry> {
    let wrong = || "expected name:IP, such as db:10.0.0.7".to_owned();
    let (name, ip) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || ip.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong());
    }
    Ok(HostEntry(format!("{ip} {name}")))
}

/// `name=soft[:hard]`.
pub fn ulimit(text: &str) -> Parsed<Ulimit> {
    let wrong = || "expected name=soft[:hard], such as nofile=1024:65536".to_owned();
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |s: &str| s.parse::<i64>().ok().filter(|n| *n >= -1);
    match (number(soft), number(hard)) {
        (Some(soft), Some(hard)) if !name.is_empty() => {
            if hard >= 0 && (soft > hard || soft < 0) {
                return Err(format!(
                    "the soft limit {soft} is above the hard one {hard}"
                ));
            }
            Ok(Ulimit {
                name: name.to_owned(),
                soft,
                hard,
            })
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_sign() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a"), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        let term = filter("label=a=b").unwrap();
        assert_eq!((term.key.as_str(), term.value.as_str()), ("label", "a=b"));
        assert!(filter("name").is_err());
    }

    #[test]
    fn environment_names_take_their_value_from_here() {
        assert_eq!(env("A=1"), Ok("A=1".into()));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(env("PATH"), Ok(format!("PATH={path}")));
        assert_eq!(
            env("SURELY_NOT_SET_ANYWHERE"),
            Ok("SURELY_NOT_SET_ANYWHERE".into())
        );
        assert!(env("=x").is_err());
    }

    #[test]
    fn hosts_are_turned_around() {
        assert_eq!(
            host_entry("db:10.0.0.7"),
            Ok(HostEntry("10.0.0.7 db".into()))
        );
        assert_eq!(host_entry("db:fd00::1"), Ok(HostEntry("fd00::1 db".into())));
        assert!(host_entry("db").is_err());
        assert!(host_entry("db:nowhere").is_err());
    }

    #[test]
    fn one_limit_is_both() {
        let limit = ulimit("nofile=1024").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, 1024));
        let limit = ulimit("memlock=-1:-1").unwrap();
        assert_eq!((limit.soft, limit.hard), (-1, -1));
        assert!(ulimit("nofile=2:1").is_err());
        assert!(ulimit("nofile").is_err());
        assert!(ulimit("nofile=x").is_err());
    }
}
