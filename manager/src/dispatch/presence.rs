//! The edge of [`super::liveness`]: looks at the clock and the world, and has
//! the swarm told what is to be told.
//!
//! It compares what the world says of a node with what this leader sees of it,
//! again and again; a write that failed, or came in the wrong order, is made up
//! for by the next look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use skep_proto::objects::Identified;
use skep_proto::v1::write_request::Verb;
use skep_proto::v1::{NodeLost, NodeSeen, NodeState};

use super::authorize::is_member;
use super::ending::Ending;
use super::liveness::{Step, Timing, judge};
use super::reign::Reign;

/// Signs that come together are told together.
const GATHER: Duration = Duration::from_millis(5);
/// Between two looks although something asks for another one at once.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Between two looks when nothing happens.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A write that takes longer is tried again after another look.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Beats of the pulse by which a stall is told from a silence.
const PULSE: Duration = Duration::from_millis(100);
/// Nodes in one verb.
const NODES_MAX: usize = 1_024;

/// Watches over all nodes until the reign ends.
pub(super) async fn watch(reign: Arc<Reign>) {
    loop {
        let timing = reign.timing();
        let now_ns = reign.shared.clock.now_ns();
        let floor_ns = reign.roster.stall_floor_ns(now_ns, timing.grace_ns);
        let (plan, next_ns) = look(&reign, timing, floor_ns, now_ns);
        let acted = plan.carry_out(&reign).await;
        let now_ns = reign.shared.clock.now_ns();
        let pause = next_ns.map_or(PAUSE_MAX, |at| {
            Duration::from_nanos(at.saturating_sub(now_ns)).min(PAUSE_MAX)
        });
        // After a write the world may not say yet what was written.
        let pause = if acted { pause.min(PULSE) } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause.max(PAUSE_MIN)) => {}
            () = reign.stirred.notified() => tokio::time::sleep(GATHER).await,
        }
    }
}

/// Beats while this process runs, so that a stall of it is noticed.
pub(super) async fn pulse(reign: Arc<Reign>) {
    loop {
        let grace_ns = reign.timing().grace_ns;
        reign
            .roster
            .stall_floor_ns(reign.shared.clock.now_ns(), grace_ns);
        tokio::time::sleep(PULSE).await;
    }
}

/// What is to be told, and to whom.
#[derive(Debug, Default)]
struct Plan {
    seen: Vec<String>,
    suspect: Vec<String>,
    left: Vec<String>,
    silent: Vec<String>,
    sessionless: Vec<String>,
    grace: Duration,
}

fn look(reign: &Reign, timing: Timing, floor_ns: u64, now_ns: u64) -> (Plan, Option<u64>) {
    let world = reign.shared.follow.world();
    reign.roster.retain(|id| is_member(&world, id));
    let mut plan = Plan {
        grace: Duration::from_nanos(timing.grace_ns),
        ..Plan::default()
    };
    let mut next_ns: Option<u64> = None;
    for node in world.nodes().filter(|n| is_member(&world, n.id())) {
        let vital = reign.roster.member(node.id(), now_ns).vital(floor_ns);
        let (step, at) = judge(node.state(), &vital, timing, now_ns);
        next_ns = next_ns.into_iter().chain(at).min();
        let list = match step {
            None => continue,
            Some(Step::Seen) => &mut plan.seen,
            Some(Step::Suspect) => &mut plan.suspect,
            Some(Step::Left) => &mut plan.left,
            Some(Step::Silent) => &mut plan.silent,
            Some(Step::Sessionless) => &mut plan.sessionless,
        };
        list.push(node.id().to_owned());
    }
    (plan, next_ns)
}

impl Plan {
    /// Tells the swarm. False if there was nothing to tell.
    async fn carry_out(self, reign: &Reign) -> bool {
        let grace = self.grace;
        let lists = [
            (
                self.suspect,
                NodeState::Suspect,
                "its connection broke".to_owned(),
            ),
            (self.left, NodeState::Down, "it left".to_owned()),
            (
                self.silent,
                NodeState::Down,
                format!("nothing heard of it for {grace:?}"),
            ),
            (
                self.sessionless,
                NodeState::Down,
                "it sends heartbeats but begins no session".to_owned(),
            ),
        ];
        let mut acted = !self.seen.is_empty();
        for (node_ids, state, message) in lists {
            for chunk in node_ids.chunks(NODES_MAX) {
                acted = true;
                lost(reign, chunk, state, &message).await;
            }
        }
        for chunk in self.seen.chunks(NODES_MAX) {
            join_all(chunk.iter().map(|node_id| seen(reign, node_id))).await;
        }
        acted
    }
}

async fn lost(reign: &Reign, node_ids: &[String], state: NodeState, message: &str) {
    tracing::info!(?node_ids, ?state, message, "nodes lost");
    let verb = Verb::NodeLost(NodeLost {
        node_ids: node_ids.to_vec(),
        state: state.into(),
        message: message.to_owned(),
    });
    if let Err(error) = reign.write(verb, WRITE_TIMEOUT).await {
        tracing::warn!(%error, ?state, "the loss of nodes could not be told");
        return;
    }
    if state == NodeState::Down {
        // Its tasks are being replaced: it has to say anew what it runs.
        for node_id in node_ids {
            if let Some(session) = reign.roster.session(node_id) {
                session.end(Ending::Silent);
            }
        }
    }
}

/// The swarm thinks otherwise, but the node has a session and is heard.
async fn seen(reign: &Reign, node_id: &str) {
    let Some(session) = reign.roster.session(node_id) else {
        return;
    };
    let (addr, description) = session.about();
    let verb = Verb::NodeSeen(NodeSeen {
        node_id: node_id.to_owned(),
        addr,
        description,
        running: Vec::new(),
    });
    if let Err(error) = reign.write(verb, WRITE_TIMEOUT).await {
        tracing::warn!(%error, node_id, "the return of a node could not be told");
    }
}
