//! Who lives: the rules. Pure; times are nanoseconds of the leader's monotonic
//! clock and are passed in. What they are applied to is in [`super::presence`].
//!
//! A broken connection makes a node *suspect*, silence makes it *down*, and a
//! sign of life makes it ready again. A new leader, or one that was stalled
//! itself, gives everybody a fresh grace before it says anything.

use skep_proto::v1::{Cluster, NodeState};

/// How often a worker says that it lives, unless the cluster says otherwise.
pub const HEARTBEAT_PERIOD_DEFAULT_NS: u64 = 500_000_000;
/// Missed heartbeats that make a node down.
const GRACE_PERIODS: u64 = 4;
/// Graces that a new leader gives to nodes that it has yet to hear of.
const FRESH_GRACES: u64 = 2;
/// Graces that a node may send heartbeats without opening a session.
const SESSIONLESS_GRACES: u64 = 15;

/// How long silence may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of a worker.
    pub period_ns: u64,
    /// Silence that makes a node down.
    pub grace_ns: u64,
}

impl Timing {
    /// As the cluster's spec says, or the defaults.
    pub fn of(cluster: Option<&Cluster>) -> Self {
        let period_ns = cluster
            .and_then(|c| c.spec.as_ref())
            .and_then(|s| s.heartbeat_period_ns)
            .and_then(|ns| u64::try_from(ns).ok())
            .filter(|ns| *ns > 0)
            .unwrap_or(HEARTBEAT_PERIOD_DEFAULT_NS);
        Self {
            period_ns,
            grace_ns: period_ns.saturating_mul(GRACE_PERIODS),
        }
    }
}

/// What the leader itself has seen of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vital {
    /// From when on it is expected to be heard: the start of the leader's reign,
    /// the node's registration, or the end of a stall of the leader.
    pub expected_ns: u64,
    /// When anything last came from it; `None` if nothing did in this reign.
    pub heard_ns: Option<u64>,
    /// It has a session, and the swarm was told so.
    pub session: bool,
    /// Its session has begun but is not yet known to the swarm.
    pub opening: bool,
    /// When it last had no session; meaningless while it has one.
    pub sessionless_ns: u64,
    /// When its last heartbeat connection broke; `None` if none did, or another is open.
    pub broken_ns: Option<u64>,
    /// It said that it leaves.
    pub left: bool,
}

/// What the swarm should be told about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It is there, although the swarm thinks otherwise.
    Seen,
    /// Its connection broke.
    Suspect,
    /// It said that it leaves.
    Left,
    /// It has been silent for longer than the grace.
    Silent,
    /// It sends heartbeats but opens no session.
    Sessionless,
}

/// What to say about a node whose state in the world is `state`, if anything,
/// and when to look again at the latest.
pub fn judge(
    state: NodeState,
    vital: &Vital,
    timing: Timing,
    now_ns: u64,
) -> (Option<Step>, Option<u64>) {
    let down = |step| ((state != NodeState::Down).then_some(step), None);
    if vital.left {
        return down(Step::Left);
    }
    if vital.opening {
        return (None, None);
    }
    let Some(heard_ns) = vital.heard_ns else {
        return unheard(state, vital.expected_ns, timing, now_ns);
    };
    let silent_at = heard_ns
        .max(vital.expected_ns)
        .saturating_add(timing.grace_ns);
    if now_ns >= silent_at {
        return down(Step::Silent);
    }
    if !vital.session {
        let give_up_at = vital
            .sessionless_ns
            .max(vital.expected_ns)
            .saturating_add(timing.grace_ns.saturating_mul(SESSIONLESS_GRACES));
        if now_ns >= give_up_at {
            return down(Step::Sessionless);
        }
        let step = (state == NodeState::Ready).then_some(Step::Suspect);
        return (step, Some(silent_at.min(give_up_at)));
    }
    if vital.broken_ns.is_some_and(|at| heard_ns <= at) {
        let step = (state == NodeState::Ready).then_some(Step::Suspect);
        return (step, Some(silent_at));
    }
    let step = (state != NodeState::Ready).then_some(Step::Seen);
    (step, Some(silent_at))
}

/// A node of which this leader has heard nothing yet.
fn unheard(
    state: NodeState,
    expected_ns: u64,
    timing: Timing,
    now_ns: u64,
) -> (Option<Step>, Option<u64>) {
    if state == NodeState::Down {
        return (None, None);
    }
    let suspect_at = expected_ns.saturating_add(timing.grace_ns);
    let down_at = expected_ns.saturating_add(timing.grace_ns.saturating_mul(FRESH_GRACES));
    if now_ns >= down_at {
        (Some(Step::Silent), None)
    } else if now_ns < suspect_at {
        (None, Some(suspect_at))
    } else {
        let step = (state == NodeState::Ready).then_some(Step::Suspect);
        (step, Some(down_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        period_ns: 500,
        grace_ns: 2_000,
    };

    fn connected(heard_ns: u64) -> Vital {
        Vital {
            heard_ns: Some(heard_ns),
            session: true,
            ..Vital::default()
        }
    }

    fn lost(heard_ns: u64, lost_ns: u64) -> Vital {
        Vital {
            heard_ns: Some(heard_ns),
            sessionless_ns: lost_ns,
            ..Vital::default()
        }
    }

    fn say(state: NodeState, vital: Vital, now_ns: u64) -> Option<Step> {
        judge(state, &vital, TIMING, now_ns).0
    }

    #[test]
    fn a_node_that_is_heard_is_ready_and_nothing_is_said_twice() {
        assert_eq!(say(NodeState::Ready, connected(1_000), 2_999), None);
        assert_eq!(
            say(NodeState::Down, connected(1_000), 1_001),
            Some(Step::Seen)
        );
        assert_eq!(
            say(NodeState::Suspect, connected(1_000), 1_001),
            Some(Step::Seen)
        );
    }

    #[test]
    fn a_broken_session_is_suspect_at_once_and_down_after_the_grace() {
        let vital = lost(1_000, 1_100);
        assert_eq!(say(NodeState::Ready, vital, 1_100), Some(Step::Suspect));
        assert_eq!(say(NodeState::Suspect, vital, 2_999), None);
        assert_eq!(say(NodeState::Suspect, vital, 3_000), Some(Step::Silent));
        assert_eq!(say(NodeState::Down, vital, 9_000), None);
        assert_eq!(
            judge(NodeState::Ready, &vital, TIMING, 1_100).1,
            Some(3_000)
        );
    }

    #[test]
    fn silence_on_an_open_connection_is_down_after_the_grace() {
        assert_eq!(
            say(NodeState::Ready, connected(1_000), 3_000),
            Some(Step::Silent)
        );
    }

    #[test]
    fn a_broken_heartbeat_connection_is_suspect_until_the_next_sign_of_life() {
        let mut vital = connected(1_000);
        vital.broken_ns = Some(1_200);
        assert_eq!(say(NodeState::Ready, vital, 1_200), Some(Step::Suspect));
        vital.heard_ns = Some(1_201);
        assert_eq!(say(NodeState::Suspect, vital, 1_202), Some(Step::Seen));
    }

    #[test]
    fn a_new_leader_gives_a_fresh_grace() {
        let vital = Vital {
            expected_ns: 10_000,
            ..Vital::default()
        };
        assert_eq!(say(NodeState::Ready, vital, 11_999), None);
        assert_eq!(say(NodeState::Ready, vital, 12_000), Some(Step::Suspect));
        for state in [NodeState::Ready, NodeState::Unknown, NodeState::Suspect] {
            assert_eq!(say(state, vital, 14_000), Some(Step::Silent));
        }
        assert_eq!(say(NodeState::Down, vital, 14_000), None);
    }

    #[test]
    fn a_stall_of_the_leader_counts_against_nobody() {
        let mut vital = connected(1_000);
        vital.expected_ns = 60_000;
        assert_eq!(say(NodeState::Ready, vital, 60_001), None);
        assert_eq!(say(NodeState::Ready, vital, 62_000), Some(Step::Silent));
    }

    #[test]
    fn heartbeats_alone_do_not_keep_a_node_for_ever() {
        let vital = lost(40_000, 10_000);
        assert_eq!(say(NodeState::Suspect, vital, 39_999), None);
        assert_eq!(
            say(NodeState::Suspect, vital, 40_000),
            Some(Step::Sessionless)
        );
    }

    #[test]
    fn a_node_that_leaves_is_down_without_a_grace() {
        let mut vital = lost(1_000, 1_000);
        vital.left = true;
        assert_eq!(say(NodeState::Ready, vital, 1_000), Some(Step::Left));
        assert_eq!(say(NodeState::Down, vital, 1_000), None);
    }

    #[test]
    fn a_session_that_is_being_told_of_is_left_alone() {
        let mut vital = lost(1_000, 1_000);
        vital.opening = true;
        assert_eq!(say(NodeState::Down, vital, 1_000), None);
        assert_eq!(say(NodeState::Ready, vital, 9_000), None);
    }

    #[test]
    fn the_cluster_sets_the_period() {
        let cluster = Cluster {
            spec: Some(skep_proto::v1::ClusterSpec {
                heartbeat_period_ns: Some(1_000),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(Timing::of(Some(&cluster)).grace_ns, 4_000);
        assert_eq!(Timing::of(None).period_ns, HEARTBEAT_PERIOD_DEFAULT_NS);
        assert_eq!(Timing::of(None).grace_ns, 2_000_000_000);
    }
}
