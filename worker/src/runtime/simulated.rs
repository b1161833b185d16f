//! An engine that only pretends: containers are entries in a table, and time is
//! tokio's. Small enough that ten thousand workers of one process have one each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skep_proto::v1::{Assignment, EngineDescription, LogStream, Resources};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{
    EngineFacts, Event, Health, Line, Listed, LogOptions, Phase, Progress, Result, Runtime,
    RuntimeError, View, container_name,
};

/// Events that a slow reader may be behind before it has to look by itself.
const EVENTS_MAX: usize = 256;

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What each create takes.
    pub create: Duration,
    /// What each start takes.
    pub start: Duration,
    /// What each stop takes.
    pub stop: Duration,
    /// What it says it has.
    pub resources: Resources,
    /// The engine answers nothing.
    pub is_down: bool,
    /// Containers have a health check, which passes only when
    /// [`Simulated::set_health`] says so.
    pub with_health: bool,
    /// These images are not there and cannot be pulled.
    pub images_missing: Vec<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            create: Duration::from_millis(20),
            start: Duration::from_millis(80),
            stop: Duration::from_millis(50),
            resources: Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 8 << 30,
            },
            is_down: false,
            with_health: false,
            images_missing: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Engine {
    behaviour: Behaviour,
    /// By name.
    containers: BTreeMap<String, View>,
    created: u64,
}

/// A simulated engine. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct Simulated {
    engine: Arc<Mutex<Engine>>,
    events: broadcast::Sender<Event>,
}

impl Simulated {
    /// An engine with no containers.
    pub fn new(behaviour: Behaviour) -> Self {
        let engine = Engine {
            behaviour,
            ..Engine::default()
        };
        Self {
            engine: Arc::new(Mutex::new(engine)),
            events: broadcast::channel(EVENTS_MAX).0,
        }
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// Its containers by name.
    pub fn containers(&self) -> BTreeMap<String, View> {
        self.lock().containers.clone()
    }

    /// How many containers it ever made.
    pub fn created(&self) -> u64 {
        self.lock().created
    }

    /// The task's container ends by itself.
    pub fn exit(&self, task_id: &str, exit_code: i32) {
        self.change(task_id, |view| {
            view.phase = Phase::Exited;
            view.exit_code = exit_code;
            view.pid = 0;
        });
    }

    /// The task's health check says this from now on.
    pub fn set_health(&self, task_id: &str, health: Health) {
        self.change(task_id, |view| view.health = health);
    }

    /// Somebody removes the task's container by hand.
    pub fn lose(&self, task_id: &str) {
        self.lock().containers.retain(|_, v| v.task_id != task_id);
        let _ = self.events.send(Event::Touched(task_id.to_owned()));
    }

    /// Every container's process ends, as when a host reboots.
    pub fn kill_all(&self) {
        for view in self.lock().containers.values_mut() {
            view.phase = Phase::Exited;
            view.exit_code = 137;
        }
    }

    fn change(&self, task_id: &str, change: impl FnOnce(&mut View)) {
        let mut engine = self.lock();
        if let Some(view) = engine
            .containers
            .values_mut()
            .find(|v| v.task_id == task_id)
        {
            change(view);
        }
        drop(engine);
        let _ = self.events.send(Event::Touched(task_id.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine, if it answers.
    fn ask(&self) -> Result<MutexGuard<'_, Engine>> {
        let engine = self.lock();
        if engine.behaviour.is_down {
            return Err(RuntimeError::Unavailable(
                "the simulated engine does not answer".into(),
            ));
        }
        Ok(engine)
    }

    fn view<T>(&self, reference: &str, change: impl FnOnce(&mut View) -> T) -> Result<T> {
        let mut engine = self.ask()?;
        let key = key(&engine, reference)?;
        match engine.containers.get_mut(&key) {
            Some(view) => Ok(change(view)),
            None => Err(missing(reference)),
        }
    }
}

fn key(engine: &Engine, reference: &str) -> Result<String> {
    if engine.containers.contains_key(reference) {
        return Ok(reference.to_owned());
    }
    engine
        .containers
        .iter()
        .find(|(_, view)| view.id == reference)
        .map(|(name, _)| name.clone())
        .ok_or_else(|| missing(reference))
}

fn missing(reference: &str) -> RuntimeError {
    RuntimeError::NotFound(format!("no such container: {reference}"))
}

impl Runtime for Simulated {
    async fn describe(&self) -> Result<EngineFacts> {
        let engine = self.ask()?;
        Ok(EngineFacts {
            engine: EngineDescription {
                version: "simulated".into(),
                ..EngineDescription::default()
            },
            resources: engine.behaviour.resources,
        })
    }

    async fn ping(&self) -> Result<()> {
        self.ask().map(|_| ())
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let listed = |view: &View| Listed {
            id: view.id.clone(),
            task_id: view.task_id.clone(),
            phase: view.phase,
        };
        Ok(self.ask()?.containers.values().map(listed).collect())
    }

    async fn inspect(&self, container: &str) -> Result<Option<View>> {
        match self.view(container, |view| view.clone()) {
            Ok(view) => Ok(Some(view)),
            Err(RuntimeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, assignment: &Assignment, progress: Progress) -> Result<()> {
        let image = image(assignment);
        progress(format!("pulling {image}"));
        if self.ask()?.behaviour.images_missing.contains(&image) {
            return Err(RuntimeError::Refused(format!("no such image: {image}")));
        }
        Ok(())
    }

    async fn create(&self, assignment: &Assignment) -> Result<String> {
        let wait = self.ask()?.behaviour.create;
        tokio::time::sleep(wait).await;
        let mut engine = self.ask()?;
        let image = image(assignment);
        if engine.behaviour.images_missing.contains(&image) {
            return Err(RuntimeError::NoSuchImage(format!("No such image: {image}")));
        }
        let name = container_name(assignment);
        if engine.containers.contains_key(&name) {
            return Err(RuntimeError::Conflict(format!("{name} exists")));
        }
        engine.created += 1;
        let id = format!("simulated-{}", engine.created);
        let view = View {
            id: id.clone(),
            task_id: assignment.task_id.clone(),
            ..View::default()
        };
        engine.containers.insert(name, view);
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let (wait, with_health) = {
            let engine = self.ask()?;
            (engine.behaviour.start, engine.behaviour.with_health)
        };
        tokio::time::sleep(wait).await;
        self.view(id, |view| {
            view.phase = Phase::Running;
            view.pid = 4242;
            if with_health {
                view.health = Health::Starting;
            }
        })
    }

    async fn stop(&self, id: &str, _grace_ns: i64) -> Result<()> {
        let wait = self.ask()?.behaviour.stop;
        tokio::time::sleep(wait).await;
        self.view(id, |view| {
            if view.phase == Phase::Running {
                view.phase = Phase::Exited;
                view.exit_code = 143;
                view.pid = 0;
            }
        })
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let mut engine = self.ask()?;
        match key(&engine, id) {
            Ok(key) => {
                engine.containers.remove(&key);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        drop(self.ask()?);
        // A reader that lagged starts anew, and looks at everything.
        let stream = BroadcastStream::new(self.events.subscribe())
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(|event| std::future::ready(event.ok()));
        Ok(stream.boxed())
    }

    async fn logs(
        &self,
        container: &str,
        _options: LogOptions,
    ) -> Result<BoxStream<'static, Result<Line>>> {
        let view = self.view(container, |view| view.clone())?;
        let line = Line {
            stream: LogStream::Stdout,
            at_ns: crate::clock::now_ns(),
            data: Bytes::from(format!("{} says hello\n", view.id)),
        };
        Ok(futures_util::stream::iter([Ok(line)]).boxed())
    }

    fn name(&self) -> String {
        "simulated engine".into()
    }
}

fn image(assignment: &Assignment) -> String {
    assignment
        .spec
        .as_ref()
        .and_then(|s| s.container.as_ref())
        .map(|c| c.image.clone())
        .unwrap_or_default()
}
