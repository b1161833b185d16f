//! The words that enums go by wherever a person reads or writes them: Swarm's.

use crate::v1::{
    Availability, FailureAction, Kind, NodeState, PortMode, PortProtocol, Reachability,
    RestartCondition, Role, TaskState, UpdateOrder, update_status,
};

/// An enum whose values have words that a person reads and writes.
pub trait Words: Sized + Copy + 'static {
    /// Every value with its word.
    const ALL: &'static [(Self, &'static str)];

    /// The word for this value.
    fn word(self) -> &'static str;

    /// The value that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, w)| w.eq_ignore_ascii_case(word))
            .map(|(value, _)| *value)
    }

    /// Every word, for an error message: `active, pause, drain`.
    fn all_words() -> String {
        let words: Vec<&str> = Self::ALL.iter().map(|(_, w)| *w).collect();
        words.join(", ")
    }
}

macro_rules! words {
    ($($type:ty { $($value:ident => $word:literal),+ $(,)? })+) => {$(
        impl Words for $type {
            const ALL: &'static [(Self, &'static str)] = &[$((<$type>::$value, $word)),+];

            fn word(self) -> &'static str {
                match self { $(<$type>::$value => $word),+ }
            }
        }
    )+};
}

words! {
    Role { Worker => "worker", Manager => "manager" }
    Availability { Active => "active", Pause => "pause", Drain => "drain" }
    NodeState {
        Unknown => "unknown", Down => "down", Ready => "ready", Suspect => "disconnected",
    }
    Reachability {
        Unknown => "unknown", Unreachable => "unreachable", Reachable => "reachable",
    }
    RestartCondition { Any => "any", OnFailure => "on-failure", None => "none" }
    UpdateOrder { StopFirst => "stop-first", StartFirst => "start-first" }
    FailureAction { Pause => "pause", Continue => "continue", Rollback => "rollback" }
    PortMode { Ingress => "ingress", Host => "host" }
    PortProtocol { Tcp => "tcp", Udp => "udp", Sctp => "sctp" }
    Kind {
        Unspecified => "object", Cluster => "swarm", Node => "node", Service => "service",
        Task => "task",
    }
    TaskState {
        New => "new", Pending => "pending", Assigned => "assigned", Accepted => "accepted",
        Preparing => "preparing", Ready => "ready", Starting => "starting",
        Running => "running", Complete => "complete", Shutdown => "shutdown",
        Failed => "failed", Rejected => "rejected", Remove => "remove", Orphaned => "orphaned",
    }
    update_status::State {
        Updating => "updating", Paused => "paused", Completed => "completed",
        RollbackStarted => "rollback_started", RollbackPaused => "rollback_paused",
        RollbackCompleted => "rollback_completed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_back_to_its_value() {
        for (state, word) in TaskState::ALL {
            assert_eq!(TaskState::from_word(word), Some(*state));
            assert_eq!(state.word(), *word);
        }
        assert_eq!(Availability::from_word("DRAIN"), Some(Availability::Drain));
        assert_eq!(Availability::from_word("gone"), None);
        assert_eq!(Availability::all_words(), "active, pause, drain");
    }
}
