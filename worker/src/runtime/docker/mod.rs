//! A Docker Engine, through its own API on a Unix socket.

mod client;
mod lines;
mod pull;
mod spec;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skep_proto::v1::{Assignment, EngineDescription, Plugin, Resources};
use tokio::sync::Semaphore;

use self::client::Client;
use self::pull::Pulls;
use self::spec::{LABEL_CLUSTER, LABEL_NODE, LABEL_TASK};
use super::{
    EngineFacts, Event, Line, Listed, LogOptions, Owner, Progress, Result, Runtime, RuntimeError,
    View, container_name,
};

/// For a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// For making, starting or removing a container.
const ACT_TIMEOUT: Duration = Duration::from_secs(90);
/// What a stop may take beyond its grace.
const STOP_TIMEOUT_EXTRA: Duration = Duration::from_secs(30);
/// Containers being stopped at once: a stop mostly waits for its grace.
const STOPS_MAX: usize = 64;

/// A Docker Engine.
#[derive(Debug)]
pub struct DockerRuntime {
    client: Arc<Client>,
    owner: Owner,
    architecture: String,
    pulls: Pulls,
    /// Creates, starts and removes under way at once.
    acts: Semaphore,
    stops: Semaphore,
}

impl DockerRuntime {
    /// The engine on `socket` (`unix:///run/docker.sock`, or a path), which need
    /// not be there yet. At most `operations_max` containers are made, started
    /// or removed at once.
    pub fn new(socket: &str, owner: Owner, operations_max: usize) -> Self {
        Self {
            client: Arc::new(Client::new(socket)),
            owner,
            architecture: crate::describe::architecture(),
            pulls: Pulls::default(),
            acts: Semaphore::new(operations_max.max(1)),
            stops: Semaphore::new(STOPS_MAX),
        }
    }

    fn filters(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([(
            "label",
            vec![
                format!("{LABEL_CLUSTER}={}", self.owner.cluster_id),
                format!("{LABEL_NODE}={}", self.owner.node_id),
            ],
        )])
    }
}

/// A turn among those that may use the engine at once.
async fn turn(semaphore: &Semaphore) -> Result<tokio::sync::SemaphorePermit<'_>> {
    semaphore
        .acquire()
        .await
        .map_err(|_| RuntimeError::Unavailable("the worker is stopping".into()))
}

impl Runtime for DockerRuntime {
    async fn describe(&self) -> Result<EngineFacts> {
        let info = self
            .client
            .call(ASK_TIMEOUT, |docker| async move { docker.info().await })
            .await?;
        let plugins = info.plugins.unwrap_or_default();
        let mut all = vec![("Network", "overlay".to_owned())];
        for (kind, names) in [
            ("Volume", plugins.volume),
            ("Network", plugins.network),
            ("Authorization", plugins.authorization),
            ("Log", plugins.log),
        ] {
            all.extend(names.into_iter().flatten().map(|name| (kind, name)));
        }
        all.sort();
        all.dedup();
        let plugin = |(kind, name): (&str, String)| Plugin {
            r#type: kind.to_owned(),
            name,
        };
        let label = |label: String| {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            (key.to_owned(), value.to_owned())
        };
        Ok(EngineFacts {
            engine: EngineDescription {
                version: info.server_version.unwrap_or_default(),
                labels: info.labels.into_iter().flatten().map(label).collect(),
                plugins: all.into_iter().map(plugin).collect(),
                ..EngineDescription::default()
            },
            resources: Resources {
                nano_cpus: info.ncpu.unwrap_or_default().saturating_mul(1_000_000_000),
                memory_bytes: info.mem_total.unwrap_or_default(),
            },
        })
    }

    async fn ping(&self) -> Result<()> {
        self.client
            .call(ASK_TIMEOUT, |docker| async move { docker.ping().await })
            .await
            .map(|_| ())
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&self.filters())
            .build();
        let found = self
            .client
            .call(ASK_TIMEOUT, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().filter_map(view::listed).collect())
    }

    async fn inspect(&self, container: &str) -> Result<Option<View>> {
        let answer = self
            .client
            .call(ASK_TIMEOUT, |docker| async move {
                docker
                    .inspect_container(container, None::<InspectContainerOptions>)
                    .await
            })
            .await;
        match answer {
            Ok(inspected) => Ok(view::view(inspected)),
            Err(RuntimeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, assignment: &Assignment, progress: Progress) -> Result<()> {
        let container = assignment
            .spec
            .as_ref()
            .and_then(|s| s.container.as_ref())
            .ok_or_else(|| RuntimeError::Refused("the task names no image".into()))?;
        self.pulls
            .pull(
                &self.client,
                &container.image,
                &container.registry_auth,
                progress,
            )
            .await
    }

    async fn create(&self, assignment: &Assignment) -> Result<String> {
        let body = spec::create_body(assignment, &self.owner, &self.architecture)?;
        let options = CreateContainerOptionsBuilder::default()
            .name(&container_name(assignment))
            .build();
        let _turn = turn(&self.acts).await?;
        self.client
            .call(ACT_TIMEOUT, |docker| async move {
                docker.create_container(Some(options), body).await
            })
            .await
            .map(|created| created.id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let _turn = turn(&self.acts).await?;
        self.client
            .call(ACT_TIMEOUT, |docker| async move {
                docker
                    .start_container(id, None::<StartContainerOptions>)
                    .await
            })
            .await
    }

    async fn stop(&self, id: &str, grace_ns: i64) -> Result<()> {
        let grace_s = spec::grace_s(grace_ns);
        let options = StopContainerOptionsBuilder::default()
            .t(i32::try_from(grace_s).unwrap_or(i32::MAX))
            .build();
        let deadline = Duration::from_secs(grace_s.unsigned_abs()) + STOP_TIMEOUT_EXTRA;
        let _turn = turn(&self.stops).await?;
        self.client
            .call(deadline, |docker| async move {
                docker.stop_container(id, Some(options)).await
            })
            .await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let _turn = turn(&self.acts).await?;
        let answer = self
            .client
            .call(ACT_TIMEOUT, |docker| async move {
                docker.remove_container(id, Some(options)).await
            })
            .await;
        match answer {
            Ok(()) | Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        // Whatever was known of the engine may be of an older run of it.
        self.client.reset().await;
        let docker = self.client.docker().await?;
        let mut filters = self.filters();
        filters.insert("type", vec!["container".to_owned()]);
        filters.insert(
            "event",
            ["die", "oom", "destroy", "health_status"]
                .map(str::to_owned)
                .to_vec(),
        );
        let filters: HashMap<String, Vec<String>> = filters
            .into_iter()
            .map(|(key, values)| (key.to_owned(), values))
            .collect();
        // The engine is asked when the stream is first read: what happens until
        // then is still told, because it is asked from a moment ago.
        let since_s = crate::clock::now_ns() / 1_000_000_000 - 1;
        let options = EventsOptionsBuilder::default()
            .since(&since_s.to_string())
            .filters(&filters)
            .build();
        let stream = docker
            .events(Some(options))
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(|event| std::future::ready(event.ok().and_then(touched)));
        Ok(stream.boxed())
    }

    async fn logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<Line>>> {
        lines::lines(&self.client, container, options).await
    }

    fn name(&self) -> String {
        self.client.name()
    }
}

fn touched(event: EventMessage) -> Option<Event> {
    event
        .actor?
        .attributes?
        .remove(LABEL_TASK)
        .map(Event::Touched)
}
