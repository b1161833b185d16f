//! What everybody asks of an object, answered in one place: absent messages
//! read as their empty values, so that no caller has to unwrap.

use crate::v1::{
    Availability, Cluster, ContainerSpec, Kind, Meta, Node, NodeDescription, NodeState, Object,
    Resources, Service, ServiceSpec, Task, TaskSpec, TaskState, TaskStatus, Template, object,
    service_spec::Mode,
};

static NO_META: Meta = Meta {
    id: String::new(),
    version: 0,
    status_version: 0,
    created_at_ns: 0,
    updated_at_ns: 0,
};

static NO_RESOURCES: Resources = Resources {
    nano_cpus: 0,
    memory_bytes: 0,
};

/// What every object has.
pub trait Identified {
    /// The object's bookkeeping; an empty one when it has none yet.
    fn meta(&self) -> &Meta;

    /// Which table it is in.
    fn kind(&self) -> Kind;

    /// The object's id.
    fn id(&self) -> &str {
        &self.meta().id
    }
}

macro_rules! identified {
    ($($type:ident => $kind:ident),+) => {$(
        impl Identified for $type {
            fn meta(&self) -> &Meta {
                self.meta.as_ref().unwrap_or(&NO_META)
            }

            fn kind(&self) -> Kind {
                Kind::$kind
            }
        }

        impl From<$type> for Object {
            fn from(value: $type) -> Self {
                Object { object: Some(object::Object::$type(value)) }
            }
        }
    )+};
}

identified!(Cluster => Cluster, Node => Node, Service => Service, Task => Task);

impl Task {
    /// The state its node last reported, or that the managers gave it.
    pub fn state(&self) -> TaskState {
        self.status
            .as_ref()
            .map_or(TaskState::New, TaskStatus::state)
    }

    /// Ended: nothing of it runs and nothing of it will.
    pub fn is_terminal(&self) -> bool {
        self.state() > TaskState::Running
    }

    /// It is meant to run (or to be prepared), and has not ended.
    pub fn is_live(&self) -> bool {
        self.desired() <= TaskState::Running && !self.is_terminal()
    }

    /// It may still use its node: not ended, whatever is wanted of it.
    pub fn holds_resources(&self) -> bool {
        !self.node_id.is_empty() && !self.is_terminal()
    }

    /// Its node may have it. A task of a global service has its node from the
    /// start, but is not there until the scheduler has agreed.
    pub fn is_placed(&self) -> bool {
        !self.node_id.is_empty() && (self.slot != 0 || self.state() >= TaskState::Assigned)
    }

    /// What is kept free for it.
    pub fn reserved(&self) -> &Resources {
        self.reservations.as_ref().unwrap_or(&NO_RESOURCES)
    }

    /// `web.3`, or `agent.<node id>` for a task of a global service.
    pub fn short_name(&self) -> String {
        if self.slot == 0 {
            format!("{}.{}", self.service_name, self.node_id)
        } else {
            format!("{}.{}", self.service_name, self.slot)
        }
    }

    /// The name of its container: `web.3.<task id>`, as Swarm names it.
    pub fn name(&self) -> String {
        format!("{}.{}", self.short_name(), self.id())
    }
}

impl Service {
    /// The operator's name for it.
    pub fn name(&self) -> &str {
        self.spec.as_ref().map_or("", |s| s.name.as_str())
    }

    /// One task per node instead of a number of replicas.
    pub fn is_global(&self) -> bool {
        self.spec.as_ref().is_some_and(ServiceSpec::is_global)
    }

    /// The number of replicas asked for; 0 for a global service.
    pub fn replicas(&self) -> u64 {
        self.spec.as_ref().map_or(0, ServiceSpec::replicas)
    }

    /// The template that a task of `version` was made from.
    pub fn template(&self, version: u64) -> Option<&Template> {
        self.templates.iter().find(|t| t.version == version)
    }

    /// The template that new tasks are made from.
    pub fn current_template(&self) -> Option<&Template> {
        self.template(self.template_version)
    }
}

impl ServiceSpec {
    /// One task per node instead of a number of replicas.
    pub fn is_global(&self) -> bool {
        matches!(self.mode, Some(Mode::Global(_)))
    }

    /// The number of replicas asked for; 0 for a global service.
    pub fn replicas(&self) -> u64 {
        match &self.mode {
            Some(Mode::Replicated(replicated)) => replicated.replicas,
            _ => 0,
        }
    }

    /// The container part, if there is one.
    pub fn container(&self) -> Option<&ContainerSpec> {
        self.task.as_ref().and_then(|t| t.container.as_ref())
    }
}

impl TaskSpec {
    /// What has to be free on a node for a task of this template.
    pub fn reserved(&self) -> &Resources {
        self.resources
            .as_ref()
            .and_then(|r| r.reservations.as_ref())
            .unwrap_or(&NO_RESOURCES)
    }
}

impl Node {
    /// The host's own name.
    pub fn hostname(&self) -> &str {
        self.description
            .as_ref()
            .map_or("", |d| d.hostname.as_str())
    }

    /// What the swarm last knew of its life.
    pub fn state(&self) -> NodeState {
        self.status
            .as_ref()
            .map_or(NodeState::Unknown, crate::v1::NodeStatus::state)
    }

    /// Whether it takes new tasks, as the operator wants it.
    pub fn availability(&self) -> Availability {
        self.spec
            .as_ref()
            .map_or(Availability::Active, crate::v1::NodeSpec::availability)
    }

    /// Everything it has, free or not.
    pub fn capacity(&self) -> &Resources {
        self.description
            .as_ref()
            .and_then(|d: &NodeDescription| d.resources.as_ref())
            .unwrap_or(&NO_RESOURCES)
    }
}

impl Object {
    /// Which table it belongs to; `None` for an empty message.
    pub fn kind(&self) -> Option<Kind> {
        self.identified().map(|o| o.kind())
    }

    /// Its id; empty for an empty message.
    pub fn id(&self) -> &str {
        self.object.as_ref().map_or("", |o| match o {
            object::Object::Cluster(c) => c.id(),
            object::Object::Node(n) => n.id(),
            object::Object::Service(s) => s.id(),
            object::Object::Task(t) => t.id(),
        })
    }

    /// The object as what all objects are.
    pub fn identified(&self) -> Option<&dyn Identified> {
        self.object.as_ref().map(|o| match o {
            object::Object::Cluster(c) => c as &dyn Identified,
            object::Object::Node(n) => n,
            object::Object::Service(s) => s,
            object::Object::Task(t) => t,
        })
    }
}
