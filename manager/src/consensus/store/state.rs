//! The applied world on disk: the same records as in a snapshot, by key.

use std::io;

use prost::Message;
use rocksdb::{IteratorMode, WriteBatch};
use skep_proto::objects::Identified;
use skep_proto::v1::{Head, Kind, Object, Record, Remembered, object, record};

use super::{STATE, Store};
use crate::consensus::convert::malformed;
use crate::state::{Applied, World};

/// The key of the record that holds the world's version.
const HEAD: &[u8] = b"h";
/// Behind every key that is in use.
const END: &[u8] = b"\xff";

fn object_key(kind: Kind, id: &str) -> Vec<u8> {
    format!("o/{}/{id}", kind as i32).into_bytes()
}

fn remembered_key(request_id: &str) -> Vec<u8> {
    format!("r/{request_id}").into_bytes()
}

fn key_of(record: &record::Record) -> Option<Vec<u8>> {
    Some(match record {
        record::Record::Head(_) => HEAD.to_vec(),
        record::Record::Object(object) => {
            let (kind, id) = identity(object)?;
            object_key(kind, id)
        }
        record::Record::Remembered(remembered) => {
            remembered_key(&remembered.outcome.as_ref()?.request_id)
        }
    })
}

fn identity(object: &Object) -> Option<(Kind, &str)> {
    Some(match object.object.as_ref()? {
        object::Object::Cluster(o) => (Kind::Cluster, o.id()),
        object::Object::Node(o) => (Kind::Node, o.id()),
        object::Object::Service(o) => (Kind::Service, o.id()),
        object::Object::Task(o) => (Kind::Task, o.id()),
    })
}

fn encoded(record: record::Record) -> Vec<u8> {
    Record {
        record: Some(record),
    }
    .encode_to_vec()
}

impl Store {
    /// Reads the world.
    pub(super) fn world(&self) -> io::Result<World> {
        let mut world = World::default();
        for item in self
            .db()
            .iterator_cf(self.family(STATE)?, IteratorMode::Start)
        {
            let (key, value) = item.map_err(|error| self.failed("read", error))?;
            let record = Record::decode(&*value).map_err(|error| {
                malformed(format!("record {}: {error}", String::from_utf8_lossy(&key)))
            })?;
            world.load(record);
        }
        Ok(world)
    }

    /// Writes what one transaction changed; `world` is the one after it.
    pub(super) fn put_changes(
        &self,
        batch: &mut WriteBatch,
        world: &World,
        applied: &Applied,
    ) -> io::Result<()> {
        let family = self.family(STATE)?;
        for changed in &applied.changed {
            let (kind, id) = changed.key();
            match changed.after() {
                Some(object) => batch.put_cf(
                    family,
                    object_key(kind, id),
                    encoded(record::Record::Object(object)),
                ),
                None => batch.delete_cf(family, object_key(kind, id)),
            }
        }
        for request_id in &applied.remembered {
            if let Some(outcome) = world.outcome(request_id) {
                let remembered = Remembered {
                    version: applied.version,
                    outcome: Some((**outcome).clone()),
                };
                batch.put_cf(
                    family,
                    remembered_key(request_id),
                    encoded(record::Record::Remembered(remembered)),
                );
            }
        }
        for request_id in &applied.forgotten {
            batch.delete_cf(family, remembered_key(request_id));
        }
        let head = Head {
            version: applied.version,
        };
        batch.put_cf(family, HEAD, encoded(record::Record::Head(head)));
        Ok(())
    }

    /// Writes a whole world in the place of what there is.
    pub(super) fn put_world(&self, batch: &mut WriteBatch, world: &World) -> io::Result<()> {
        let family = self.family(STATE)?;
        batch.delete_range_cf(family, &b""[..], END);
        for record in world.records() {
            let Some(key) = record.record.as_ref().and_then(key_of) else {
                continue;
            };
            batch.put_cf(family, key, record.encode_to_vec());
        }
        Ok(())
    }
}
