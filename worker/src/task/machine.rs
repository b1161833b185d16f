//! One task's state machine. It holds what is wanted, what is known of the
//! container and what was last said of it, and answers one question: what is
//! the next thing to do. It is level-triggered: after any doubt it looks at the
//! container again and decides anew, so that being told twice, a lost answer or
//! a restart in the middle never makes a second container.
//!
//! Pure: no clock, no I/O.

use skep_proto::v1::{Assignment, ContainerStatus, TaskState, TaskStatus};

use crate::runtime::{Health, Phase, RuntimeError, View, container_name};

/// The grace of a container whose spec names none.
const GRACE_NS_DEFAULT: i64 = 10_000_000_000;
/// The first and the longest wait before something is tried again.
const RETRY_NS: (i64, i64) = (100_000_000, 5_000_000_000);

/// One thing to do to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Look at it.
    Inspect,
    /// Fetch its image.
    Pull,
    /// Make it.
    Create,
    /// Start it.
    Start,
    /// End it, with grace.
    Stop,
    /// Remove it.
    Remove,
}

/// How an operation went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Looked: this is there, or nothing is.
    Seen(Option<View>),
    /// Made; its id.
    Created(String),
    /// Any other went well.
    Done,
    /// It did not go well.
    Failed(RuntimeError),
    /// It was given up half way because something else is wanted.
    Interrupted,
}

/// What the machine wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Do this, then [`Machine::finished`].
    Run(Operation),
    /// Nothing until something changes.
    Idle,
    /// Ask again at this time.
    At(i64),
    /// The container is gone and nobody wants to know: drop the machine.
    Forget,
}

#[derive(Debug, Clone, PartialEq)]
enum Container {
    /// Look before anything else.
    Unknown,
    Absent,
    Present(View),
}

/// One task on this host.
#[derive(Debug, Clone)]
pub struct Machine {
    task_id: String,
    /// `None` for a container whose task nobody assigned.
    assignment: Option<Assignment>,
    /// What to call the container by: its name, or its id for an unassigned one.
    reference: String,
    desired: TaskState,
    forget: bool,
    status: TaskStatus,
    container: Container,
    image: Image,
    /// The registry credentials are not kept on disk: wait for the leader.
    auth_withheld: bool,
    /// Why a container that still runs has failed.
    failure: Option<String>,
    busy: Option<Operation>,
    /// Something happened while an operation was under way.
    stale: bool,
    retries: u32,
    not_before_ns: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Image {
    Assumed,
    Missing,
    Pulled,
}

impl Machine {
    /// A task that was just assigned. `maybe_running`: the host may already
    /// have its container, so it is looked for first.
    pub fn assigned(assignment: Assignment, maybe_running: bool) -> Self {
        let container = if maybe_running {
            Container::Unknown
        } else {
            Container::Absent
        };
        Self {
            task_id: assignment.task_id.clone(),
            reference: container_name(&assignment),
            desired: assignment.desired(),
            assignment: Some(assignment),
            forget: false,
            status: TaskStatus::default(),
            container,
            image: Image::Assumed,
            auth_withheld: false,
            failure: None,
            busy: None,
            stale: false,
            retries: 0,
            not_before_ns: 0,
        }
    }

    /// A task read back from disk, with its last status.
    pub fn restored(assignment: Assignment, status: TaskStatus, auth_withheld: bool) -> Self {
        Self {
            status,
            auth_withheld,
            ..Self::assigned(assignment, true)
        }
    }

    /// A container that no assignment knows: to be stopped and removed.
    pub fn unassigned(task_id: String, container_id: String) -> Self {
        Self {
            assignment: None,
            reference: container_id,
            desired: TaskState::Remove,
            forget: true,
            ..Self::assigned(
                Assignment {
                    task_id,
                    ..Assignment::default()
                },
                true,
            )
        }
    }

    /// The newest assignment; `None` for an unassigned container.
    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// What is to be said of the task.
    pub fn status(&self) -> &TaskStatus {
        &self.status
    }

    /// The container's name, or its id when it is known.
    pub fn reference(&self) -> &str {
        match &self.container {
            Container::Present(view) if !view.id.is_empty() => &view.id,
            _ => &self.reference,
        }
    }

    /// How long a stop may take.
    pub fn grace_ns(&self) -> i64 {
        self.assignment
            .as_ref()
            .and_then(|a| a.spec.as_ref()?.container.as_ref()?.stop_grace_period_ns)
            .unwrap_or(GRACE_NS_DEFAULT)
    }

    /// Whether the operation under way keeps the task from what is now wanted.
    pub fn wants_interrupt(&self) -> bool {
        self.busy == Some(Operation::Pull) && self.is_unwanted()
    }

    /// The leader's word. An older generation is ignored, and what is wanted
    /// never goes back.
    pub fn assign(&mut self, assignment: Assignment) {
        if let Some(held) = &self.assignment
            && assignment.generation < held.generation
        {
            return;
        }
        if self.assignment.is_none() {
            // It turned out to be somebody's: nothing is known of its status.
            self.desired = TaskState::New;
            self.reference = container_name(&assignment);
            self.container = Container::Unknown;
        }
        self.forget = false;
        self.auth_withheld = false;
        self.desired = self.desired.max(assignment.desired());
        self.assignment = Some(assignment);
        self.not_before_ns = 0;
    }

    /// The leader knows it no more: end it, remove it, forget it.
    pub fn remove(&mut self) {
        self.forget = true;
        self.not_before_ns = 0;
    }

    /// Something happened to the container: look again.
    pub fn touched(&mut self) {
        if self.busy.is_some() {
            self.stale = true;
        } else {
            self.container = Container::Unknown;
        }
        self.not_before_ns = 0;
    }

    /// A list of all containers showed it so (`None`: not at all).
    pub fn listed(&mut self, phase: Option<Phase>) {
        if self.busy.is_some() {
            return;
        }
        let known = match &self.container {
            Container::Unknown => return,
            Container::Absent => None,
            Container::Present(view) => Some(view.phase),
        };
        if known != phase {
            self.container = Container::Unknown;
        }
    }

    /// A pull's progress.
    pub fn progress(&mut self, text: String, now_ns: i64) {
        if self.busy == Some(Operation::Pull) && self.status.message != text {
            self.status.message = text;
            self.status.at_ns = now_ns;
        }
    }

    /// The engine does not answer, so that an operation under way will take long.
    pub fn engine_away(&mut self, why: &str, now_ns: i64) {
        if self.busy.is_some() && self.status.state() < TaskState::Running {
            self.say(&format!("waiting: {why}"), now_ns);
        }
    }

    /// What to do next. An operation that it names is under way from then on.
    pub fn next(&mut self, now_ns: i64) -> Next {
        if self.busy.is_some() {
            return Next::Idle;
        }
        if self.not_before_ns > now_ns {
            return Next::At(self.not_before_ns);
        }
        self.advance(TaskState::Accepted, "accepted", now_ns);
        let next = match self.container.clone() {
            Container::Unknown => Next::Run(Operation::Inspect),
            Container::Absent => self.without_container(now_ns),
            Container::Present(view) => self.with_container(&view, now_ns),
        };
        if let Next::Run(operation) = next {
            self.busy = Some(operation);
        }
        next
    }

    /// How the operation that [`Machine::next`] named went.
    pub fn finished(&mut self, outcome: Outcome, now_ns: i64) {
        let Some(operation) = self.busy.take() else {
            return;
        };
        match outcome {
            Outcome::Failed(error) => self.failed(operation, error, now_ns),
            Outcome::Interrupted => self.container = Container::Unknown,
            Outcome::Seen(seen) => self.seen(seen, now_ns),
            Outcome::Created(id) => {
                self.retries = 0;
                self.container = Container::Present(View {
                    id,
                    task_id: self.task_id.clone(),
                    ..View::default()
                });
            }
            Outcome::Done => {
                self.retries = 0;
                match operation {
                    Operation::Pull => self.image = Image::Pulled,
                    Operation::Remove => self.container = Container::Absent,
                    _ => self.container = Container::Unknown,
                }
            }
        }
        if std::mem::take(&mut self.stale) && self.container != Container::Absent {
            self.container = Container::Unknown;
        }
    }

    fn seen(&mut self, seen: Option<View>, now_ns: i64) {
        match seen {
            Some(view) if view.task_id == self.task_id => {
                self.retries = 0;
                self.container = Container::Present(view);
            }
            Some(_) => {
                // The name is taken by a container that is not ours to touch.
                self.container = Container::Absent;
                let error = format!(
                    "a container named {} exists and is not this task's: remove or rename it",
                    self.reference
                );
                self.end(TaskState::Rejected, "container name taken", error, now_ns);
            }
            None => self.container = Container::Absent,
        }
    }

    fn is_terminal(&self) -> bool {
        self.status.state() > TaskState::Running
    }

    fn is_unwanted(&self) -> bool {
        self.forget || self.desired >= TaskState::Shutdown
    }

    fn is_removed(&self) -> bool {
        self.forget || self.desired >= TaskState::Remove
    }

    fn without_container(&mut self, now_ns: i64) -> Next {
        if self.is_unwanted() {
            if !self.is_terminal() {
                self.end(TaskState::Shutdown, "shutdown", String::new(), now_ns);
            }
            return if self.forget {
                Next::Forget
            } else {
                Next::Idle
            };
        }
        let state = self.status.state();
        if self.is_terminal() {
            return Next::Idle;
        }
        if state >= TaskState::Starting {
            let error = format!(
                "container {} was removed from outside the swarm",
                self.reference
            );
            self.end(TaskState::Failed, "container gone", error, now_ns);
            return Next::Idle;
        }
        self.advance(TaskState::Preparing, "preparing", now_ns);
        match self.image {
            Image::Missing if self.auth_withheld => {
                self.say(
                    "waiting for a manager to give the registry credentials",
                    now_ns,
                );
                Next::Idle
            }
            Image::Missing => Next::Run(Operation::Pull),
            Image::Assumed | Image::Pulled => Next::Run(Operation::Create),
        }
    }

    fn with_container(&mut self, view: &View, now_ns: i64) -> Next {
        match view.phase {
            Phase::Exited => {
                if !self.is_terminal() {
                    self.conclude(view, now_ns);
                }
            }
            Phase::Running => return self.with_running(view, now_ns),
            Phase::Created if self.is_terminal() => {}
            Phase::Created if self.is_unwanted() => {
                self.end(TaskState::Shutdown, "shutdown", String::new(), now_ns);
            }
            Phase::Created => {
                self.note(view);
                self.advance(TaskState::Ready, "prepared", now_ns);
                if self.desired >= TaskState::Running {
                    self.advance(TaskState::Starting, "starting", now_ns);
                    return Next::Run(Operation::Start);
                }
            }
        }
        if self.is_removed() {
            return Next::Run(Operation::Remove);
        }
        Next::Idle
    }

    fn with_running(&mut self, view: &View, now_ns: i64) -> Next {
        self.note(view);
        if self.is_unwanted() || self.is_terminal() || self.failure.is_some() {
            return Next::Run(Operation::Stop);
        }
        match view.health {
            Health::None | Health::Healthy => {
                self.advance(TaskState::Running, "started", now_ns);
                Next::Idle
            }
            Health::Starting => {
                self.advance(TaskState::Starting, "starting", now_ns);
                if self.status.state() == TaskState::Starting {
                    self.say("waiting for its health check to pass", now_ns);
                }
                Next::Idle
            }
            Health::Unhealthy => {
                let mut failure = "unhealthy container".to_owned();
                if !view.health_output.is_empty() {
                    failure = format!("{failure}: {}", view.health_output);
                }
                self.advance(TaskState::Starting, "starting", now_ns);
                self.say("stopping an unhealthy container", now_ns);
                self.failure = Some(failure);
                Next::Run(Operation::Stop)
            }
        }
    }

    /// The container ended: why, in words.
    fn conclude(&mut self, view: &View, now_ns: i64) {
        self.note(view);
        if let Some(container) = self.status.container.as_mut() {
            container.exit_code = Some(view.exit_code);
            container.oom_killed = view.oom_killed;
            container.pid = 0;
        }
        let exit = format!("task: non-zero exit ({})", view.exit_code);
        let cause = match &self.failure {
            Some(failure) => Some(failure.clone()),
            None if view.oom_killed => Some("killed by the OOM killer".to_owned()),
            None if !view.error.is_empty() => Some(view.error.clone()),
            None => None,
        };
        if self.failure.is_none() && self.is_unwanted() {
            self.end(TaskState::Shutdown, "shutdown", String::new(), now_ns);
        } else if self.failure.is_none() && view.exit_code == 0 {
            self.end(TaskState::Complete, "finished", String::new(), now_ns);
        } else {
            let error = match cause {
                Some(cause) => format!("{exit}: {cause}"),
                None => exit,
            };
            self.end(TaskState::Failed, "failed", error, now_ns);
        }
    }

    fn failed(&mut self, operation: Operation, error: RuntimeError, now_ns: i64) {
        match (operation, error) {
            (_, RuntimeError::Unavailable(why)) => {
                self.container = Container::Unknown;
                self.retry(&why, now_ns);
            }
            (Operation::Create, RuntimeError::NoSuchImage(why)) if self.image == Image::Pulled => {
                self.end(TaskState::Rejected, "image missing", why, now_ns);
            }
            (Operation::Create, RuntimeError::NoSuchImage(_)) => self.image = Image::Missing,
            // There already, most likely ours: look, and adopt it. Once more only.
            (Operation::Create, RuntimeError::Conflict(why)) => {
                self.container = Container::Unknown;
                if self.retries > 0 {
                    self.retry(&why, now_ns);
                }
                self.retries = self.retries.saturating_add(1);
            }
            (Operation::Create | Operation::Pull, error) => {
                // An answer that says no is not always true: look once more.
                self.container = Container::Unknown;
                let what = if operation == Operation::Pull {
                    "image cannot be pulled"
                } else {
                    "container cannot be made"
                };
                self.end(TaskState::Rejected, what, error.to_string(), now_ns);
            }
            (Operation::Start, RuntimeError::Refused(why)) => {
                self.container = Container::Unknown;
                self.end(
                    TaskState::Failed,
                    "container cannot be started",
                    why,
                    now_ns,
                );
            }
            (_, RuntimeError::NotFound(_)) => self.container = Container::Unknown,
            (_, error) => {
                self.container = Container::Unknown;
                self.retry(&error.to_string(), now_ns);
            }
        }
    }

    fn retry(&mut self, why: &str, now_ns: i64) {
        let wait = RETRY_NS
            .0
            .checked_shl(self.retries.min(16))
            .unwrap_or(RETRY_NS.1)
            .min(RETRY_NS.1);
        self.retries = self.retries.saturating_add(1);
        self.not_before_ns = now_ns.saturating_add(wait);
        if !self.is_terminal() {
            self.say(&format!("trying again: {why}"), now_ns);
        }
    }

    fn note(&mut self, view: &View) {
        if self.is_terminal() {
            return;
        }
        let container = self
            .status
            .container
            .get_or_insert_with(ContainerStatus::default);
        container.container_id = view.id.clone();
        container.pid = view.pid;
        container.health = match view.health {
            Health::None => "",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
        .to_owned();
        if view.phase == Phase::Running {
            self.status.ports = view.ports.clone();
        }
    }

    fn advance(&mut self, state: TaskState, message: &str, now_ns: i64) {
        if self.status.state() < state {
            self.status.set_state(state);
            self.status.message = message.to_owned();
            self.status.error.clear();
            self.status.at_ns = now_ns;
        }
    }

    fn say(&mut self, message: &str, now_ns: i64) {
        if self.status.message != message {
            self.status.message = message.to_owned();
            self.status.at_ns = now_ns;
        }
    }

    /// Ends the task; the first end stands. What failed before the start was
    /// never running: rejected rather than failed.
    fn end(&mut self, state: TaskState, message: &str, error: String, now_ns: i64) {
        if self.is_terminal() {
            return;
        }
        self.status.set_state(state);
        self.status.message = message.to_owned();
        self.status.error = error;
        self.status.at_ns = now_ns;
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
