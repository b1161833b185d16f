//! What operators ask for: services of all kinds, and changes of them.

use skep_manager::state::World;
use skep_proto::objects::Identified;
use skep_proto::v1::{
    Availability, ContainerSpec, CreateService, EndpointSpec, FailureAction, Global, Placement,
    PortConfig, PortMode, RemoveService, Replicated, ResourceRequirements, Resources,
    RestartCondition, RestartPolicy, ScaleService, ServiceSpec, TaskSpec, UpdateConfig, UpdateNode,
    UpdateOrder, UpdateService, service_spec::Mode, write_request::Verb,
};

use crate::swarm::{Dice, SECOND};

/// Services at a time.
const SERVICES_MAX: usize = 4;

/// One thing that an operator might do now.
pub fn act(world: &World, dice: &mut Dice) -> Option<Verb> {
    let services: Vec<_> = world.services().cloned().collect();
    let nodes: Vec<_> = world.nodes().cloned().collect();
    let service = dice.pick(&services).cloned();
    match dice.roll(10) {
        0 | 1 if services.len() < SERVICES_MAX => {
            let name = format!("s{}", dice.roll(1_000));
            Some(Verb::CreateService(CreateService {
                spec: Some(spec(dice, name)),
            }))
        }
        2 | 3 => {
            let service = service?.name().to_owned();
            Some(Verb::ScaleService(ScaleService {
                service,
                replicas: dice.roll(8),
            }))
        }
        4 | 5 => {
            let service = service?;
            let mut spec = service.spec.clone()?;
            change(dice, &mut spec);
            Some(update(&service, Some(spec)))
        }
        6 => {
            let service = service?;
            service.previous_spec.as_ref()?;
            Some(update(&service, None))
        }
        7 if services.len() > 1 && dice.percent(40) => {
            let service = service?.name().to_owned();
            Some(Verb::RemoveService(RemoveService { service }))
        }
        _ => {
            let node = dice.pick(&nodes)?;
            let mut spec = node.spec.clone()?;
            if dice.percent(50) {
                let all = [
                    Availability::Active,
                    Availability::Pause,
                    Availability::Drain,
                ];
                spec.availability = (*dice.pick(&all)?).into();
            } else if spec.labels.remove("zone").is_none() {
                spec.labels.insert("zone".to_owned(), "eu".to_owned());
            }
            let (node, version) = (node.id().to_owned(), node.meta().version);
            Some(Verb::UpdateNode(UpdateNode {
                node,
                version,
                spec: Some(spec),
            }))
        }
    }
}

/// An update to `spec`, or back.
pub fn update(service: &skep_proto::v1::Service, spec: Option<ServiceSpec>) -> Verb {
    Verb::UpdateService(UpdateService {
        service: service.id().to_owned(),
        version: service.meta().version,
        rollback: spec.is_none(),
        spec,
    })
}

fn spec(dice: &mut Dice, name: String) -> ServiceSpec {
    let mode = if dice.percent(30) {
        Mode::Global(Global {})
    } else {
        Mode::Replicated(Replicated {
            replicas: dice.roll(7),
        })
    };
    let mut spec = ServiceSpec {
        name,
        task: Some(TaskSpec {
            container: Some(ContainerSpec {
                image: "web:1".to_owned(),
                ..Default::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(mode),
        ..ServiceSpec::default()
    };
    for _ in 0..3 {
        change(dice, &mut spec);
    }
    spec
}

fn change(dice: &mut Dice, spec: &mut ServiceSpec) {
    let roll = dice.roll(9);
    let amount = i64::try_from(dice.roll(4)).unwrap();
    let task = spec.task.get_or_insert_default();
    match roll {
        0 | 1 => task.force_update += 1,
        2 => {
            let conditions = [
                RestartCondition::Any,
                RestartCondition::OnFailure,
                RestartCondition::None,
            ];
            task.restart = Some(RestartPolicy {
                condition: (*dice.pick(&conditions).unwrap()).into(),
                delay_ns: [None, Some(0), Some(amount * SECOND)][dice.roll(3) as usize],
                max_attempts: dice.roll(4),
                window_ns: dice.roll(2) as i64 * 20 * SECOND,
            });
        }
        3 => {
            let placement = task.placement.get_or_insert_default();
            placement.max_replicas = dice.roll(4);
        }
        4 => {
            let all: [&[&str]; 4] = [
                &[],
                &["node.labels.zone==eu"],
                &["node.labels.zone!=eu"],
                &["node.hostname!=n1"],
            ];
            let constraints = dice
                .pick(&all)
                .unwrap()
                .iter()
                .map(|c| (*c).to_owned())
                .collect();
            task.placement
                .get_or_insert_with(Placement::default)
                .constraints = constraints;
        }
        5 => {
            task.resources = Some(ResourceRequirements {
                reservations: Some(Resources {
                    nano_cpus: amount * 500_000_000,
                    memory_bytes: amount << 29,
                }),
                ..ResourceRequirements::default()
            });
        }
        6 => {
            let port = PortConfig {
                target_port: 80,
                published_port: 8_000 + u32::try_from(dice.roll(2)).unwrap(),
                mode: PortMode::Host.into(),
                ..PortConfig::default()
            };
            let ports = if dice.percent(50) {
                vec![port]
            } else {
                Vec::new()
            };
            spec.endpoint = Some(EndpointSpec { ports });
        }
        7 => drop(spec.labels.insert("changed".to_owned(), amount.to_string())),
        _ => {
            let actions = [
                FailureAction::Pause,
                FailureAction::Continue,
                FailureAction::Rollback,
            ];
            let orders = [UpdateOrder::StopFirst, UpdateOrder::StartFirst];
            spec.update = Some(UpdateConfig {
                parallelism: dice.roll(3),
                delay_ns: amount * SECOND,
                failure_action: (*dice.pick(&actions).unwrap()).into(),
                monitor_ns: Some(SECOND * (1 + amount)),
                max_failure_ratio: [0.0, 0.3][dice.roll(2) as usize],
                order: (*dice.pick(&orders).unwrap()).into(),
            });
        }
    }
}

/// A spec with which every task can run anywhere, of the same template where
/// that is so already.
pub fn modest(spec: &ServiceSpec) -> ServiceSpec {
    let mut spec = spec.clone();
    if let Some(task) = &mut spec.task {
        task.placement = None;
        task.resources = None;
        task.restart = Some(RestartPolicy {
            delay_ns: Some(SECOND),
            ..RestartPolicy::default()
        });
    }
    spec.endpoint = None;
    spec
}
