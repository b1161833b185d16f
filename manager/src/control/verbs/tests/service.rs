use super::*;
use crate::state::service::canonical;
use skep_proto::Code;

fn update(swarm: &Swarm, name: &str, spec: ServiceSpec) -> Verb {
    Verb::UpdateService(UpdateService {
        service: name.to_owned(),
        version: swarm.service(name).meta().version,
        spec: Some(spec),
        rollback: false,
    })
}

fn rollback(swarm: &Swarm, name: &str) -> Verb {
    Verb::UpdateService(UpdateService {
        service: name.to_owned(),
        version: swarm.service(name).meta().version,
        spec: None,
        rollback: true,
    })
}

fn scale(name: &str, replicas: u64) -> Verb {
    Verb::ScaleService(ScaleService {
        service: name.to_owned(),
        replicas,
    })
}

fn image(name: &str) -> ServiceSpec {
    container(|c| c.image = name.to_owned())
}

#[test]
fn a_new_service_has_one_template_of_its_own_version() {
    let mut swarm = Swarm::founded();
    let response = swarm.ok(create(spec("web")));
    let service = swarm.service("web");
    assert_eq!(service.id(), response.id);
    assert_eq!(service.meta().version, swarm.world.version());
    assert_eq!(service.template_version, swarm.world.version());
    assert_eq!(
        service.current_template().unwrap().task,
        service.spec.as_ref().unwrap().task
    );
    assert_eq!(service.previous_spec, None);
}

#[test]
fn nothing_but_its_founding_can_be_asked_of_an_unfounded_swarm() {
    let mut swarm = Swarm {
        world: World::default(),
        now: NOW,
    };
    assert_eq!(swarm.err(create(spec("web"))).code(), Code::Precondition);
}

#[test]
fn names_are_taken_in_whatever_case() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let error = swarm.err(create(spec("WEB")));
    assert_eq!(
        (error.code(), error.object.as_str()),
        (Code::Exists, "service web")
    );
}

#[test]
fn a_bad_constraint_is_refused_with_its_place() {
    let mut swarm = Swarm::founded();
    for constraint in [
        "node.role=manager",
        "x==y",
        "node.labels.==a",
        "node.role==",
        "node.colour==red",
    ] {
        let mut bad = spec("web");
        bad.task.as_mut().unwrap().placement = Some(Placement {
            constraints: vec!["node.role==worker".to_owned(), constraint.to_owned()],
            ..Placement::default()
        });
        let error = swarm.err(create(bad));
        assert_eq!(error.field, "task.placement.constraints[1]", "{constraint}");
        assert_eq!(error.object, "service web");
    }
}

#[test]
fn an_update_from_an_old_version_is_out_of_sequence() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let stale = update(&swarm, "web", image("alpine:4"));
    swarm.ok(stale.clone());
    let error = swarm.err(stale);
    assert_eq!(error.code(), Code::OutOfSequence);
    assert!(error.message.starts_with("update out of sequence"));
    assert!(error.hint.contains("skep service inspect web"));
    let unversioned = Verb::UpdateService(UpdateService {
        service: "web".to_owned(),
        spec: Some(spec("web")),
        ..UpdateService::default()
    });
    assert_eq!(swarm.err(unversioned).field, "version");
}

#[test]
fn an_update_that_says_the_same_changes_nothing() {
    let mut swarm = Swarm::founded();
    let one = container(|c| c.env = vec!["B=1".to_owned(), "A=1".to_owned()]);
    let other = container(|c| c.env = vec!["A=1".to_owned(), "B=1".to_owned()]);
    swarm.ok(create(one));
    let before = swarm.service("web");
    swarm.ok(update(&swarm, "web", other));
    assert_eq!(swarm.service("web"), before);
}

#[test]
fn a_new_image_is_a_new_template_and_keeps_the_one_that_tasks_have() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let old = swarm.service("web").template_version;
    swarm.place("t1", "web", 1, NODE, TaskState::Running);
    swarm.ok(update(&swarm, "web", image("alpine:4")));
    let service = swarm.service("web");
    assert_eq!(service.template_version, swarm.world.version());
    let versions: Vec<u64> = service.templates.iter().map(|t| t.version).collect();
    assert_eq!(versions, [old, service.template_version]);
    assert_eq!(
        service.previous_spec.unwrap().container().unwrap().image,
        "alpine:3"
    );
    // Nobody has the second one: it goes with the next change.
    swarm.ok(update(&swarm, "web", image("alpine:5")));
    let versions: Vec<u64> = swarm
        .service("web")
        .templates
        .iter()
        .map(|t| t.version)
        .collect();
    assert_eq!(versions, [old, swarm.world.version()]);
}

#[test]
fn what_restarts_nothing_still_reaches_the_template() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let version = swarm.service("web").template_version;
    let mut changed = spec("web");
    changed.task.as_mut().unwrap().restart = Some(RestartPolicy {
        max_attempts: 3,
        ..RestartPolicy::default()
    });
    swarm.ok(update(&swarm, "web", changed));
    let service = swarm.service("web");
    assert_eq!(service.template_version, version);
    assert_eq!(service.templates.len(), 1);
    let task = service.current_template().unwrap().task.clone().unwrap();
    assert_eq!(task.restart.unwrap().max_attempts, 3);
}

#[test]
fn a_rollback_swaps_and_takes_up_the_template_that_tasks_still_have() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let error = swarm.err(rollback(&swarm, "web"));
    assert_eq!(error.code(), Code::Precondition);
    assert!(error.message.ends_with("does not have a previous spec"));
    swarm.place("t1", "web", 1, NODE, TaskState::Running);
    let first = swarm.service("web").template_version;
    swarm.ok(update(&swarm, "web", image("alpine:4")));
    swarm.ok(rollback(&swarm, "web"));
    let service = swarm.service("web");
    assert_eq!(
        service.spec.as_ref().unwrap().container().unwrap().image,
        "alpine:3"
    );
    assert_eq!(
        service
            .previous_spec
            .as_ref()
            .unwrap()
            .container()
            .unwrap()
            .image,
        "alpine:4"
    );
    assert_eq!(service.template_version, first);
    let status = service.update_status.unwrap();
    assert_eq!(status.state(), update_status::State::RollbackStarted);
    swarm.ok(rollback(&swarm, "web"));
    assert_eq!(
        swarm
            .service("web")
            .spec
            .unwrap()
            .container()
            .unwrap()
            .image,
        "alpine:4"
    );
}

#[test]
fn name_and_mode_stay_as_they_are() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let error = swarm.err(update(&swarm, "web", spec("site")));
    assert_eq!(
        (error.code(), error.field.as_str()),
        (Code::Unsupported, "name")
    );
    let global = ServiceSpec {
        mode: Some(service_spec::Mode::Global(Global {})),
        ..spec("web")
    };
    let error = swarm.err(update(&swarm, "web", global));
    assert_eq!(
        (error.code(), error.field.as_str()),
        (Code::Unsupported, "mode")
    );
    swarm.ok(scale("web", 5));
    swarm.ok(update(
        &swarm,
        "web",
        ServiceSpec {
            mode: None,
            ..image("alpine:4")
        },
    ));
    assert_eq!(swarm.service("web").replicas(), 5);
}

#[test]
fn credentials_are_never_shown_and_stay_with_their_registry() {
    let auth = "eyJhIjoiYiJ9";
    let secret = |image: &str| {
        container(|c| {
            c.image = image.to_owned();
            c.registry_auth = auth.to_owned();
        })
    };
    let mut swarm = Swarm::founded();
    let shown = swarm.ok(create(secret("r.example.com/web:1")));
    assert!(!format!("{shown:?}").contains(auth));
    swarm.ok(update(&swarm, "web", image("r.example.com/web:2")));
    let stored = |swarm: &Swarm| {
        swarm
            .service("web")
            .spec
            .unwrap()
            .container()
            .unwrap()
            .registry_auth
            .clone()
    };
    assert_eq!(stored(&swarm), auth);
    let response = swarm.ok(update(&swarm, "web", image("other.example.com/web:2")));
    assert_eq!(stored(&swarm), "");
    assert_eq!(response.warnings.len(), 1);
    assert!(
        !format!("{response:?}").contains(auth),
        "not from the previous spec either"
    );
}

#[test]
fn scaling_names_a_number_and_nothing_else() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    let template = swarm.service("web").template_version;
    swarm.ok(scale("web", 7));
    assert_eq!(swarm.service("web").replicas(), 7);
    assert_eq!(swarm.service("web").template_version, template);
    assert_eq!(swarm.service("web").previous_spec.unwrap().replicas(), 1);
    let version = swarm.world.version();
    swarm.ok(scale("web", 7));
    assert_eq!(swarm.world.version(), version);
    assert_eq!(swarm.err(scale("web", u64::MAX)).field, "replicas");
    swarm.ok(create(ServiceSpec {
        mode: Some(service_spec::Mode::Global(Global {})),
        ..spec("agent")
    }));
    assert_eq!(swarm.err(scale("agent", 2)).code(), Code::Precondition);
}

#[test]
fn scaling_neither_resumes_a_paused_update_nor_spoils_its_rollback() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    swarm.ok(update(&swarm, "web", image("broken:1")));
    let mut paused = swarm.service("web");
    let status = UpdateStatus {
        state: update_status::State::Paused.into(),
        ..UpdateStatus::default()
    };
    paused.update_status = Some(status.clone());
    swarm.world.apply(&Transaction {
        at_ns: NOW,
        changes: vec![put(paused)],
        outcomes: vec![],
    });
    swarm.ok(scale("web", 4));
    assert_eq!(swarm.service("web").update_status, Some(status));
    swarm.ok(rollback(&swarm, "web"));
    let service = swarm.service("web");
    assert_eq!(
        service.spec.as_ref().unwrap().container().unwrap().image,
        "alpine:3"
    );
    assert_eq!(service.replicas(), 4);
}

#[test]
fn a_removed_services_name_is_free_at_once() {
    let mut swarm = Swarm::founded();
    swarm.ok(create(spec("web")));
    swarm.ok(Verb::RemoveService(RemoveService {
        service: "WEB".to_owned(),
    }));
    assert_eq!(swarm.err(scale("web", 1)).code(), Code::NotFound);
    swarm.ok(create(spec("web")));
}

mod any_spec;
