//! The set of a host's tasks: it brings assignments and the engine's news to
//! the machines, runs what they ask for, one operation per task at a time, and
//! puts what they say on the board and on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_proto::v1::{Assignment, Assignments};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::board::Board;
use super::machine::{Machine, Next, Operation, Outcome};
use crate::clock::now_ns;
use crate::runtime::{Listed, Result as RuntimeResult, Runtime};
use crate::store::{Store, Stored};

/// Inputs that may wait before their senders do.
const INPUTS_MAX: usize = 1024;

/// What moves the set.
#[derive(Debug)]
pub enum Input {
    /// From a leader.
    Assigned(Assignments),
    /// The engine: something happened to this task's container.
    Touched(String),
    /// The engine is there (again), or why it is not.
    Engine(Option<String>),
    /// A pull's progress.
    Progress(String, String),
    /// Stop and remove everything; answered once nothing is left.
    Leave(oneshot::Sender<()>),
}

/// Sends to the set.
#[derive(Debug, Clone)]
pub struct TasksHandle(mpsc::Sender<Input>);

impl TasksHandle {
    /// A leader's word, in order. `false` when the set is gone.
    pub async fn assign(&self, change: Assignments) -> bool {
        self.0.send(Input::Assigned(change)).await.is_ok()
    }

    /// Stops and removes every container of this node; waits until it is done.
    /// `false` when the set is gone.
    pub async fn leave(&self) -> bool {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Input::Leave(sender)).await.is_ok() && receiver.await.is_ok()
    }
}

struct Entry {
    machine: Machine,
    running: Option<AbortHandle>,
}

type Finished = (String, Outcome);

/// The set itself; [`Tasks::run`] drives it.
pub struct Tasks<R> {
    runtime: Arc<R>,
    board: Arc<Board>,
    store: Arc<Store>,
    inputs: mpsc::Receiver<Input>,
    handle: mpsc::Sender<Input>,
    entries: BTreeMap<String, Entry>,
    operations: JoinSet<Finished>,
    lists: JoinSet<RuntimeResult<Vec<Listed>>>,
    engine_error: Arc<watch::Sender<String>>,
    reconcile_interval: Duration,
    /// A leader has told everything at least once: what is not known since is
    /// nobody's.
    complete: bool,
    leaving: Option<oneshot::Sender<()>>,
    /// Everything was listed at least once since leaving began.
    swept: bool,
}

impl<R: Runtime> Tasks<R> {
    /// With the tasks read back from disk.
    pub fn new(
        runtime: Arc<R>,
        board: Arc<Board>,
        store: Arc<Store>,
        restored: Vec<Stored>,
        reconcile_interval: Duration,
    ) -> (Self, TasksHandle, watch::Receiver<String>) {
        let (handle, inputs) = mpsc::channel(INPUTS_MAX);
        let (engine_error, engine_errors) = watch::channel(String::new());
        let mut tasks = Self {
            runtime,
            board,
            store,
            inputs,
            handle: handle.clone(),
            entries: BTreeMap::new(),
            operations: JoinSet::new(),
            lists: JoinSet::new(),
            engine_error: Arc::new(engine_error),
            reconcile_interval,
            complete: false,
            leaving: None,
            swept: false,
        };
        for stored in restored {
            let assignment = stored.assignment.unwrap_or_default();
            let status = stored.status.unwrap_or_default();
            let task_id = assignment.task_id.clone();
            let machine = Machine::restored(assignment, status, stored.auth_withheld);
            tasks.publish(&task_id, &machine);
            tasks.insert(task_id, machine);
        }
        (tasks, TasksHandle(handle), engine_errors)
    }

    /// Runs until it is aborted. Operations under way are then given up; the
    /// next run looks at the containers again.
    pub async fn run(mut self) {
        let mut watchers = JoinSet::new();
        watchers.spawn(super::watch::watch(
            self.runtime.clone(),
            self.handle.clone(),
        ));
        let mut reconcile = tokio::time::interval(self.reconcile_interval);
        reconcile.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ids: Vec<String> = self.entries.keys().cloned().collect();
        let mut wake = self.step_all(&ids);
        loop {
            let alarm = async {
                match wake {
                    Some(at) => {
                        let wait = at.saturating_sub(now_ns()).max(0).unsigned_abs();
                        tokio::time::sleep(Duration::from_nanos(wait)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let touched: Vec<String> = tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.input(input),
                    None => return,
                },
                Some(finished) = self.operations.join_next() => self.finished(finished),
                Some(listed) = self.lists.join_next() => match listed {
                    Ok(listed) => self.listed(listed),
                    Err(_) => Vec::new(),
                },
                _ = reconcile.tick() => {
                    self.look();
                    Vec::new()
                }
                () = alarm => {
                    // Whoever's time has come is among them; the others stay.
                    wake = None;
                    self.entries.keys().cloned().collect()
                }
            };
            wake = earliest(wake, self.step_all(&touched));
            self.left();
        }
    }

    fn insert(&mut self, task_id: String, machine: Machine) {
        let entry = Entry {
            machine,
            running: None,
        };
        self.entries.insert(task_id, entry);
    }

    fn input(&mut self, input: Input) -> Vec<String> {
        match input {
            Input::Assigned(change) => self.assigned(change),
            Input::Touched(task_id) => {
                if let Some(entry) = self.entries.get_mut(&task_id) {
                    entry.machine.touched();
                }
                vec![task_id]
            }
            Input::Engine(Some(error)) => {
                if *self.engine_error.borrow() != error {
                    tracing::warn!(%error, "the engine cannot be used");
                }
                for entry in self.entries.values_mut() {
                    entry.machine.engine_away(&error, now_ns());
                }
                self.engine_error.send_replace(error);
                self.entries.keys().cloned().collect()
            }
            Input::Engine(None) => {
                self.engine_error.send_replace(String::new());
                self.look();
                for entry in self.entries.values_mut() {
                    entry.machine.touched();
                }
                self.entries.keys().cloned().collect()
            }
            Input::Progress(task_id, text) => {
                if let Some(entry) = self.entries.get_mut(&task_id) {
                    entry.machine.progress(text, now_ns());
                }
                vec![task_id]
            }
            Input::Leave(sender) => {
                self.leaving = Some(sender);
                self.complete = true;
                self.look();
                for entry in self.entries.values_mut() {
                    entry.machine.remove();
                }
                self.entries.keys().cloned().collect()
            }
        }
    }

    fn assigned(&mut self, change: Assignments) -> Vec<String> {
        if self.leaving.is_some() {
            return Vec::new();
        }
        let mut touched: Vec<String> = change.remove.clone();
        if change.full {
            let named: BTreeSet<&str> = change.put.iter().map(|a| a.task_id.as_str()).collect();
            let unnamed = |id: &&String| !named.contains(id.as_str());
            touched.extend(self.entries.keys().filter(unnamed).cloned());
        }
        for task_id in &touched {
            if let Some(entry) = self.entries.get_mut(task_id) {
                entry.machine.remove();
            }
        }
        for assignment in change.put {
            let task_id = assignment.task_id.clone();
            match self.entries.get_mut(&task_id) {
                Some(entry) => entry.machine.assign(assignment),
                // After a restart that lost the disk, the first full set names
                // tasks whose containers are here already.
                None => {
                    let machine = Machine::assigned(assignment, change.full && !self.complete);
                    self.insert(task_id.clone(), machine);
                }
            }
            touched.push(task_id);
        }
        if change.full && !self.complete {
            self.complete = true;
            self.look();
        }
        touched
    }

    /// Lists the containers, unless that is under way.
    fn look(&mut self) {
        if self.lists.is_empty() {
            let runtime = self.runtime.clone();
            self.lists.spawn(async move { runtime.list().await });
        }
    }

    fn listed(&mut self, listed: RuntimeResult<Vec<Listed>>) -> Vec<String> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.engine_error.send_replace(error.to_string());
                return Vec::new();
            }
        };
        self.engine_error.send_if_modified(|error| {
            let was = !error.is_empty();
            error.clear();
            was
        });
        let mut phases = BTreeMap::new();
        for container in listed {
            if !self.entries.contains_key(&container.task_id) {
                if !self.complete {
                    continue;
                }
                tracing::info!(task = %container.task_id, "sweeping a container that no task owns");
                let machine = Machine::unassigned(container.task_id.clone(), container.id.clone());
                self.insert(container.task_id.clone(), machine);
            }
            phases.insert(container.task_id, container.phase);
        }
        for (task_id, entry) in &mut self.entries {
            entry.machine.listed(phases.get(task_id).copied());
        }
        self.swept = self.leaving.is_some();
        self.entries.keys().cloned().collect()
    }

    fn finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) -> Vec<String> {
        // An operation that panicked or was aborted: its machine is told, so
        // that it looks again.
        let (task_id, outcome) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                let by_id = |entry: &&mut Entry| {
                    entry.running.as_ref().is_some_and(|r| r.id() == error.id())
                };
                let Some(entry) = self.entries.values_mut().find(by_id) else {
                    return Vec::new();
                };
                entry.running = None;
                entry.machine.finished(Outcome::Interrupted, now_ns());
                return self.entries.keys().cloned().collect();
            }
        };
        if let Some(entry) = self.entries.get_mut(&task_id) {
            entry.running = None;
            entry.machine.finished(outcome, now_ns());
        }
        vec![task_id]
    }

    /// Lets machines take their next steps; when to come back for the others.
    fn step_all(&mut self, task_ids: &[String]) -> Option<i64> {
        let mut wake = None;
        for task_id in task_ids {
            wake = earliest(wake, self.step(task_id));
        }
        wake
    }

    fn step(&mut self, task_id: &str) -> Option<i64> {
        let entry = self.entries.get_mut(task_id)?;
        if entry.machine.wants_interrupt()
            && let Some(running) = &entry.running
        {
            running.abort();
        }
        let next = entry.machine.next(now_ns());
        let machine = entry.machine.clone();
        self.publish(task_id, &machine);
        match next {
            Next::Idle => None,
            Next::At(at_ns) => Some(at_ns),
            Next::Forget => {
                self.entries.remove(task_id);
                self.board.forget(task_id);
                self.store.forget(task_id);
                None
            }
            Next::Run(operation) => {
                let running = self.spawn(task_id.to_owned(), &machine, operation);
                if let Some(entry) = self.entries.get_mut(task_id) {
                    entry.running = Some(running);
                }
                None
            }
        }
    }

    fn publish(&self, task_id: &str, machine: &Machine) {
        if let Some(assignment) = machine.assignment() {
            // While this host leaves, the ends of its tasks are no news: the
            // leader would give it new ones in their place.
            if self.leaving.is_none() {
                self.board
                    .publish(task_id, machine.status(), machine.reference());
            }
            self.store.put(assignment, machine.status());
        }
    }

    fn spawn(&mut self, task_id: String, machine: &Machine, operation: Operation) -> AbortHandle {
        let runtime = self.runtime.clone();
        let reference = machine.reference().to_owned();
        let assignment = machine.assignment().cloned().unwrap_or_default();
        let grace_ns = machine.grace_ns();
        let inputs = self.handle.clone();
        self.operations.spawn(async move {
            let outcome = perform(
                runtime.as_ref(),
                operation,
                &assignment,
                &reference,
                grace_ns,
                inputs,
            )
            .await;
            (task_id, outcome)
        })
    }

    fn left(&mut self) {
        if self.entries.is_empty()
            && self.swept
            && let Some(sender) = self.leaving.take()
        {
            let _ = sender.send(());
        }
    }
}

async fn perform<R: Runtime>(
    runtime: &R,
    operation: Operation,
    assignment: &Assignment,
    reference: &str,
    grace_ns: i64,
    inputs: mpsc::Sender<Input>,
) -> Outcome {
    let done = |result: RuntimeResult<()>| match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error),
    };
    match operation {
        Operation::Inspect => match runtime.inspect(reference).await {
            Ok(seen) => Outcome::Seen(seen),
            Err(error) => Outcome::Failed(error),
        },
        Operation::Pull => {
            let task_id = assignment.task_id.clone();
            // A progress that finds no room is followed by a newer one.
            let progress = Box::new(move |text| {
                let _ = inputs.try_send(Input::Progress(task_id.clone(), text));
            });
            done(runtime.pull(assignment, progress).await)
        }
        Operation::Create => match runtime.create(assignment).await {
            Ok(id) => Outcome::Created(id),
            Err(error) => Outcome::Failed(error),
        },
        Operation::Start => done(runtime.start(reference).await),
        Operation::Stop => done(runtime.stop(reference, grace_ns).await),
        Operation::Remove => done(runtime.remove(reference).await),
    }
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
