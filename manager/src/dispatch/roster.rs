//! The nodes as this leader sees them: who has a session, who was heard when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use skep_proto::v1::NodeDescription;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ending::Ending;
use super::liveness::Vital;
use super::mailbox::Mailbox;

/// Sessions that one node may begin within [`OPENINGS_WINDOW`].
const OPENINGS_MAX: u32 = 100;
/// A pause of this process that is no stall yet.
const STALL_MIN_NS: u64 = 300_000_000;
/// See [`OPENINGS_MAX`].
const OPENINGS_WINDOW: Duration = Duration::from_secs(10);

/// Monotonic nanoseconds since this manager's dispatcher began; never 0.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}

/// One worker's session, as everybody else may use it.
#[derive(Debug)]
pub struct Session {
    /// Tells it from earlier and later sessions.
    pub serial: u64,
    /// What waits to be sent.
    pub mailbox: Mailbox,
    about: Mutex<(String, Option<NodeDescription>)>,
    ending: OnceLock<Ending>,
    ended: CancellationToken,
}

impl Session {
    /// A session with nothing to send yet, from a node at `addr`.
    pub fn new(serial: u64, addr: String, description: Option<NodeDescription>) -> Self {
        Self {
            serial,
            mailbox: Mailbox::default(),
            about: Mutex::new((addr, description)),
            ending: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The node's address and how it last described itself.
    pub fn about(&self) -> (String, Option<NodeDescription>) {
        lock(&self.about).clone()
    }

    /// It described itself anew.
    pub fn describe(&self, description: NodeDescription) {
        lock(&self.about).1 = Some(description);
    }

    /// Has it end; the first reason counts.
    pub fn end(&self, why: Ending) {
        let _ = self.ending.set(why);
        self.ended.cancel();
    }

    /// Waits until somebody had it end.
    pub async fn ended(&self) -> Ending {
        self.ended.cancelled().await;
        self.ending.get().cloned().unwrap_or(Ending::NotLeader)
    }
}

/// A node as this leader sees it.
#[derive(Debug)]
pub struct Member {
    /// When it last gave a sign of life; 0: never in this reign. All that a
    /// heartbeat touches.
    heard_ns: AtomicU64,
    /// Cancelled when the node is no longer one of us.
    pub removed: CancellationToken,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    expected_ns: u64,
    session: Option<Arc<Session>>,
    /// The swarm was told of the session.
    accepted: bool,
    sessionless_ns: u64,
    heartbeats: u32,
    broken_ns: Option<u64>,
    left: bool,
    window_from_ns: u64,
    openings: u32,
}

impl Member {
    fn new(now_ns: u64) -> Self {
        Self {
            heard_ns: AtomicU64::new(0),
            removed: CancellationToken::new(),
            links: Mutex::new(Links {
                expected_ns: now_ns,
                sessionless_ns: now_ns,
                ..Links::default()
            }),
        }
    }

    /// It gave a sign of life.
    pub fn touch(&self, now_ns: u64) {
        self.heard_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Makes `session` the node's only one and returns the one that it replaces.
    /// `None` when the node begins sessions too often.
    pub fn open(&self, session: &Arc<Session>, now_ns: u64) -> Option<Option<Arc<Session>>> {
        self.links(|links| {
            let window_ns = u64::try_from(OPENINGS_WINDOW.as_nanos()).unwrap_or(u64::MAX);
            if now_ns.saturating_sub(links.window_from_ns) > window_ns {
                links.window_from_ns = now_ns;
                links.openings = 0;
            }
            if links.openings >= OPENINGS_MAX {
                return None;
            }
            links.openings += 1;
            links.accepted = false;
            links.left = false;
            links.broken_ns = None;
            Some(links.session.replace(session.clone()))
        })
    }

    /// The swarm knows of the session now. False when another one replaced it.
    pub fn accept(&self, session: &Session) -> bool {
        self.links(|links| {
            let current = links.is_current(session);
            links.accepted |= current;
            current
        })
    }

    /// The session is over. Nothing changes when another one replaced it.
    pub fn close(&self, session: &Session, left: bool, now_ns: u64) {
        self.links(|links| {
            if links.is_current(session) {
                links.session = None;
                links.accepted = false;
                links.left = left;
                links.sessionless_ns = now_ns;
            }
        });
    }

    /// Its session, told of or not.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.links(|links| links.session.clone())
    }

    /// A heartbeat connection began.
    pub fn heartbeats_open(&self) {
        self.links(|links| links.heartbeats = links.heartbeats.saturating_add(1));
    }

    /// A heartbeat connection is over; `broken` if nobody ended it on purpose.
    pub fn heartbeats_close(&self, broken: bool, now_ns: u64) {
        self.links(|links| {
            links.heartbeats = links.heartbeats.saturating_sub(1);
            if broken && links.heartbeats == 0 {
                links.broken_ns = Some(now_ns);
            }
        });
    }

    /// What [`judge`](super::liveness::judge) goes by. `floor_ns`: the end of the
    /// leader's last stall, or 0.
    pub fn vital(&self, floor_ns: u64) -> Vital {
        let heard_ns = self.heard_ns.load(Ordering::Relaxed);
        self.links(|links| Vital {
            expected_ns: links.expected_ns.max(floor_ns),
            heard_ns: (heard_ns > 0).then_some(heard_ns),
            session: links.session.is_some() && links.accepted,
            opening: links.session.is_some() && !links.accepted,
            sessionless_ns: links.sessionless_ns,
            broken_ns: links.broken_ns,
            left: links.left,
        })
    }

    fn links<T>(&self, with: impl FnOnce(&mut Links) -> T) -> T {
        with(&mut lock(&self.links))
    }
}

impl Links {
    fn is_current(&self, session: &Session) -> bool {
        self.session
            .as_ref()
            .is_some_and(|s| s.serial == session.serial)
    }
}

/// Every node that this leader knows of.
#[derive(Debug, Default)]
pub struct Roster {
    members: Mutex<BTreeMap<String, Arc<Member>>>,
    pulse: Mutex<Pulse>,
}

/// When this process last ran, and when it last ran after a stall.
#[derive(Debug, Default)]
struct Pulse {
    beat_ns: u64,
    floor_ns: u64,
}

impl Roster {
    /// Notes that this process runs, and returns the end of its last stall (0:
    /// there was none). Heartbeats that came meanwhile may still be unread.
    pub fn stall_floor_ns(&self, now_ns: u64, grace_ns: u64) -> u64 {
        let mut pulse = lock(&self.pulse);
        let gap_ns = now_ns.saturating_sub(pulse.beat_ns);
        if pulse.beat_ns > 0 && gap_ns > (grace_ns / 4).max(STALL_MIN_NS) {
            tracing::warn!(
                gap_ns,
                "this manager was stalled: every node gets a fresh grace"
            );
            pulse.floor_ns = now_ns;
        }
        pulse.beat_ns = pulse.beat_ns.max(now_ns);
        pulse.floor_ns
    }

    /// The node's entry, made if there is none.
    pub fn member(&self, node_id: &str, now_ns: u64) -> Arc<Member> {
        let mut members = self.lock();
        if let Some(member) = members.get(node_id) {
            return member.clone();
        }
        let member = Arc::new(Member::new(now_ns));
        members.insert(node_id.to_owned(), member.clone());
        member
    }

    /// The node's session, if it has one.
    pub fn session(&self, node_id: &str) -> Option<Arc<Session>> {
        self.lock().get(node_id).and_then(|m| m.session())
    }

    /// Every session with its node's id.
    pub fn sessions(&self) -> Vec<(String, Arc<Session>)> {
        self.lock()
            .iter()
            .filter_map(|(id, member)| Some((id.clone(), member.session()?)))
            .collect()
    }

    /// The node is no longer one of us: all its connections end.
    pub fn remove(&self, node_id: &str) {
        let member = self.lock().remove(node_id);
        if let Some(member) = member {
            if let Some(session) = member.session() {
                session.end(Ending::Removed);
            }
            member.removed.cancel();
        }
    }

    /// Removes every node for which `stays` is false.
    pub fn retain(&self, stays: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .lock()
            .keys()
            .filter(|id| !stays(id))
            .cloned()
            .collect();
        for node_id in gone {
            self.remove(&node_id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Member>>> {
        lock(&self.members)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(serial: u64) -> Arc<Session> {
        Arc::new(Session::new(serial, String::new(), None))
    }

    #[test]
    fn a_replaced_session_that_ends_takes_nothing_with_it() {
        let member = Member::new(1);
        let (old, new) = (session(1), session(2));
        assert!(member.open(&old, 2).unwrap().is_none());
        assert!(member.accept(&old));
        assert_eq!(member.open(&new, 3).unwrap().unwrap().serial, 1);
        assert!(!member.accept(&old));
        member.close(&old, false, 4);
        assert!(member.vital(0).opening);
        assert!(member.accept(&new));
        assert!(member.vital(0).session);
    }

    #[test]
    fn a_node_that_reconnects_in_a_loop_is_slowed_down() {
        let member = Member::new(1);
        for n in 0..u64::from(OPENINGS_MAX) {
            assert!(member.open(&session(n), 2).is_some());
        }
        assert!(member.open(&session(999), 3).is_none());
        assert!(member.open(&session(999), 11_000_000_000).is_some());
    }

    #[test]
    fn one_of_two_heartbeat_connections_may_break() {
        let member = Member::new(1);
        member.heartbeats_open();
        member.heartbeats_open();
        member.heartbeats_close(true, 5);
        assert_eq!(member.vital(0).broken_ns, None);
        member.heartbeats_close(true, 6);
        assert_eq!(member.vital(0).broken_ns, Some(6));
    }

    #[test]
    fn a_stall_is_noticed_and_an_ordinary_pause_is_not() {
        let roster = Roster::default();
        let grace_ns = 2_000_000_000;
        assert_eq!(roster.stall_floor_ns(1, grace_ns), 0);
        assert_eq!(roster.stall_floor_ns(400_000_000, grace_ns), 0);
        assert_eq!(
            roster.stall_floor_ns(9_000_000_000, grace_ns),
            9_000_000_000
        );
        assert_eq!(
            roster.stall_floor_ns(9_100_000_000, grace_ns),
            9_000_000_000
        );
    }

    #[tokio::test]
    async fn a_removed_node_loses_all_its_connections() {
        let roster = Roster::default();
        let member = roster.member("n1", 1);
        let session = session(1);
        member.open(&session, 1);
        roster.retain(|id| id != "n1");
        assert_eq!(session.ended().await, Ending::Removed);
        assert!(member.removed.is_cancelled());
        assert!(roster.session("n1").is_none());
    }
}
