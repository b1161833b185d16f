//! What runs in a task's container.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use skep_proto::v1::{ContainerSpec, DnsConfig, HealthCheck, Ulimit};
use skep_proto::{Error, Result};

use super::canonical::capability;
use super::{image, mount, placeholder};
use crate::state::{Nanos, check};

const HEALTH_DURATION_NS_MIN: Nanos = 1_000_000;
const REGISTRY_AUTH_BYTES_MAX: usize = 64 << 10;
const SIGNAL_MAX: u32 = 64;
const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn validate(field: &str, spec: &ContainerSpec) -> Result<()> {
    let at = |name: &str| format!("{field}.{name}");
    image::validate(&at("image"), &spec.image)?;
    texts(&at("command"), &spec.command)?;
    texts(&at("args"), &spec.args)?;
    env(&at("env"), &spec.env)?;
    if !spec.dir.is_empty() && !spec.dir.starts_with('/') {
        return Err(Error::invalid(
            at("dir"),
            format!(
                "the working directory {:?} is not an absolute path",
                spec.dir
            ),
        ));
    }
    check::text(&at("dir"), &spec.dir)?;
    check::text(&at("user"), &spec.user)?;
    words(&at("groups"), &spec.groups)?;
    hostname(&at("hostname"), &spec.hostname)?;
    check::labels(&at("labels"), &spec.labels)?;
    stop_signal(&at("stop_signal"), &spec.stop_signal)?;
    check::duration(
        &at("stop_grace_period_ns"),
        spec.stop_grace_period_ns.unwrap_or(0),
    )?;
    if let Some(config) = &spec.health {
        health(&at("health"), config)?;
    }
    hosts(&at("hosts"), &spec.hosts)?;
    if let Some(config) = &spec.dns {
        dns(&at("dns"), config)?;
    }
    mount::validate(&at("mounts"), &spec.mounts)?;
    capabilities(field, spec)?;
    check::labels(&at("sysctls"), &spec.sysctls)?;
    ulimits(&at("ulimits"), &spec.ulimits)?;
    registry_auth(&at("registry_auth"), &spec.registry_auth)
}

fn texts(field: &str, values: &[String]) -> Result<()> {
    for (i, value) in values.iter().enumerate() {
        check::text(&format!("{field}[{i}]"), value)?;
    }
    Ok(())
}

fn words(field: &str, values: &[String]) -> Result<()> {
    for (i, value) in values.iter().enumerate() {
        check::word(&format!("{field}[{i}]"), value)?;
    }
    Ok(())
}

fn env(field: &str, env: &[String]) -> Result<()> {
    for (i, variable) in env.iter().enumerate() {
        let at = format!("{field}[{i}]");
        check::text(&at, variable)?;
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if name.is_empty() {
            return Err(
                Error::invalid(at, format!("{variable:?} has no name")).hint("write NAME=value")
            );
        }
        placeholder::validate(&at, value)?;
    }
    Ok(())
}

fn hostname(field: &str, hostname: &str) -> Result<()> {
    check::text(field, hostname)?;
    placeholder::validate(field, hostname)?;
    if hostname.is_empty() || placeholder::has_any(hostname) {
        return Ok(());
    }
    let label = |label: &str| {
        (1..=check::NAME_LEN_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // The kernel takes no longer one.
    if hostname.len() > 64 || !hostname.split('.').all(label) {
        return Err(
            Error::invalid(field, format!("{hostname:?} is not a host name"))
                .hint("use letters, digits, - and dots; at most 64 characters"),
        );
    }
    Ok(())
}

fn stop_signal(field: &str, signal: &str) -> Result<()> {
    if signal.is_empty() {
        return Ok(());
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |name: &str| {
        let offset = |rest: &str| {
            rest.is_empty()
                || rest
                    .get(1..)
                    .is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 15))
        };
        name.strip_prefix("RTMIN")
            .is_some_and(|r| offset(r) && !r.starts_with('-'))
            || name
                .strip_prefix("RTMAX")
                .is_some_and(|r| offset(r) && !r.starts_with('+'))
    };
    let number = signal
        .parse::<u32>()
        .is_ok_and(|n| (1..=SIGNAL_MAX).contains(&n));
    if number || SIGNALS.contains(&name) || real_time(name) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{signal:?} is not a signal"))
        .hint("write a name such as SIGTERM, or a number from 1 to 64"))
}

fn health(field: &str, health: &HealthCheck) -> Result<()> {
    texts(&format!("{field}.test"), &health.test)?;
    let at = format!("{field}.test");
    match (health.test.first().map(String::as_str), health.test.len()) {
        (None, _) | (Some("NONE"), 1) => {}
        (Some("NONE"), _) => return Err(Error::invalid(at, "NONE stands alone")),
        (Some("CMD-SHELL"), 2) => {}
        (Some("CMD-SHELL"), _) => {
            return Err(Error::invalid(
                at,
                "CMD-SHELL is followed by one command line",
            ));
        }
        (Some("CMD"), 2..) => {}
        (Some("CMD"), _) => return Err(Error::invalid(at, "CMD is followed by a command")),
        (Some(other), _) => {
            return Err(Error::invalid(
                format!("{at}[0]"),
                format!("{other:?} is not a kind of check"),
            )
            .hint("it can be NONE, CMD, CMD-SHELL"));
        }
    }
    for (name, value) in [
        ("interval_ns", health.interval_ns),
        ("timeout_ns", health.timeout_ns),
        ("start_period_ns", health.start_period_ns),
        ("start_interval_ns", health.start_interval_ns),
    ] {
        check::duration_from(&format!("{field}.{name}"), value, HEALTH_DURATION_NS_MIN)?;
    }
    if !(0..=i64::from(i32::MAX)).contains(&health.retries) {
        return Err(Error::invalid(format!("{field}.retries"), "is 0 or more"));
    }
    Ok(())
}

fn hosts(field: &str, hosts: &[String]) -> Result<()> {
    for (i, line) in hosts.iter().enumerate() {
        let at = format!("{field}[{i}]");
        check::text(&at, line)?;
        let mut parts = line.split_whitespace();
        let address = parts.next().unwrap_or_default();
        let valid = address == "host-gateway" || address.parse::<IpAddr>().is_ok();
        if !valid || parts.next().is_none() || line.chars().any(char::is_control) {
            return Err(
                Error::invalid(at, format!("{line:?} is not an address and a name"))
                    .hint("write \"10.0.0.7 db\""),
            );
        }
    }
    Ok(())
}

fn dns(field: &str, dns: &DnsConfig) -> Result<()> {
    for (i, server) in dns.nameservers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(
                format!("{field}.nameservers[{i}]"),
                format!("{server:?} is not an IP address"),
            ));
        }
    }
    words(&format!("{field}.search"), &dns.search)?;
    words(&format!("{field}.options"), &dns.options)
}

fn capabilities(field: &str, spec: &ContainerSpec) -> Result<()> {
    let mut added: BTreeMap<String, String> = BTreeMap::new();
    for (list, names) in [("cap_add", &spec.cap_add), ("cap_drop", &spec.cap_drop)] {
        for (i, name) in names.iter().enumerate() {
            let at = format!("{field}.{list}[{i}]");
            let full = capability(name);
            let known = full == "ALL"
                || full.strip_prefix("CAP_").is_some_and(|n| {
                    !n.is_empty()
                        && n.bytes()
                            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                });
            if !known {
                return Err(Error::invalid(at, format!("{name:?} is not a capability"))
                    .hint("write a name such as NET_ADMIN, or ALL"));
            }
            if list == "cap_add" {
                added.insert(full, at);
            } else if let Some(other) = added.get(&full) {
                return Err(check::conflict(&at, other, format!("names {full}")));
            }
        }
    }
    Ok(())
}

fn ulimits(field: &str, ulimits: &[Ulimit]) -> Result<()> {
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    for (i, ulimit) in ulimits.iter().enumerate() {
        let at = format!("{field}[{i}]");
        if !ULIMITS.contains(&ulimit.name.as_str()) {
            return Err(Error::invalid(
                format!("{at}.name"),
                format!("{:?} is not a limit", ulimit.name),
            )
            .hint(format!("it can be {}", ULIMITS.join(", "))));
        }
        for (name, value) in [("soft", ulimit.soft), ("hard", ulimit.hard)] {
            if value < -1 {
                return Err(Error::invalid(
                    format!("{at}.{name}"),
                    "is -1 (no limit) or more",
                ));
            }
        }
        if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
            return Err(Error::invalid(
                format!("{at}.soft"),
                format!("{} is above {at}.hard, {}", ulimit.soft, ulimit.hard),
            ));
        }
        if let Some(other) = named.get(ulimit.name.as_str()) {
            return Err(check::conflict(
                &at,
                other,
                format!("limits {}", ulimit.name),
            ));
        }
        named.insert(&ulimit.name, at);
    }
    Ok(())
}

/// Credentials are checked, but never repeated in an error.
fn registry_auth(field: &str, auth: &str) -> Result<()> {
    if auth.is_empty() {
        return Ok(());
    }
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = [&alphabet::URL_SAFE, &alphabet::STANDARD]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(auth).ok());
    let is_object = decoded
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .is_some_and(|value| value.is_object());
    if is_object && auth.len() <= REGISTRY_AUTH_BYTES_MAX {
        return Ok(());
    }
    Err(
        Error::invalid(field, "is not base64 of a JSON object with credentials")
            .hint("send what Docker's X-Registry-Auth header holds"),
    )
}
