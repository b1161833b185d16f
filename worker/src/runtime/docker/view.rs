//! What the engine says of a container, in this room's words.

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, HealthStatusEnum, PortMap,
};
use skep_proto::names::Words;
use skep_proto::v1::{PortConfig, PortMode, PortProtocol};

use super::spec::LABEL_TASK;
use crate::runtime::{Health, Listed, Phase, View};

/// What a probe printed is cut to this for a status.
const HEALTH_OUTPUT_BYTES_MAX: usize = 512;

/// `None` for a container that is being removed.
pub fn view(inspected: ContainerInspectResponse) -> Option<View> {
    let state = inspected.state.unwrap_or_default();
    let phase = phase(&state)?;
    let labels = inspected.config.and_then(|c| c.labels).unwrap_or_default();
    let (health, health_output) = health(&state);
    Some(View {
        id: inspected.id.unwrap_or_default(),
        task_id: labels.get(LABEL_TASK).cloned().unwrap_or_default(),
        phase,
        health,
        health_output,
        pid: state.pid.unwrap_or_default(),
        exit_code: state
            .exit_code
            .and_then(|code| i32::try_from(code).ok())
            .unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
        ports: ports(
            inspected
                .network_settings
                .and_then(|n| n.ports)
                .unwrap_or_default(),
        ),
    })
}

/// `None` for a container that is being removed, or is nobody's.
pub fn listed(summary: ContainerSummary) -> Option<Listed> {
    use ContainerSummaryStateEnum as S;
    let phase = match summary.state? {
        S::EMPTY | S::REMOVING => return None,
        S::CREATED => Phase::Created,
        S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING => Phase::Running,
        // Dead: its removal failed half way, and has to be tried again.
        S::EXITED | S::DEAD => Phase::Exited,
    };
    Some(Listed {
        id: summary.id?,
        task_id: summary.labels?.remove(LABEL_TASK)?,
        phase,
    })
}

fn phase(state: &ContainerState) -> Option<Phase> {
    use ContainerStateStatusEnum as S;
    match state.status? {
        S::EMPTY | S::REMOVING => None,
        S::CREATED => Some(Phase::Created),
        S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING => Some(Phase::Running),
        S::EXITED | S::DEAD => Some(Phase::Exited),
    }
}

fn health(state: &ContainerState) -> (Health, String) {
    let Some(health) = &state.health else {
        return (Health::None, String::new());
    };
    let known = match health.status {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
    };
    let failed = |probe: &&bollard::models::HealthcheckResult| probe.exit_code != Some(0);
    let mut output = health
        .log
        .iter()
        .flatten()
        .rev()
        .find(failed)
        .and_then(|probe| probe.output.clone())
        .unwrap_or_default()
        .trim()
        .to_owned();
    if output.len() > HEALTH_OUTPUT_BYTES_MAX {
        let mut cut = HEALTH_OUTPUT_BYTES_MAX;
        while !output.is_char_boundary(cut) {
            cut -= 1;
        }
        output.truncate(cut);
        output.push('…');
    }
    (known, output)
}

fn ports(map: PortMap) -> Vec<PortConfig> {
    let mut ports = Vec::new();
    for (key, bindings) in map {
        let (target, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let Ok(target_port) = target.parse() else {
            continue;
        };
        let protocol = PortProtocol::from_word(protocol).unwrap_or_default();
        for binding in bindings.into_iter().flatten() {
            let Some(published_port) = binding.host_port.and_then(|p| p.parse().ok()) else {
                continue;
            };
            ports.push(PortConfig {
                protocol: protocol.into(),
                target_port,
                published_port,
                mode: PortMode::Host.into(),
                ..PortConfig::default()
            });
        }
    }
    ports.sort_by_key(|p| (p.target_port, p.protocol, p.published_port));
    // One binding for IPv4 and one for IPv6 is one published port.
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(json: &str) -> ContainerInspectResponse {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_unhealthy_container_shows_its_last_failed_probe() {
        let view = view(inspected(
            r#"{"Id":"c","Config":{"Labels":{"com.docker.swarm.task.id":"t"}},
                "State":{"Status":"running","Pid":9,"Health":{"Status":"unhealthy","Log":[
                  {"ExitCode":1,"Output":"old"},{"ExitCode":1,"Output":" connection refused\n"},
                  {"ExitCode":0,"Output":"fine"}]}},
                "NetworkSettings":{"Ports":{"80/tcp":[
                  {"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"9/udp":null}}}"#,
        ))
        .unwrap();
        assert_eq!((view.task_id.as_str(), view.pid), ("t", 9));
        assert_eq!(view.phase, Phase::Running);
        assert_eq!(view.health, Health::Unhealthy);
        assert_eq!(view.health_output, "connection refused");
        assert_eq!(view.ports.len(), 1);
        assert_eq!(view.ports[0].published_port, 8080);
    }

    #[test]
    fn a_container_on_its_way_out_is_none() {
        assert_eq!(view(inspected(r#"{"State":{"Status":"removing"}}"#)), None);
        let dead = view(inspected(r#"{"State":{"Status":"dead"}}"#)).unwrap();
        assert_eq!(dead.phase, Phase::Exited, "its removal is tried again");
    }
}
