use super::*;
use proptest::prelude::*;
use skep_proto::v1::{ContainerSpec, TaskSpec};

fn assignment(desired: TaskState) -> Assignment {
    Assignment {
        task_id: "t".into(),
        generation: desired as u64,
        desired: desired.into(),
        service_name: "web".into(),
        slot: 1,
        spec: Some(TaskSpec {
            container: Some(ContainerSpec::default()),
            ..TaskSpec::default()
        }),
        ..Assignment::default()
    }
}

fn view(phase: Phase) -> View {
    View {
        id: "c".into(),
        task_id: "t".into(),
        phase,
        pid: 7,
        ..View::default()
    }
}

/// Runs a machine by hand: what it asks for, and the answer given.
fn drive(machine: &mut Machine, script: Vec<(Operation, Outcome)>) {
    for (operation, outcome) in script {
        assert_eq!(machine.next(1), Next::Run(operation));
        machine.finished(outcome, 1);
    }
}

fn running() -> Machine {
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(
        &mut machine,
        vec![
            (Operation::Create, Outcome::Created("c".into())),
            (Operation::Start, Outcome::Done),
            (
                Operation::Inspect,
                Outcome::Seen(Some(view(Phase::Running))),
            ),
        ],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Running);
    machine
}

fn ended(machine: &mut Machine, seen: View) -> (TaskState, String) {
    machine.touched();
    drive(
        machine,
        vec![(Operation::Inspect, Outcome::Seen(Some(seen)))],
    );
    assert_eq!(machine.next(1), Next::Idle);
    (machine.status().state(), machine.status().error.clone())
}

#[test]
fn a_task_runs_with_one_create_one_start_and_one_look() {
    let machine = running();
    let container = machine.status().container.clone().unwrap();
    assert_eq!((container.container_id.as_str(), container.pid), ("c", 7));
}

#[test]
fn an_end_is_told_in_words() {
    let exited = |code, oom| View {
        exit_code: code,
        oom_killed: oom,
        ..view(Phase::Exited)
    };
    for (seen, state, error) in [
        (exited(0, false), TaskState::Complete, ""),
        (
            exited(3, false),
            TaskState::Failed,
            "task: non-zero exit (3)",
        ),
        (
            exited(137, true),
            TaskState::Failed,
            "task: non-zero exit (137): killed by the OOM killer",
        ),
    ] {
        let mut machine = running();
        assert_eq!(ended(&mut machine, seen), (state, error.to_owned()));
    }
}

#[test]
fn a_container_removed_by_hand_fails_its_task() {
    let mut machine = running();
    machine.touched();
    drive(
        &mut machine,
        vec![(Operation::Inspect, Outcome::Seen(None))],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Failed);
    assert_eq!(
        machine.status().error,
        "container web.1.t was removed from outside the swarm"
    );
}

#[test]
fn a_prepared_task_waits_for_its_start() {
    let mut machine = Machine::assigned(assignment(TaskState::Ready), false);
    drive(
        &mut machine,
        vec![(Operation::Create, Outcome::Created("c".into()))],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Ready);
    machine.assign(assignment(TaskState::Running));
    assert_eq!(machine.next(1), Next::Run(Operation::Start));
    assert_eq!(machine.status().state(), TaskState::Starting);
}

#[test]
fn a_missing_image_is_pulled_once_and_then_refused() {
    let missing = || Outcome::Failed(RuntimeError::NoSuchImage("No such image: x".into()));
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(
        &mut machine,
        vec![
            (Operation::Create, missing()),
            (Operation::Pull, Outcome::Done),
            (Operation::Create, missing()),
        ],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Rejected);
    assert_eq!(machine.status().error, "No such image: x");
}

#[test]
fn a_pull_without_its_credentials_waits_for_the_leader() {
    let mut machine =
        Machine::restored(assignment(TaskState::Running), TaskStatus::default(), true);
    drive(
        &mut machine,
        vec![
            (Operation::Inspect, Outcome::Seen(None)),
            (
                Operation::Create,
                Outcome::Failed(RuntimeError::NoSuchImage(String::new())),
            ),
        ],
    );
    assert_eq!(machine.next(1), Next::Idle);
    machine.assign(assignment(TaskState::Running));
    assert_eq!(machine.next(1), Next::Run(Operation::Pull));
}

#[test]
fn a_pull_is_given_up_when_the_task_is_not_wanted() {
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(
        &mut machine,
        vec![(
            Operation::Create,
            Outcome::Failed(RuntimeError::NoSuchImage(String::new())),
        )],
    );
    assert_eq!(machine.next(1), Next::Run(Operation::Pull));
    assert!(!machine.wants_interrupt());
    machine.assign(assignment(TaskState::Shutdown));
    assert!(machine.wants_interrupt());
    machine.finished(Outcome::Interrupted, 1);
    drive(
        &mut machine,
        vec![(Operation::Inspect, Outcome::Seen(None))],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Shutdown);
}

#[test]
fn a_start_error_fails_and_a_create_error_rejects() {
    let refused = || Outcome::Failed(RuntimeError::Refused("exec: no".into()));
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(&mut machine, vec![(Operation::Create, refused())]);
    assert_eq!(machine.next(1), Next::Run(Operation::Inspect));
    assert_eq!(machine.status().state(), TaskState::Rejected);

    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(
        &mut machine,
        vec![
            (Operation::Create, Outcome::Created("c".into())),
            (Operation::Start, refused()),
        ],
    );
    assert_eq!(machine.status().state(), TaskState::Failed);
    assert_eq!(machine.status().error, "exec: no");
}

#[test]
fn an_engine_that_does_not_answer_is_waited_for() {
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    drive(
        &mut machine,
        vec![(
            Operation::Create,
            Outcome::Failed(RuntimeError::Unavailable("the engine hangs".into())),
        )],
    );
    assert!(matches!(machine.next(1), Next::At(at) if at > 1));
    assert!(machine.status().message.contains("the engine hangs"));
    assert_eq!(machine.status().state(), TaskState::Preparing);
    machine.touched();
    assert_eq!(machine.next(1), Next::Run(Operation::Inspect));
}

#[test]
fn with_a_health_check_it_runs_at_the_first_healthy_probe() {
    let with = |health, output: &str| View {
        health,
        health_output: output.into(),
        ..view(Phase::Running)
    };
    let mut machine = Machine::assigned(assignment(TaskState::Running), false);
    let seen = Outcome::Seen(Some(with(Health::Starting, "")));
    drive(
        &mut machine,
        vec![
            (Operation::Create, Outcome::Created("c".into())),
            (Operation::Start, Outcome::Done),
            (Operation::Inspect, seen),
        ],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Starting);
    machine.touched();
    let seen = Outcome::Seen(Some(with(Health::Healthy, "")));
    drive(&mut machine, vec![(Operation::Inspect, seen)]);
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Running);

    machine.touched();
    let seen = Outcome::Seen(Some(with(Health::Unhealthy, "no route")));
    let exited = Outcome::Seen(Some(view(Phase::Exited)));
    drive(
        &mut machine,
        vec![
            (Operation::Inspect, seen),
            (Operation::Stop, Outcome::Done),
            (Operation::Inspect, exited),
        ],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Failed);
    assert_eq!(
        machine.status().error,
        "task: non-zero exit (0): unhealthy container: no route"
    );
}

#[test]
fn an_older_generation_changes_nothing() {
    let mut machine = running();
    machine.assign(assignment(TaskState::Shutdown));
    machine.assign(assignment(TaskState::Running));
    assert_eq!(machine.next(1), Next::Run(Operation::Stop));
}

#[test]
fn a_foreign_container_of_the_same_name_is_left_alone() {
    let mut machine = Machine::assigned(assignment(TaskState::Running), true);
    let foreign = View {
        task_id: "other".into(),
        ..view(Phase::Running)
    };
    drive(
        &mut machine,
        vec![(Operation::Inspect, Outcome::Seen(Some(foreign)))],
    );
    assert_eq!(machine.next(1), Next::Idle);
    assert_eq!(machine.status().state(), TaskState::Rejected);
}

#[test]
fn a_task_that_is_removed_leaves_nothing_behind() {
    let mut machine = running();
    machine.remove();
    drive(
        &mut machine,
        vec![
            (Operation::Stop, Outcome::Done),
            (Operation::Inspect, Outcome::Seen(Some(view(Phase::Exited)))),
            (Operation::Remove, Outcome::Done),
        ],
    );
    assert_eq!(machine.next(1), Next::Forget);
}

/// What may happen to a task, in any order.
#[derive(Debug, Clone)]
enum Fate {
    /// The machine takes a step, and what it asked for happens…
    Step(Luck),
    Assign(TaskState),
    Remove,
    /// The process ends by itself; told or not.
    Exit(i32, bool),
    /// Somebody removes the container; told or not.
    Lose(bool),
    Touched,
    Listed,
    Sick,
    /// The agent is killed and started again.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Luck {
    Good,
    /// It is done, but the answer is lost.
    DoneUnheard,
    /// It is not done, and the answer is lost.
    Lost,
    Refused,
    /// It is done, and the answer says that it cannot be.
    DoneYetRefused,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let luck = prop_oneof![
        6 => Just(Luck::Good),
        1 => Just(Luck::DoneUnheard),
        1 => Just(Luck::Lost),
        1 => Just(Luck::Refused),
        1 => Just(Luck::DoneYetRefused),
    ];
    let desired = prop_oneof![
        Just(TaskState::Ready),
        Just(TaskState::Running),
        Just(TaskState::Shutdown),
        Just(TaskState::Remove),
    ];
    let fate = prop_oneof![
        12 => luck.prop_map(Fate::Step),
        2 => desired.prop_map(Fate::Assign),
        1 => Just(Fate::Remove),
        1 => (0..3_i32, any::<bool>()).prop_map(|(code, told)| Fate::Exit(code, told)),
        1 => any::<bool>().prop_map(Fate::Lose),
        1 => Just(Fate::Touched),
        1 => Just(Fate::Listed),
        1 => Just(Fate::Sick),
        1 => Just(Fate::Restart),
    ];
    proptest::collection::vec(fate, 0..60)
}

/// One task's container on an engine, and the machine that minds it.
struct Host {
    machine: Machine,
    container: Option<View>,
    now_ns: i64,
    forgotten: bool,
}

impl Host {
    fn step(&mut self, luck: Luck) -> bool {
        self.now_ns += 60_000_000_000;
        let before = self.machine.status().state();
        let next = self.machine.next(self.now_ns);
        assert!(self.machine.status().state() >= before, "a state went back");
        match next {
            Next::Forget => {
                assert!(self.container.is_none(), "forgot a container");
                self.forgotten = true;
                false
            }
            Next::Run(operation) => {
                let outcome = self.perform(operation, luck);
                let before = self.machine.status().state();
                self.machine.finished(outcome, self.now_ns);
                assert!(self.machine.status().state() >= before, "a state went back");
                true
            }
            Next::Idle | Next::At(_) => false,
        }
    }

    fn perform(&mut self, operation: Operation, luck: Luck) -> Outcome {
        let state = self.machine.status().state();
        match operation {
            Operation::Create => assert!(
                state < TaskState::Starting,
                "a task that was started gets a second container"
            ),
            Operation::Start => assert_eq!(state, TaskState::Starting, "started out of turn"),
            Operation::Stop | Operation::Remove => assert!(
                self.machine.is_unwanted()
                    || self.machine.is_terminal()
                    || self.machine.failure.is_some(),
                "a wanted container is touched"
            ),
            _ => {}
        }
        let lost = || Outcome::Failed(RuntimeError::Unavailable("lost".into()));
        match luck {
            Luck::Lost => return lost(),
            Luck::Refused if operation != Operation::Inspect => {
                return Outcome::Failed(RuntimeError::Refused("no".into()));
            }
            _ => {}
        }
        let done = self.act(operation);
        match luck {
            Luck::DoneUnheard => lost(),
            Luck::DoneYetRefused if operation != Operation::Inspect => {
                Outcome::Failed(RuntimeError::Refused("no".into()))
            }
            _ => done,
        }
    }

    fn act(&mut self, operation: Operation) -> Outcome {
        let gone = || Outcome::Failed(RuntimeError::NotFound("gone".into()));
        match (operation, &mut self.container) {
            (Operation::Inspect, seen) => Outcome::Seen(seen.clone()),
            (Operation::Pull, _) => Outcome::Done,
            (Operation::Create, Some(_)) => {
                Outcome::Failed(RuntimeError::Conflict("exists".into()))
            }
            (Operation::Create, none) => {
                *none = Some(view(Phase::Created));
                Outcome::Created("c".into())
            }
            (Operation::Remove, any) => {
                *any = None;
                Outcome::Done
            }
            (Operation::Start, Some(view)) => {
                view.phase = Phase::Running;
                Outcome::Done
            }
            (Operation::Stop, Some(view)) => {
                if view.phase == Phase::Running {
                    view.phase = Phase::Exited;
                    view.exit_code = 143;
                }
                Outcome::Done
            }
            (_, None) => gone(),
        }
    }

    fn suffer(&mut self, fate: Fate) {
        match fate {
            Fate::Step(luck) => {
                self.step(luck);
            }
            Fate::Assign(desired) => self.machine.assign(assignment(desired)),
            Fate::Remove => self.machine.remove(),
            Fate::Exit(code, told) => {
                if let Some(view) = &mut self.container
                    && view.phase == Phase::Running
                {
                    view.phase = Phase::Exited;
                    view.exit_code = code;
                }
                if told {
                    self.machine.touched();
                }
            }
            Fate::Lose(told) => {
                self.container = None;
                if told {
                    self.machine.touched();
                }
            }
            Fate::Touched => self.machine.touched(),
            Fate::Listed => self
                .machine
                .listed(self.container.as_ref().map(|c| c.phase)),
            Fate::Sick => {
                if let Some(view) = &mut self.container {
                    view.health = Health::Unhealthy;
                }
            }
            Fate::Restart => {
                let assignment = self.machine.assignment().cloned().unwrap_or_default();
                let forget = self.machine.forget;
                self.machine = Machine::restored(assignment, self.machine.status().clone(), false);
                if forget {
                    // The full set of the next session says so again.
                    self.machine.remove();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_happens_no_container_is_doubled_or_left(fates in fates()) {
        let mut host = Host {
            machine: Machine::assigned(assignment(TaskState::Ready), false),
            container: None,
            now_ns: 0,
            forgotten: false,
        };
        for fate in fates {
            if host.forgotten {
                break;
            }
            host.suffer(fate);
        }
        // Faults are over, and the periodic list shows what is.
        let mut steps = 0;
        for _ in 0..3 {
            if host.forgotten {
                break;
            }
            host.machine.listed(host.container.as_ref().map(|c| c.phase));
            while host.step(Luck::Good) {
                steps += 1;
                prop_assert!(steps < 50, "it never comes to rest");
            }
        }
        if host.forgotten {
            return Ok(());
        }
        let state = host.machine.status().state();
        let phase = host.container.as_ref().map(|c| c.phase);
        let desired = host.machine.desired;
        if host.machine.is_removed() {
            prop_assert_eq!(phase, None, "a removed task has a container");
            prop_assert!(state > TaskState::Running);
        } else if state > TaskState::Running || desired >= TaskState::Shutdown {
            prop_assert_ne!(phase, Some(Phase::Running), "an ended task runs");
            prop_assert!(state > TaskState::Running);
        } else if desired == TaskState::Running {
            prop_assert_eq!((state, phase), (TaskState::Running, Some(Phase::Running)));
        } else {
            prop_assert_eq!((state, phase), (TaskState::Ready, Some(Phase::Created)));
        }
    }
}
