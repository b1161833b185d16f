//! A world written down and read again: what a snapshot and the state store hold.

use std::sync::Arc;

use skep_proto::v1::{Head, Record, Remembered, record};

use super::World;

impl World {
    /// The head and every record, in an order that [`World::load`] takes.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let head = record::Record::Head(Head {
            version: self.version,
        });
        let objects = self.objects().map(record::Record::Object);
        let remembered = self.outcome_ages.keys().filter_map(|(version, id)| {
            self.outcomes.get(id).map(|(_, outcome)| {
                record::Record::Remembered(Remembered {
                    version: *version,
                    outcome: Some(Arc::unwrap_or_clone(outcome.clone())),
                })
            })
        });
        std::iter::once(head)
            .chain(objects)
            .chain(remembered)
            .map(|record| Record {
                record: Some(record),
            })
    }

    /// Takes one record of a world that is being read. Order does not matter.
    pub fn load(&mut self, record: Record) {
        match record.record {
            Some(record::Record::Head(head)) => self.version = head.version,
            Some(record::Record::Object(object)) => {
                self.put(object);
            }
            Some(record::Record::Remembered(remembered)) => {
                if let Some(outcome) = remembered.outcome {
                    self.remember(remembered.version, outcome);
                }
            }
            None => {}
        }
    }
}
