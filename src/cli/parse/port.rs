//! `--publish 8080:80/tcp` and `--publish published=8080,target=80,mode=host`.

use skep_proto::names::Words;
use skep_proto::v1::{PortConfig, PortMode, PortProtocol};

use super::Parsed;
use super::mount::fields;

/// Most ports that one range may stand for.
const RANGE_MAX: u32 = 1_000;
const EXAMPLE: &str = "expected 8080:80, 53:53/udp or published=8080,target=80,mode=host";

/// The ports that one flag stands for: several for a range.
pub type PortSpec = Vec<PortConfig>;

/// Ports in the short or the long form.
pub fn port(text: &str) -> Parsed<PortSpec> {
    if text.contains('=') {
        long(text)
    } else {
        short(text)
    }
}

fn long(text: &str) -> Parsed<PortSpec> {
    let mut port = PortConfig::default();
    for field in fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("field {field:?} has no value; {EXAMPLE}"));
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "published" => port.published_port = number(value)?,
            "target" => port.target_port = number(value)?,
            "protocol" => port.protocol = protocol(value)?.into(),
            "mode" => {
                port.mode = PortMode::from_word(value)
                    .ok_or_else(|| format!("mode {value:?} is neither ingress nor host"))?
                    .into();
            }
            other => {
                return Err(format!(
                    "unknown field {other:?}; there are published, target, protocol and mode"
                ));
            }
        }
    }
    if port.target_port == 0 {
        return Err(format!("target is missing; {EXAMPLE}"));
    }
    Ok(vec![port])
}

fn short(text: &str) -> Parsed<PortSpec> {
    let (ports, word) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(word)?;
    let parts: Vec<&str> = ports.split(':').collect();
    let (published, target) = match parts.as_slice() {
        [target] => (None, range(target)?),
        ["", target] => (None, range(target)?),
        [published, target] => (Some(range(published)?), range(target)?),
        // A host address would be ignored: better to say so.
        _ => {
            return Err(format!(
                "a service's port cannot be bound to one address; {EXAMPLE}"
            ));
        }
    };
    let count = target.1 - target.0;
    if let Some(published) = published
        && published.1 - published.0 != count
    {
        return Err("the two ranges differ in length".into());
    }
    Ok((0..=count)
        .map(|offset| PortConfig {
            protocol: protocol.into(),
            target_port: target.0 + offset,
            published_port: published.map_or(0, |p| p.0 + offset),
            mode: PortMode::Ingress.into(),
            name: String::new(),
        })
        .collect())
}

fn range(text: &str) -> Parsed<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("the range {text} runs backwards"));
    }
    if last - first >= RANGE_MAX {
        return Err(format!("the range {text} has more than {RANGE_MAX} ports"));
    }
    Ok((first, last))
}

fn number(text: &str) -> Parsed<u32> {
    text.trim()
        .parse::<u16>()
        .ok()
        .filter(|port| *port > 0)
        .map(u32::from)
        .ok_or_else(|| format!("{text:?} is no port from 1 to 65535; {EXAMPLE}"))
}

fn protocol(word: &str) -> Parsed<PortProtocol> {
    PortProtocol::from_word(word)
        .ok_or_else(|| format!("protocol {word:?} is none of {}", PortProtocol::all_words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(u32, u32, &'static str, &'static str)> {
        port(text)
            .unwrap()
            .iter()
            .map(|p| {
                (
                    p.published_port,
                    p.target_port,
                    p.protocol().word(),
                    p.mode().word(),
                )
            })
            .collect()
    }

    #[test]
    fn the_short_form_is_published_then_target() {
        assert_eq!(seen("8080:80"), [(8080, 80, "tcp", "ingress")]);
        assert_eq!(seen("53:53/udp"), [(53, 53, "udp", "ingress")]);
        assert_eq!(seen("80"), [(0, 80, "tcp", "ingress")]);
        assert_eq!(
            seen("8000-8001:80-81"),
            [(8000, 80, "tcp", "ingress"), (8001, 81, "tcp", "ingress")]
        );
    }

    #[test]
    fn the_long_form_names_its_fields() {
        assert_eq!(
            seen("mode=host,target=80,published=8080,protocol=sctp"),
            [(8080, 80, "sctp", "host")]
        );
        assert_eq!(seen("target=80"), [(0, 80, "tcp", "ingress")]);
    }

    #[test]
    fn a_wrong_port_says_what_is_wrong() {
        let cases = [
            ("", "no port"),
            ("0:80", "no port"),
            ("99999:80", "no port"),
            ("8080:80/icmp", "none of tcp"),
            ("127.0.0.1:80:80", "one address"),
            ("1-3:1-2", "differ in length"),
            ("9-5:80", "backwards"),
            ("1-2000:1-2000", "more than"),
            ("published=80", "target is missing"),
            ("target=80,mode=both", "neither ingress nor host"),
            ("target=80,size=3", "unknown field"),
        ];
        for (text, why) in cases {
            let error = port(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
