//! The leader's side: entries made of verbs and the engine's decision, applied
//! as the proposer applies them.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use skep_manager::control;
use skep_manager::engine::Engine;
use skep_manager::state::{Nanos, Seed, World, invariants};
use skep_proto::v1::{
    Boundary, Change, Cluster, Meta, Transaction, WriteRequest, change, write_request::Verb,
};

pub const SECOND: Nanos = 1_000_000_000;

/// Random choices of one history.
pub struct Dice(ChaCha12Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Seed(seed).generator("simulation", "dice"))
    }

    /// From 0 to `below - 1`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below.max(1)
    }

    pub fn percent(&mut self, chance: u32) -> bool {
        self.roll(100) < u64::from(chance)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.roll(from.len() as u64)).unwrap();
        from.get(at)
    }
}

pub struct Swarm {
    pub world: World,
    pub now: Nanos,
    /// When the engine wants to be asked again.
    pub wake_at: Option<Nanos>,
    engine: Engine,
    seed: u64,
    trace: bool,
}

impl Swarm {
    pub fn new(seed: u64) -> Self {
        let mut world = World::default();
        let cluster = Cluster {
            meta: Some(Meta {
                id: "cluster".to_owned(),
                ..Meta::default()
            }),
            spec: Some(skep_proto::v1::ClusterSpec {
                name: "default".to_owned(),
                task_history_limit: [None, Some(0), Some(2)][(seed % 3) as usize],
                ..Default::default()
            }),
            ..Cluster::default()
        };
        world.apply(&Transaction {
            changes: vec![Change {
                change: Some(change::Change::Put(cluster.into())),
            }],
            ..Transaction::default()
        });
        let engine = Engine::new(&world);
        let trace = std::env::var("SKEP_TRACE").is_ok();
        Self {
            world,
            now: 1_000_000 * SECOND,
            wake_at: None,
            engine,
            seed: seed << 20,
            trace,
        }
    }

    /// One entry: `verbs`, those that are refused left out, and what follows.
    /// `lost`: it is never committed. Says whether anything was decided.
    pub fn commit(&mut self, verbs: Vec<Verb>, lost: bool) -> bool {
        let mut world = self.world.clone();
        let mut entry: Vec<Change> = Vec::new();
        self.seed += 1;
        for (i, verb) in verbs.into_iter().enumerate() {
            let said = self.trace.then(|| format!("{verb:?}"));
            let request = WriteRequest {
                verb: Some(verb),
                ..WriteRequest::default()
            };
            let seed = Seed(self.seed.wrapping_mul(1_000_003).wrapping_add(i as u64));
            let done = control::execute(&world, &request, self.now, seed);
            if let (Some(mut said), true) = (said, self.trace) {
                said.truncate(300);
                let how = done
                    .as_ref()
                    .err()
                    .map_or(String::new(), |e| format!("  REFUSED: {e}"));
                eprintln!("{:>8.1} s  {said}{how}", self.seconds());
            }
            if let Ok(execution) = done {
                self.step(&mut world, &mut entry, execution.changes);
            }
        }
        let decision = self.engine.decide(&world, self.now, Seed(self.seed));
        if self.trace {
            for reason in &decision.reasons {
                eprintln!("{:>8.1} s    {reason}", self.seconds());
            }
        }
        let decided = !decision.changes.is_empty();
        self.wake_at = decision.wake_at;
        assert!(
            self.wake_at.is_none_or(|at| at > self.now),
            "a small swarm is decided at once"
        );
        self.step(&mut world, &mut entry, decision.changes);
        let again = self
            .engine
            .decide(&world, self.now, Seed(self.seed.wrapping_add(1)));
        assert!(
            again.changes.is_empty(),
            "decided twice: {:?} {:?}",
            again.reasons,
            again.changes
        );
        assert_eq!(
            again.wake_at, self.wake_at,
            "asked again, it wakes at another time"
        );
        if lost {
            self.engine = Engine::new(&self.world);
            return decided;
        }
        if self.seed.is_multiple_of(16) {
            let mut replica = self.world.clone();
            let changes = entry;
            replica.apply(&Transaction {
                at_ns: self.now,
                changes,
                outcomes: Vec::new(),
            });
            let objects = |w: &World| w.objects().collect::<Vec<_>>();
            assert_eq!(
                objects(&replica),
                objects(&world),
                "a follower has another world"
            );
        }
        self.world = world;
        self.check();
        decided
    }

    /// Another leader takes over, with the same world.
    pub fn elect(&mut self) {
        if self.trace {
            eprintln!("{:>8.1} s  a new leader", self.seconds());
        }
        let mut engine = Engine::new(&self.world);
        let decision = engine.decide(&self.world, self.now, Seed(self.seed + 2));
        // It words anew what tasks wait for, where the nearest miss moved.
        let words_only = decision.changes.iter().all(|c| {
            matches!(&c.change, Some(change::Change::Task(p))
                if p.verdict.is_some() && p.status.is_none() && p.desired.is_none())
        });
        assert!(
            words_only,
            "a new leader decides otherwise: {:?}",
            decision.reasons
        );
        assert_eq!(
            decision.wake_at, self.wake_at,
            "a new leader has other timers"
        );
        self.engine = Engine::new(&self.world);
    }

    fn step(&mut self, world: &mut World, entry: &mut Vec<Change>, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if !entry.is_empty() {
            entry.push(Change {
                change: Some(change::Change::Boundary(Boundary {})),
            });
        }
        entry.extend(changes.clone());
        let applied = world.apply(&Transaction {
            at_ns: self.now,
            changes,
            outcomes: Vec::new(),
        });
        self.engine.observe(&applied);
    }

    fn check(&self) {
        let violations = invariants::check(&self.world);
        assert!(
            violations.is_empty(),
            "at {} s: {violations:#?}",
            self.seconds()
        );
    }

    pub fn seconds(&self) -> f64 {
        (self.now - 1_000_000 * SECOND) as f64 / SECOND as f64
    }
}
