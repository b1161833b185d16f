//! Published ports.

use std::collections::BTreeMap;

use skep_proto::names::Words;
use skep_proto::v1::{EndpointSpec, PortMode, PortProtocol};
use skep_proto::{Code, Error, Result};

use crate::state::check;

const PORT_MAX: u32 = 65_535;

pub(super) fn validate(field: &str, endpoint: &EndpointSpec) -> Result<()> {
    let mut published: BTreeMap<(u32, PortProtocol), String> = BTreeMap::new();
    for (i, port) in endpoint.ports.iter().enumerate() {
        let at = format!("{field}.ports[{i}]");
        check::text(&format!("{at}.name"), &port.name)?;
        let protocol: PortProtocol = check::known(&format!("{at}.protocol"), port.protocol)?;
        let mode: PortMode = check::known(&format!("{at}.mode"), port.mode)?;
        if !(1..=PORT_MAX).contains(&port.target_port) {
            return Err(Error::invalid(
                format!("{at}.target_port"),
                format!("{} is not a port: 1 to {PORT_MAX}", port.target_port),
            ));
        }
        if port.published_port > PORT_MAX {
            return Err(Error::invalid(
                format!("{at}.published_port"),
                format!(
                    "{} is not a port: 1 to {PORT_MAX}, or 0 to have one chosen",
                    port.published_port
                ),
            ));
        }
        if mode == PortMode::Ingress {
            return Err(Error::new(
                Code::Unsupported,
                "ports in ingress mode need the routing mesh, which this version does not have",
            )
            .at(format!("{at}.mode"))
            .hint(format!(
                "publish it on the nodes that run the tasks: --publish mode=host,target={},published={}",
                port.target_port, port.published_port
            )));
        }
        if port.published_port == 0 {
            continue;
        }
        let at = format!("{at}.published_port");
        if let Some(other) = published.get(&(port.published_port, protocol)) {
            let what = format!("publishes {}/{}", port.published_port, protocol.word());
            return Err(check::conflict(&at, other, what));
        }
        published.insert((port.published_port, protocol), at);
    }
    Ok(())
}
