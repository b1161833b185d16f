//! What every call has: somebody who makes it, and a time by which it is answered.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skep_proto::transport::{Caller, PeerRole, caller};
use skep_proto::v1::write_request::Verb;
use skep_proto::{Error, Result};
use tonic::metadata::MetadataMap;

use crate::identity::authorize_operator;
use crate::state::{Nanos, World};

/// A call that does not say how long it waits.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);
/// No call waits longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The answer is on its way this much before the caller gives up.
const TIMEOUT_MARGIN_MAX: Duration = Duration::from_millis(50);
/// Set by a manager that passes a call on to the one it takes for the leader.
const FORWARDED_METADATA: &str = "skep-forwarded";

/// One call: allowed, and with an end.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Who makes it.
    pub caller: Caller,
    /// By when to answer.
    pub deadline: Instant,
    /// It comes from another manager, on behalf of somebody that it let in.
    pub from_manager: bool,
    /// That manager takes this one for the leader.
    pub forwarded: bool,
}

impl Call {
    /// Lets in whoever may do what operators do.
    pub fn of_operator<T>(world: &World, request: &tonic::Request<T>) -> Result<Self> {
        let caller = caller(request)?;
        authorize_operator(world, &caller)?;
        let from_manager =
            matches!(&caller, Caller::Certified(peer, _) if peer.role == PeerRole::Manager);
        let metadata = request.metadata();
        Ok(Self {
            deadline: Instant::now() + timeout(metadata)?,
            caller,
            from_manager,
            forwarded: from_manager && metadata.contains_key(FORWARDED_METADATA),
        })
    }

    /// Refuses what only managers say to an operator that says it.
    pub fn allow(&self, verb: &Verb) -> Result<()> {
        if self.from_manager || !is_internal(verb) {
            return Ok(());
        }
        Err(Error::permission(
            "only the managers themselves may say this",
        ))
    }
}

/// Verbs that report what is so. An operator says what it wants.
fn is_internal(verb: &Verb) -> bool {
    match verb {
        Verb::CreateService(_)
        | Verb::UpdateService(_)
        | Verb::ScaleService(_)
        | Verb::RemoveService(_)
        | Verb::UpdateNode(_)
        | Verb::RemoveNode(_)
        | Verb::UpdateCluster(_) => false,
        // An operator asks for a new root; the manager makes it.
        Verb::RotateRootCa(verb) => verb.root_ca.is_some() || verb.join_tokens.is_some(),
        Verb::InitCluster(_)
        | Verb::RegisterNode(_)
        | Verb::NodeSeen(_)
        | Verb::NodeLost(_)
        | Verb::ReportStatuses(_)
        | Verb::SetManager(_)
        | Verb::CertificateIssued(_) => true,
    }
}

/// How long a call may take: what `grpc-timeout` says, within bounds.
fn timeout(metadata: &MetadataMap) -> Result<Duration> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(TIMEOUT_DEFAULT);
    };
    let asked = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        Error::invalid(
            "grpc-timeout",
            "is not a number of up to 8 digits and a unit",
        )
    })?;
    let asked = asked.min(TIMEOUT_MAX);
    Ok(asked.saturating_sub((asked / 10).min(TIMEOUT_MARGIN_MAX)))
}

/// `250m` is 250 milliseconds: H, M, S, m, u, n are the units.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.get(..text.len() - unit.len_utf8())?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Unix time now.
pub(super) fn now_ns() -> Nanos {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Result<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", value.parse().unwrap());
        timeout(&metadata)
    }

    #[test]
    fn a_call_ends_a_little_before_its_caller_gives_up() {
        assert_eq!(timeout(&MetadataMap::new()), Ok(TIMEOUT_DEFAULT));
        assert_eq!(asked("10S"), Ok(Duration::from_millis(9_950)));
        assert_eq!(asked("100m"), Ok(Duration::from_millis(90)));
        assert_eq!(asked("1H"), Ok(TIMEOUT_MAX - TIMEOUT_MARGIN_MAX));
        assert_eq!(asked("99999999H"), Ok(TIMEOUT_MAX - TIMEOUT_MARGIN_MAX));
        for bad in ["", "S", "10", "-1S", "123456789S", "10s", "1 S"] {
            assert_eq!(asked(bad).unwrap_err().field, "grpc-timeout", "{bad}");
        }
    }
}
