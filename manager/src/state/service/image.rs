//! Image references: `registry.example.com:5000/team/web:1.2@sha256:…`.

use skep_proto::{Error, Result};

/// Where images without a registry come from.
const REGISTRY_DEFAULT: &str = "docker.io";
const NAME_LEN_MAX: usize = 255;

/// The registry that an image is pulled from: `docker.io` when none is named.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if is_registry(first) => first,
        _ => REGISTRY_DEFAULT,
    }
}

pub(super) fn validate(field: &str, image: &str) -> Result<()> {
    if image.is_empty() {
        return Err(Error::invalid(field, "image reference must be provided"));
    }
    match fault(image) {
        None => Ok(()),
        Some(fault) => Err(Error::invalid(
            field,
            format!("{image:?} is not a valid repository/tag: {fault}"),
        )
        .hint("write it as [REGISTRY/]NAME[:TAG][@DIGEST], the name in lower case")),
    }
}

/// A first component with a dot or a port is a host and not a folder.
fn is_registry(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.chars().any(|c| c.is_ascii_uppercase())
}

fn fault(image: &str) -> Option<&'static str> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|d| !is_digest(d)) {
        return Some("its digest is malformed");
    }
    // A colon after the last slash begins the tag; one before it, a port.
    let last = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest.get(last..).and_then(|tail| tail.find(':')) {
        Some(at) => (rest.get(..last + at)?, rest.get(last + at + 1..)),
        None => (rest, None),
    };
    if tag.is_some_and(|t| !is_tag(t)) {
        return Some("its tag is malformed");
    }
    if name.len() > NAME_LEN_MAX {
        return Some("its name is longer than 255 characters");
    }
    let path = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => {
            if !is_host(first) {
                return Some("its registry is malformed");
            }
            path
        }
        _ => name,
    };
    if path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some("64 hexadecimal digits are an id and not a name");
    }
    if !path.split('/').all(is_component) {
        return Some("its name is malformed");
    }
    None
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address keeps its colons inside brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_fits = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let bracketed = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .is_some_and(|n| n.parse::<std::net::Ipv6Addr>().is_ok());
    let labelled = name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    port_fits && (bracketed || labelled)
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or dashes.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(alphanumeric)
        || !bytes.last().copied().is_some_and(alphanumeric)
    {
        return false;
    }
    component
        .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let len_min = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == len_min
        && hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_can_pull_is_valid() {
        let digest = format!("alpine@sha256:{}", "0a".repeat(32));
        for image in [
            "alpine",
            "alpine:3.20",
            "library/alpine:latest",
            "localhost/x",
            "localhost:5000/x:1",
            "registry.example.com:5000/team/web_app__a-b.c:V1.2-x",
            "127.0.0.1:5000/a",
            "[::1]:5000/a",
            digest.as_str(),
        ] {
            assert_eq!(validate("image", image), Ok(()), "{image}");
        }
    }

    #[test]
    fn what_no_engine_can_pull_is_refused() {
        let id = "ab".repeat(32);
        for image in [
            "",
            "Alpine",
            "alpine:",
            "alpine: 3",
            "alpine@",
            "alpine@sha256:12",
            "/alpine",
            "a//b",
            "a/",
            "a___b",
            "-a",
            "a.",
            "host.io:99999/a",
            "host.io:/a",
            "-host.io/a",
            "a b",
            "ü",
            id.as_str(),
            "a:b:c",
        ] {
            assert!(validate("image", image).is_err(), "{image}");
        }
    }

    #[test]
    fn the_registry_is_the_first_part_that_looks_like_a_host() {
        assert_eq!(registry("alpine"), "docker.io");
        assert_eq!(registry("team/alpine"), "docker.io");
        assert_eq!(registry("localhost/alpine"), "localhost");
        assert_eq!(
            registry("r.example.com:5000/team/a:1"),
            "r.example.com:5000"
        );
    }
}
