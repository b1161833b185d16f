//! A service for people to read, in Docker's blocks.

use std::fmt::{Result, Write};

use skep_proto::names::Words;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    ContainerSpec, MountType, ResourceLimits, Resources, Service, ServiceSpec, TaskSpec,
    UpdateConfig,
};

use crate::cli::rows::capitalized;
use crate::ui::human;

/// The block of one service.
pub fn service(service: &Service, now_ns: i64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, service, now_ns);
    text
}

fn write(text: &mut String, service: &Service, now_ns: i64) -> Result {
    let spec = service.spec.clone().unwrap_or_default();
    writeln!(text, "\nID:\t\t{}", service.id())?;
    writeln!(text, "Name:\t\t{}", spec.name)?;
    if !spec.labels.is_empty() {
        writeln!(text, "Labels:")?;
        for (key, value) in &spec.labels {
            writeln!(text, " {key}={value}")?;
        }
    }
    if spec.is_global() {
        writeln!(text, "Service Mode:\tGlobal")?;
    } else {
        writeln!(text, "Service Mode:\tReplicated")?;
        writeln!(text, " Replicas:\t{}", spec.replicas())?;
    }
    update_status(text, service, now_ns)?;
    let task = spec.task.clone().unwrap_or_default();
    placement(text, &task)?;
    rollout(text, "UpdateConfig", "Update order", spec.update.as_ref())?;
    rollout(
        text,
        "RollbackConfig",
        "Rollback order",
        spec.rollback.as_ref(),
    )?;
    let container = task.container.clone().unwrap_or_default();
    container_spec(text, &container)?;
    log_driver(text, &task)?;
    resources(text, &task)?;
    writeln!(text, "Endpoint Mode:\tvip")?;
    ports(text, service, &spec)?;
    healthcheck(text, &container)
}

fn update_status(text: &mut String, service: &Service, now_ns: i64) -> Result {
    let Some(status) = &service.update_status else {
        return Ok(());
    };
    writeln!(text, "UpdateStatus:")?;
    writeln!(text, " State:\t\t{}", status.state().word())?;
    if status.started_at_ns != 0 {
        let ago = human::ago(now_ns, status.started_at_ns).to_lowercase();
        writeln!(text, " Started:\t{ago}")?;
    }
    if status.completed_at_ns != 0 {
        let ago = human::ago(now_ns, status.completed_at_ns).to_lowercase();
        writeln!(text, " Completed:\t{ago}")?;
    }
    writeln!(text, " Message:\t{}", status.message)
}

fn placement(text: &mut String, task: &TaskSpec) -> Result {
    let placement = task.placement.clone().unwrap_or_default();
    writeln!(text, "Placement:")?;
    if !placement.constraints.is_empty() {
        writeln!(text, " Constraints:\t[{}]", placement.constraints.join(" "))?;
    }
    if placement.max_replicas > 0 {
        writeln!(text, " Max Replicas Per Node:\t{}", placement.max_replicas)?;
    }
    Ok(())
}

fn rollout(text: &mut String, title: &str, order: &str, config: Option<&UpdateConfig>) -> Result {
    let Some(config) = config else {
        return Ok(());
    };
    writeln!(text, "{title}:")?;
    writeln!(text, " Parallelism:\t{}", config.parallelism)?;
    if config.delay_ns != 0 {
        writeln!(text, " Delay:\t\t{}", human::exact(config.delay_ns))?;
    }
    writeln!(text, " On failure:\t{}", config.failure_action().word())?;
    if let Some(monitor) = config.monitor_ns {
        writeln!(text, " Monitoring Period: {}", human::exact(monitor))?;
    }
    writeln!(text, " Max failure ratio: {}", config.max_failure_ratio)?;
    writeln!(text, " {order}:      {}", config.order().word())
}

fn container_spec(text: &mut String, c: &ContainerSpec) -> Result {
    writeln!(text, "ContainerSpec:")?;
    writeln!(text, " Image:\t\t{}", c.image)?;
    if !c.command.is_empty() {
        writeln!(text, " Command:\t{} ", c.command.join(" "))?;
    }
    if !c.args.is_empty() {
        writeln!(text, " Args:\t\t{} ", c.args.join(" "))?;
    }
    if !c.env.is_empty() {
        writeln!(text, " Env:\t\t{} ", c.env.join(" "))?;
    }
    if !c.dir.is_empty() {
        writeln!(text, " Dir:\t\t{}", c.dir)?;
    }
    if let Some(init) = c.init {
        writeln!(text, " Init:\t\t{init}")?;
    }
    if !c.user.is_empty() {
        writeln!(text, " User:\t\t{}", c.user)?;
    }
    if !c.cap_add.is_empty() || !c.cap_drop.is_empty() {
        writeln!(text, "Capabilities:")?;
        if !c.cap_add.is_empty() {
            writeln!(text, " Add: {}", c.cap_add.join(", "))?;
        }
        if !c.cap_drop.is_empty() {
            writeln!(text, " Drop: {}", c.cap_drop.join(", "))?;
        }
    }
    if !c.sysctls.is_empty() {
        writeln!(text, "SysCtls:")?;
        for (key, value) in &c.sysctls {
            writeln!(text, " {key}: {value}")?;
        }
    }
    if !c.ulimits.is_empty() {
        writeln!(text, "Ulimits:")?;
        for limit in &c.ulimits {
            writeln!(text, " {}: {}:{}", limit.name, limit.soft, limit.hard)?;
        }
    }
    if !c.mounts.is_empty() {
        writeln!(text, "Mounts:")?;
        for mount in &c.mounts {
            let kind = match mount.r#type() {
                MountType::Bind => "bind",
                MountType::Volume => "volume",
                MountType::Tmpfs => "tmpfs",
            };
            writeln!(text, " Target:\t{}", mount.target)?;
            writeln!(text, "  Source:\t{}", mount.source)?;
            writeln!(text, "  ReadOnly:\t{}", mount.read_only)?;
            writeln!(text, "  Type:\t\t{kind}")?;
        }
    }
    Ok(())
}

fn log_driver(text: &mut String, task: &TaskSpec) -> Result {
    let Some(driver) = &task.log_driver else {
        return Ok(());
    };
    writeln!(text, "Log Driver:")?;
    writeln!(text, " Name:\t\t{}", driver.name)?;
    for (key, value) in &driver.options {
        writeln!(text, " LogOpts:\t{key}={value}")?;
    }
    Ok(())
}

fn resources(text: &mut String, task: &TaskSpec) -> Result {
    let requirements = task.resources.unwrap_or_default();
    let reserved = requirements.reservations.unwrap_or_default();
    let limits = requirements.limits.unwrap_or_default();
    if reserved == Resources::default() && limits == ResourceLimits::default() {
        return Ok(());
    }
    writeln!(text, "Resources:")?;
    if reserved != Resources::default() {
        writeln!(text, " Reservations:")?;
        amounts(text, reserved.nano_cpus, reserved.memory_bytes)?;
    }
    if limits != ResourceLimits::default() {
        writeln!(text, " Limits:")?;
        amounts(text, limits.nano_cpus, limits.memory_bytes)?;
        if limits.pids != 0 {
            writeln!(text, "  PIDs:\t\t{}", limits.pids)?;
        }
    }
    Ok(())
}

fn amounts(text: &mut String, nano_cpus: i64, memory_bytes: i64) -> Result {
    if nano_cpus != 0 {
        writeln!(text, "  CPU:\t\t{}", human::cpus(nano_cpus))?;
    }
    if memory_bytes != 0 {
        writeln!(text, "  Memory:\t{}", human::bytes(memory_bytes))?;
    }
    Ok(())
}

fn ports(text: &mut String, service: &Service, spec: &ServiceSpec) -> Result {
    let endpoint = service
        .current_template()
        .and_then(|t| t.endpoint.as_ref())
        .or(spec.endpoint.as_ref());
    let ports = endpoint.map(|e| e.ports.as_slice()).unwrap_or_default();
    if ports.is_empty() {
        return Ok(());
    }
    writeln!(text, "Ports:")?;
    for port in ports {
        writeln!(text, " PublishedPort = {}", port.published_port)?;
        writeln!(text, "  Protocol = {}", port.protocol().word())?;
        writeln!(text, "  TargetPort = {}", port.target_port)?;
        writeln!(text, "  PublishMode = {}", port.mode().word())?;
    }
    Ok(())
}

fn healthcheck(text: &mut String, container: &ContainerSpec) -> Result {
    let Some(health) = &container.health else {
        return Ok(());
    };
    writeln!(text, "Healthcheck:")?;
    let durations = [
        ("interval", health.interval_ns),
        ("timeout", health.timeout_ns),
        ("start period", health.start_period_ns),
        ("start interval", health.start_interval_ns),
    ];
    for (name, ns) in durations.into_iter().filter(|(_, ns)| *ns != 0) {
        writeln!(text, "  {} = {}", capitalized(name), human::exact(ns))?;
    }
    if health.retries != 0 {
        writeln!(text, "  Retries = {}", health.retries)?;
    }
    if !health.test.is_empty() {
        writeln!(text, "  Tests:")?;
        writeln!(text, "    Test = {}", health.test.join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::{NOW, service as example};
    use skep_proto::v1::{HealthCheck, UpdateStatus, update_status::State};

    #[test]
    fn the_blocks_are_dockers() {
        let mut web = example("s1", "web", 3);
        web.update_status = Some(UpdateStatus {
            state: State::Completed.into(),
            started_at_ns: NOW - 120_000_000_000,
            completed_at_ns: NOW - 60_000_000_000,
            message: "update completed".into(),
            ..UpdateStatus::default()
        });
        let spec = web.spec.as_mut().unwrap();
        spec.update = Some(UpdateConfig {
            parallelism: 2,
            delay_ns: 1_000_000_000,
            ..UpdateConfig::default()
        });
        let container = spec.task.as_mut().unwrap().container.as_mut().unwrap();
        container.health = Some(HealthCheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval_ns: 5_000_000_000,
            ..HealthCheck::default()
        });
        insta::assert_snapshot!(service(&web, NOW), @r#"
        ID:		s1
        Name:		web
        Service Mode:	Replicated
         Replicas:	3
        UpdateStatus:
         State:		completed
         Started:	2 minutes ago
         Completed:	about a minute ago
         Message:	update completed
        Placement:
        UpdateConfig:
         Parallelism:	2
         Delay:		1s
         On failure:	pause
         Max failure ratio: 0
         Update order:      stop-first
        ContainerSpec:
         Image:		nginx:1.27@sha256:0123
        Endpoint Mode:	vip
        Ports:
         PublishedPort = 8080
          Protocol = tcp
          TargetPort = 80
          PublishMode = ingress
        Healthcheck:
          Interval = 5s
          Tests:
            Test = CMD-SHELL true
        "#);
    }
}
