//! Which address this node listens on and which it tells the others, by
//! Swarm's rules: what is said explicitly always wins; an interface or a name
//! may stand for an address; a host with one address needs to say nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use nix::ifaddrs::getifaddrs;
use skep_proto::{Error, Result};

/// Swarm's cluster port.
pub const DEFAULT_PORT: u16 = 2377;

/// An address of this host and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`
    pub name: String,
    /// One of its addresses.
    pub ip: IpAddr,
}

/// Addresses of this host that another host could reach, in the kernel's order.
pub fn interfaces() -> Result<Vec<Interface>> {
    let all = getifaddrs()
        .map_err(|e| Error::internal(format!("cannot list this host's interfaces: {e}")))?;
    Ok(all
        .filter_map(|interface| {
            let address = interface.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (_, Some(v6)) => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            Some(Interface {
                name: interface.interface_name,
                ip,
            })
        })
        .collect())
}

/// Where to bind: `text` is an address, an interface, or a name; its port may
/// be left out.
pub fn listen(text: &str, interfaces: &[Interface]) -> Result<SocketAddr> {
    let (host, port) = split(text, "listen-addr")?;
    let ip = resolve(host, "listen-addr", interfaces)?;
    Ok(SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)))
}

/// What to tell the others, `host:port`. A name stays a name: it may come to
/// mean another address.
pub fn advertise(
    text: Option<&str>,
    listen: SocketAddr,
    interfaces: &[Interface],
) -> Result<String> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        if !listen.ip().is_unspecified() {
            return Ok(listen.to_string());
        }
        return Ok(SocketAddr::new(only_address(interfaces)?, listen.port()).to_string());
    };
    let (host, port) = split(text, "advertise-addr")?;
    let port = port.unwrap_or(listen.port());
    let is_interface = interfaces.iter().any(|i| i.name == host);
    let ip = resolve(host, "advertise-addr", interfaces)?;
    if ip.is_unspecified() {
        return Err(Error::invalid(
            "advertise-addr",
            format!("{text} is no address that another host can reach"),
        ));
    }
    if host.parse::<IpAddr>().is_ok() || is_interface {
        return Ok(SocketAddr::new(ip, port).to_string());
    }
    Ok(format!("{host}:{port}"))
}

/// `host[:port]`, with IPv6 in brackets when there is a port.
fn split<'a>(text: &'a str, field: &str) -> Result<(&'a str, Option<u16>)> {
    let bad = |why: &str| {
        Error::invalid(field, format!("{text:?} {why}"))
            .hint("an address, an interface or a name, with or without a port: 192.168.0.1:2377")
    };
    if text.trim() != text || text.is_empty() {
        return Err(bad("is no address"));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| bad("lacks a ]"))?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((
                host,
                Some(parse_port(port).ok_or_else(|| bad("has no valid port"))?),
            )),
            None if port.is_empty() => Ok((host, None)),
            None => Err(bad("has something after the ]")),
        };
    }
    match text.rsplit_once(':') {
        None => Ok((text, None)),
        Some((host, port)) if !host.is_empty() && !host.contains(':') => Ok((
            host,
            Some(parse_port(port).ok_or_else(|| bad("has no valid port"))?),
        )),
        Some(_) => Err(bad("is no address")),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// An address, an interface's first one (IPv4 before IPv6), or a name's.
fn resolve(host: &str, field: &str, interfaces: &[Interface]) -> Result<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let mut of_interface: Vec<IpAddr> = interfaces
        .iter()
        .filter(|i| i.name == host)
        .map(|i| i.ip)
        .filter(|ip| !is_link_local(ip))
        .collect();
    of_interface.sort_by_key(IpAddr::is_ipv6);
    if let Some(ip) = of_interface.first() {
        return Ok(*ip);
    }
    let found = (host, 0).to_socket_addrs();
    found
        .ok()
        .and_then(|mut addresses| addresses.next())
        .map(|address| address.ip())
        .ok_or_else(|| {
            let names: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
            Error::invalid(
                field,
                format!(
                    "{host} is no address, no interface of this host and no name that resolves"
                ),
            )
            .hint(format!("interfaces here: {}", names.join(", ")))
        })
}

fn only_address(interfaces: &[Interface]) -> Result<IpAddr> {
    let candidates: Vec<&Interface> = interfaces
        .iter()
        .filter(|i| !i.ip.is_loopback() && !is_link_local(&i.ip) && !is_engine_bridge(&i.name))
        .collect();
    let mut pick: Vec<&&Interface> = candidates.iter().filter(|i| i.ip.is_ipv4()).collect();
    if pick.is_empty() {
        pick = candidates.iter().collect();
    }
    match pick.as_slice() {
        [] => Err(
            Error::invalid("advertise-addr", "could not find the system's IP address")
                .hint("specify one with --advertise-addr"),
        ),
        [one] => Ok(one.ip),
        [first, second, ..] => Err(Error::invalid(
            "advertise-addr",
            format!(
                "could not choose an IP address to advertise since this system has multiple \
                 addresses ({} on {} and {} on {})",
                first.ip, first.name, second.ip, second.name
            ),
        )
        .hint("specify one with --advertise-addr")),
    }
}

/// Bridges that a container engine makes: no other host reaches them.
fn is_engine_bridge(name: &str) -> bool {
    name == "docker0"
        || name == "docker_gwbridge"
        || name.starts_with("br-")
        || name.starts_with("veth")
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local() || *v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(list: &[(&str, &str)]) -> Vec<Interface> {
        list.iter()
            .map(|(name, ip)| Interface {
                name: (*name).into(),
                ip: ip.parse().unwrap(),
            })
            .collect()
    }

    fn any() -> SocketAddr {
        "0.0.0.0:2377".parse().unwrap()
    }

    #[test]
    fn a_host_with_one_address_needs_to_say_nothing() {
        let host = host(&[
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fe80::1"),
        ]);
        assert_eq!(advertise(None, any(), &host).unwrap(), "10.0.0.5:2377");
    }

    #[test]
    fn a_host_with_two_addresses_has_to_choose() {
        let host = host(&[("eth0", "10.0.0.5"), ("eth1", "10.1.0.5")]);
        let error = advertise(None, any(), &host).unwrap_err();
        assert!(error.message.contains("multiple addresses"));
        assert!(error.hint.contains("--advertise-addr"));
    }

    #[test]
    fn what_is_said_wins() {
        let host = host(&[("eth0", "10.0.0.5"), ("eth1", "10.1.0.5")]);
        let to = |text| advertise(Some(text), any(), &host);
        assert_eq!(to("eth1").unwrap(), "10.1.0.5:2377");
        assert_eq!(to("192.0.2.1").unwrap(), "192.0.2.1:2377");
        assert_eq!(to("192.0.2.1:99").unwrap(), "192.0.2.1:99");
        assert_eq!(to("[2001:db8::1]:99").unwrap(), "[2001:db8::1]:99");
        assert_eq!(to("2001:db8::1").unwrap(), "[2001:db8::1]:2377");
        assert_eq!(to("localhost:99").unwrap(), "localhost:99");
        assert!(to("0.0.0.0").is_err());
        assert!(to("no-such-name.invalid").is_err());
        for bad in ["", "10.0.0.1:0", "10.0.0.1:x", "[::1", ":2377", " 10.0.0.1"] {
            assert!(listen(bad, &host).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_specific_listener_is_what_is_advertised() {
        let listen: SocketAddr = "10.1.0.5:2400".parse().unwrap();
        assert_eq!(advertise(None, listen, &[]).unwrap(), "10.1.0.5:2400");
    }
}
