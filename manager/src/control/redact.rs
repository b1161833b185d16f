//! What never leaves the managers, taken out of what does.

use skep_proto::v1::{Cluster, Object, Service, ServiceSpec, TaskSpec, object};

/// The object without the secrets that nobody is shown: registry credentials
/// and the key of the root certificate.
pub fn object(mut object: Object) -> Object {
    match &mut object.object {
        Some(object::Object::Service(service)) => self::service(service),
        Some(object::Object::Cluster(cluster)) => self::cluster(cluster),
        Some(object::Object::Node(_) | object::Object::Task(_)) | None => {}
    }
    object
}

/// A service without registry credentials, in whichever spec they are.
pub fn service(service: &mut Service) {
    for spec in [&mut service.spec, &mut service.previous_spec] {
        if let Some(ServiceSpec {
            task: Some(task), ..
        }) = spec
        {
            self::task(task);
        }
    }
    for template in &mut service.templates {
        if let Some(task) = &mut template.task {
            self::task(task);
        }
    }
}

fn task(task: &mut TaskSpec) {
    if let Some(container) = &mut task.container {
        container.registry_auth.clear();
    }
}

fn cluster(cluster: &mut Cluster) {
    if let Some(root) = &mut cluster.root_ca {
        root.key_pem.clear();
    }
}
