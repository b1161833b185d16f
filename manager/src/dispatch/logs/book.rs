//! The books of one subscription. Pure: which tasks were asked of which node,
//! how far each of them got, and what has to happen next.
//!
//! A *part* is what one node was asked for at once. A node that comes back, or
//! a task that joins, gets a part of its own; what was relayed is not relayed
//! again.

use std::collections::{BTreeMap, BTreeSet};

use skep_proto::v1::{LogLine, LogSubscription, LogsRequest};

/// A node that does not answer a subscription by then is missing.
pub const ANSWER_TIMEOUT_NS: u64 = 5_000_000_000;
/// How often a node is asked when nothing is followed.
const ATTEMPTS_MAX: u32 = 3;
/// Before a node whose stream broke, but not its session, is asked again.
const AGAIN_NS: u64 = 1_000_000_000;

/// How a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The node was told at this time.
    Asked(u64),
    /// Its lines are coming.
    Streaming,
    /// All its lines came.
    Ended,
    /// The stream broke at this time: the node is asked for the rest.
    Broken(u64),
    /// The node cannot deliver, in this session.
    Lost,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All lines came.
    Complete,
    /// Before all lines came.
    Broken,
    /// There is no use in asking again, and why.
    Missing(String),
}

#[derive(Debug)]
struct Part {
    node_id: String,
    /// The session that was asked.
    session: u64,
    tasks: BTreeSet<String>,
    /// Lines up to these times were relayed before the part began.
    resume: BTreeMap<String, i64>,
    state: State,
}

impl Part {
    fn is_active(&self) -> bool {
        matches!(self.state, State::Asked(_) | State::Streaming)
    }

    /// It ended before all its lines came.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Broken(_) | State::Lost)
    }

    /// Its stream broke a moment ago, and the session it was asked in goes on.
    fn rests(&self, session_of: &impl Fn(&str) -> Option<u64>, now_ns: u64) -> bool {
        matches!(self.state, State::Broken(at) if now_ns < at.saturating_add(AGAIN_NS))
            && session_of(&self.node_id) == Some(self.session)
    }

    /// Nobody else has to be asked for its tasks.
    fn covers(&self, session_of: &impl Fn(&str) -> Option<u64>, now_ns: u64) -> bool {
        match self.state {
            State::Asked(_) | State::Streaming | State::Ended => true,
            State::Broken(_) => self.rests(session_of, now_ns),
            // A node that failed is asked again in its next session, not before.
            State::Lost => session_of(&self.node_id) == Some(self.session),
        }
    }
}

/// A task that is meant, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The task's id.
    pub task_id: String,
    /// Its node's id.
    pub node_id: String,
}

/// What follows from a look at the books.
#[derive(Debug, Default)]
pub struct Next {
    /// To be sent to the nodes, by id and session serial.
    pub ask: Vec<(String, u64, LogSubscription)>,
    /// Parts that are over: their streams end, their nodes are told.
    pub stop: Vec<(String, String)>,
    /// Nodes whose lines are missing, and why. Each once.
    pub gaps: Vec<(String, String)>,
    /// When to look again at the latest.
    pub at_ns: Option<u64>,
    /// Nothing is coming any more.
    pub idle: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    prefix: String,
    request: LogsRequest,
    parts: BTreeMap<String, Part>,
    next_part: u64,
    /// The newest line of each task that was relayed.
    relayed: BTreeMap<String, i64>,
    introduced: BTreeSet<String>,
    /// Nodes that are missing, why, and whether that was said.
    missing: BTreeMap<String, (String, bool)>,
    attempts: BTreeMap<String, u32>,
}

impl Book {
    /// Empty books. `prefix` begins the ids of all parts.
    pub fn new(prefix: String, request: LogsRequest) -> Self {
        Self {
            prefix,
            request,
            parts: BTreeMap::new(),
            next_part: 0,
            relayed: BTreeMap::new(),
            introduced: BTreeSet::new(),
            missing: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// Looks at what is wanted and at who is there (`session_of`: the serial of
    /// a node's session), and says what to do.
    pub fn look(
        &mut self,
        wanted: &[Wanted],
        session_of: impl Fn(&str) -> Option<u64>,
        now_ns: u64,
    ) -> Next {
        let mut next = Next::default();
        self.forget_removed(wanted, &mut next);
        self.lose_silent(&session_of, now_ns, &mut next);
        for (node_id, task_ids) in self.uncovered(wanted, &session_of, now_ns) {
            match session_of(&node_id) {
                Some(session) => self.ask(&node_id, session, task_ids, now_ns, &mut next),
                None => self.miss(&node_id, "it has no connection to the leader"),
            }
        }
        for (node_id, (reason, said)) in &mut self.missing {
            if !*said {
                *said = true;
                next.gaps.push((node_id.clone(), reason.clone()));
            }
        }
        next.at_ns = self
            .parts
            .values()
            .filter_map(|part| match part.state {
                State::Asked(at) => Some(at.saturating_add(ANSWER_TIMEOUT_NS)),
                State::Broken(at) if now_ns < at.saturating_add(AGAIN_NS) => {
                    Some(at.saturating_add(AGAIN_NS))
                }
                _ => None,
            })
            .min();
        let comes = |part: &Part| part.is_active() || part.rests(&session_of, now_ns);
        next.idle = !self.parts.values().any(comes);
        next
    }

    /// A node begins to publish a part. False when nobody waits for it.
    pub fn begin(&mut self, id: &str, node_id: &str) -> bool {
        match self.parts.get_mut(id) {
            Some(part) if part.node_id == node_id && matches!(part.state, State::Asked(_)) => {
                part.state = State::Streaming;
                true
            }
            _ => false,
        }
    }

    /// A stream is over.
    pub fn end(&mut self, id: &str, outcome: Outcome, now_ns: u64) {
        let Some(part) = self.parts.get_mut(id).filter(|p| p.is_active()) else {
            return;
        };
        part.state = match &outcome {
            Outcome::Complete => State::Ended,
            Outcome::Broken => State::Broken(now_ns),
            Outcome::Missing(_) => State::Lost,
        };
        if let Outcome::Missing(reason) = outcome {
            let node_id = part.node_id.clone();
            self.miss(&node_id, &reason);
        }
    }

    /// A node says why lines are missing while others still come.
    pub fn complain(&mut self, id: &str, reason: &str) {
        if let Some(node_id) = self.parts.get(id).map(|p| p.node_id.clone()) {
            self.miss(&node_id, reason);
        }
    }

    /// The lines that are to be relayed: of the part's tasks, and not before.
    pub fn sift(&self, id: &str, lines: Vec<LogLine>) -> Vec<LogLine> {
        let Some(part) = self.parts.get(id) else {
            return Vec::new();
        };
        let fresh = |line: &LogLine| {
            part.tasks.contains(&line.task_id)
                && part
                    .resume
                    .get(&line.task_id)
                    .is_none_or(|seen| line.at_ns > *seen)
        };
        lines.into_iter().filter(fresh).collect()
    }

    /// Whether a task has yet to be introduced; from now on it is.
    pub fn introduce(&mut self, task_id: &str) -> bool {
        self.introduced.insert(task_id.to_owned())
    }

    /// These lines were relayed. `newest`: time of each task's last one.
    pub fn relayed(&mut self, newest: BTreeMap<String, i64>) {
        for (task_id, at_ns) in newest {
            let seen = self.relayed.entry(task_id).or_insert(at_ns);
            *seen = at_ns.max(*seen);
        }
    }

    /// Parts that are not over, with their nodes.
    pub fn active(&self) -> Vec<(String, String)> {
        self.parts
            .iter()
            .filter(|(_, part)| part.is_active())
            .map(|(id, part)| (id.clone(), part.node_id.clone()))
            .collect()
    }

    /// Whether lines of a part are still wanted.
    pub fn is_active(&self, id: &str) -> bool {
        self.parts.get(id).is_some_and(Part::is_active)
    }

    fn miss(&mut self, node_id: &str, reason: &str) {
        self.missing
            .entry(node_id.to_owned())
            .or_insert_with(|| (reason.to_owned(), false));
    }

    /// Records are removed long after their tasks ended: no line is to come.
    fn forget_removed(&mut self, wanted: &[Wanted], next: &mut Next) {
        let kept: BTreeSet<&str> = wanted.iter().map(|w| w.task_id.as_str()).collect();
        self.parts.retain(|id, part| {
            part.tasks.retain(|task_id| kept.contains(task_id.as_str()));
            let over = part.tasks.is_empty();
            if over && part.is_active() {
                next.stop.push((id.clone(), part.node_id.clone()));
            }
            !over
        });
        self.relayed.retain(|id, _| kept.contains(id.as_str()));
        self.introduced.retain(|id| kept.contains(id.as_str()));
    }

    fn lose_silent(
        &mut self,
        session_of: &impl Fn(&str) -> Option<u64>,
        now_ns: u64,
        next: &mut Next,
    ) {
        let mut lost = Vec::new();
        for (id, part) in self.parts.iter_mut().filter(|(_, part)| part.is_active()) {
            let session = session_of(&part.node_id);
            let late = matches!(part.state,
                State::Asked(at) if now_ns >= at.saturating_add(ANSWER_TIMEOUT_NS));
            if session == Some(part.session) && !late {
                continue;
            }
            part.state = State::Lost;
            next.stop.push((id.clone(), part.node_id.clone()));
            if session.is_none() {
                lost.push((part.node_id.clone(), "its connection to the leader broke"));
            } else if late {
                lost.push((part.node_id.clone(), "it did not answer within 5 s"));
            }
        }
        for (node_id, reason) in lost {
            self.miss(&node_id, reason);
        }
    }

    /// Wanted tasks that no part stands for, by node.
    fn uncovered(
        &self,
        wanted: &[Wanted],
        session_of: &impl Fn(&str) -> Option<u64>,
        now_ns: u64,
    ) -> BTreeMap<String, Vec<String>> {
        let mut covered = BTreeSet::new();
        for part in self.parts.values() {
            if part.covers(session_of, now_ns) {
                covered.extend(part.tasks.iter().map(String::as_str));
            }
        }
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for wanted in wanted {
            if !covered.contains(wanted.task_id.as_str()) {
                by_node
                    .entry(wanted.node_id.clone())
                    .or_default()
                    .push(wanted.task_id.clone());
            }
        }
        by_node
    }

    fn ask(
        &mut self,
        node_id: &str,
        session: u64,
        task_ids: Vec<String>,
        now_ns: u64,
        next: &mut Next,
    ) {
        if !self.request.follow {
            let attempts = self.attempts.entry(node_id.to_owned()).or_default();
            if *attempts >= ATTEMPTS_MAX {
                self.miss(node_id, "its stream of lines keeps breaking");
                return;
            }
            *attempts += 1;
        }
        self.missing.remove(node_id);
        let (begun, fresh): (Vec<String>, Vec<String>) = task_ids
            .into_iter()
            .partition(|id| self.relayed.contains_key(id));
        for (task_ids, resumed) in [(fresh, false), (begun, true)] {
            if task_ids.is_empty() {
                continue;
            }
            self.next_part += 1;
            let id = format!("{}.{}", self.prefix, self.next_part);
            let resume: BTreeMap<String, i64> = task_ids
                .iter()
                .filter_map(|id| Some((id.clone(), *self.relayed.get(id)?)))
                .collect();
            let mut subscription = LogSubscription {
                id: id.clone(),
                task_ids: task_ids.clone(),
                follow: self.request.follow,
                tail: self.request.tail,
                since_ns: self.request.since_ns,
                stdout: self.request.stdout,
                stderr: self.request.stderr,
            };
            if resumed {
                subscription.tail = None;
                subscription.since_ns = resume.values().copied().min().unwrap_or(0);
            }
            let part = Part {
                node_id: node_id.to_owned(),
                session,
                tasks: task_ids.into_iter().collect(),
                resume,
                state: State::Asked(now_ns),
            };
            // Earlier parts of these tasks are history.
            self.parts
                .retain(|_, old| !old.is_over() || old.tasks.is_disjoint(&part.tasks));
            self.parts.insert(id, part);
            next.ask.push((node_id.to_owned(), session, subscription));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tasks: &[(&str, &str)]) -> Vec<Wanted> {
        let wanted = tasks.iter().map(|(task_id, node_id)| Wanted {
            task_id: (*task_id).to_owned(),
            node_id: (*node_id).to_owned(),
        });
        wanted.collect()
    }

    fn book(follow: bool) -> Book {
        let request = LogsRequest {
            follow,
            tail: Some(5),
            stdout: true,
            ..LogsRequest::default()
        };
        Book::new("1.1".to_owned(), request)
    }

    fn line(task_id: &str, at_ns: i64) -> LogLine {
        LogLine {
            task_id: task_id.to_owned(),
            at_ns,
            ..LogLine::default()
        }
    }

    #[test]
    fn each_node_is_asked_once_and_the_end_is_when_all_ended() {
        let mut book = book(false);
        let tasks = wanted(&[("t1", "n1"), ("t2", "n2"), ("t3", "n1")]);
        let next = book.look(&tasks, |_| Some(1), 0);
        assert_eq!(next.ask.len(), 2);
        assert!(!next.idle);
        let ids: Vec<String> = next.ask.iter().map(|(_, _, s)| s.id.clone()).collect();
        assert!(!book.begin(&ids[0], "n2"));
        assert!(book.begin(&ids[0], "n1") && book.begin(&ids[1], "n2"));
        assert!(!book.begin(&ids[0], "n1"));
        book.end(&ids[0], Outcome::Complete, 1);
        let next = book.look(&tasks, |_| Some(1), 1);
        assert!(!next.idle && next.ask.is_empty());
        book.end(&ids[1], Outcome::Complete, 2);
        let next = book.look(&tasks, |_| Some(1), 2);
        assert!(next.idle && next.gaps.is_empty());
    }

    #[test]
    fn a_node_without_a_session_is_one_gap() {
        let mut book = book(false);
        let tasks = wanted(&[("t1", "n1"), ("t2", "n1")]);
        let next = book.look(&tasks, |_| None, 0);
        assert_eq!(next.gaps.len(), 1);
        assert!(next.idle);
        assert!(book.look(&tasks, |_| None, 1).gaps.is_empty());
    }

    #[test]
    fn a_node_that_does_not_answer_is_a_gap() {
        let mut book = book(true);
        let tasks = wanted(&[("t1", "n1")]);
        assert_eq!(
            book.look(&tasks, |_| Some(1), 7).at_ns,
            Some(7 + ANSWER_TIMEOUT_NS)
        );
        let next = book.look(&tasks, |_| Some(1), 7 + ANSWER_TIMEOUT_NS);
        assert_eq!(next.gaps.len(), 1);
        assert_eq!(next.stop.len(), 1);
        assert!(
            next.ask.is_empty(),
            "it is asked again in its next session only"
        );
        assert_eq!(
            book.look(&tasks, |_| Some(2), 8 + ANSWER_TIMEOUT_NS)
                .ask
                .len(),
            1
        );
    }

    #[test]
    fn a_node_that_comes_back_goes_on_where_it_stopped() {
        let mut book = book(true);
        let tasks = wanted(&[("t1", "n1"), ("t2", "n1")]);
        let id = book.look(&tasks, |_| Some(1), 0).ask[0].2.id.clone();
        assert!(book.begin(&id, "n1"));
        assert_eq!(
            book.sift(&id, vec![line("t1", 10), line("t9", 10)]).len(),
            1
        );
        book.relayed([("t1".to_owned(), 10)].into());
        let next = book.look(&tasks, |_| None, 1);
        assert_eq!(next.gaps.len(), 1);
        let next = book.look(&tasks, |_| Some(2), 2);
        let resumed = next.ask.iter().find(|a| a.2.task_ids == ["t1"]).unwrap();
        assert_eq!((resumed.2.since_ns, resumed.2.tail), (10, None));
        let fresh = next.ask.iter().find(|a| a.2.task_ids == ["t2"]).unwrap();
        assert_eq!(fresh.2.tail, Some(5));
        assert_eq!(
            book.sift(&resumed.2.id, vec![line("t1", 10), line("t1", 11)])
                .len(),
            1
        );
        assert_eq!(
            book.look(&tasks, |_| None, 3).gaps.len(),
            1,
            "a second loss is said again"
        );
    }

    #[test]
    fn a_task_that_joins_is_asked_for_and_one_that_is_removed_is_forgotten() {
        let mut book = book(true);
        book.look(&wanted(&[("t1", "n1")]), |_| Some(1), 0);
        let next = book.look(&wanted(&[("t1", "n1"), ("t2", "n1")]), |_| Some(1), 1);
        assert_eq!(next.ask.len(), 1);
        assert_eq!(next.ask[0].2.task_ids, ["t2"]);
        let next = book.look(&wanted(&[("t2", "n1")]), |_| Some(1), 2);
        assert_eq!(next.stop.len(), 1);
        assert_eq!(book.active().len(), 1);
    }

    #[test]
    fn a_complaint_is_a_gap_and_lines_go_on() {
        let mut book = book(false);
        let tasks = wanted(&[("t1", "n1")]);
        let id = book.look(&tasks, |_| Some(1), 0).ask[0].2.id.clone();
        assert!(book.begin(&id, "n1"));
        book.complain(&id, "no such container");
        book.complain(&id, "no such container");
        assert_eq!(book.look(&tasks, |_| Some(1), 1).gaps.len(), 1);
        assert!(book.is_active(&id));
    }

    #[test]
    fn a_stream_that_breaks_is_taken_up_again() {
        let mut book = book(true);
        let tasks = wanted(&[("t1", "n1")]);
        let id = book.look(&tasks, |_| Some(1), 0).ask[0].2.id.clone();
        assert!(book.begin(&id, "n1"));
        book.end(&id, Outcome::Broken, 7);
        let next = book.look(&tasks, |_| Some(1), 8);
        assert!(next.ask.is_empty() && next.gaps.is_empty() && !next.idle);
        assert_eq!(next.at_ns, Some(7 + AGAIN_NS));
        let next = book.look(&tasks, |_| Some(1), 7 + AGAIN_NS);
        assert_eq!(next.ask.len(), 1);
        book.end(&next.ask[0].2.id, Outcome::Broken, 8 + AGAIN_NS);
        assert_eq!(book.look(&tasks, |_| None, 9 + AGAIN_NS).gaps.len(), 1);
    }

    #[test]
    fn a_node_that_flaps_is_not_asked_for_ever() {
        let mut book = book(false);
        let tasks = wanted(&[("t1", "n1")]);
        for session in 1..=u64::from(ATTEMPTS_MAX) {
            assert_eq!(book.look(&tasks, |_| Some(session), 0).ask.len(), 1);
        }
        let next = book.look(&tasks, |_| Some(99), 0);
        assert!(next.ask.is_empty() && next.idle);
        assert_eq!(next.gaps.len(), 1);
    }
}
