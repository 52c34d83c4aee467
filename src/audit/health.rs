//! Whether records can be written, by the conditions of the journal and of the second sink, and why not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::config::{Config, Require};

/// What may be wrong, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// The last attempt to write failed.
    WriteFailed,
    /// A record has waited too long.
    WriteSlow,
    /// `fdatasync` does not come back.
    SyncHangs,
    /// The second sink takes nothing.
    SinkDown,
}

/// How the audit trail is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHealth {
    /// Whether records can be written to all that have to have them.
    pub writable: bool,
    /// What is wrong, whether or not that matters to answers.
    pub faults: Vec<AuditFault>,
}

/// What is wrong with a part of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// Which part.
    pub part: AuditPart,
    /// What is wrong with it.
    pub problem: String,
}

/// A part of the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditPart {
    /// The journal in its directory.
    Journal,
    /// The second sink.
    SecondSink,
}

/// Which of the journal and the second sink have to have a record before its answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quorum {
    Both,
    /// One is enough; the second sink acknowledges what it takes.
    Either,
    /// There is no second sink, or one that does not acknowledge.
    Journal,
}

#[derive(Debug)]
pub(super) struct Health {
    pub(super) quorum: Quorum,
    conditions: Mutex<PresentConditions>,
    sync_began: Mutex<Option<Duration>>,
}

type PresentConditions = BTreeMap<Condition, String>;

impl Quorum {
    pub(super) fn of(config: &Config) -> Self {
        match (&config.second, config.require) {
            (Some(_), Require::All) => Self::Both,
            (Some(second), Require::Any) if second.format.acknowledges() => Self::Either,
            (Some(_) | None, _) => Self::Journal,
        }
    }
}

impl Health {
    pub(super) fn new(quorum: Quorum) -> Self {
        Self {
            quorum,
            conditions: Mutex::default(),
            sync_began: Mutex::default(),
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        self.allows(&self.lock())
    }

    pub(super) fn report(&self) -> AuditHealth {
        let conditions = self.lock();
        let faults = conditions.iter().map(|(condition, problem)| AuditFault {
            part: condition.part(),
            problem: problem.clone(),
        });
        AuditHealth {
            writable: self.allows(&conditions),
            faults: faults.collect(),
        }
    }

    pub(super) fn is_journal_well(&self) -> bool {
        is_well(&self.lock(), AuditPart::Journal)
    }

    pub(super) fn is(&self, condition: Condition) -> bool {
        self.lock().contains_key(&condition)
    }

    /// Notes a condition; says whether it is new.
    pub(super) fn set(&self, condition: Condition, reason: &str) -> bool {
        self.lock().insert(condition, reason.to_owned()).is_none()
    }

    /// Notes that a condition is over; says whether it was there.
    pub(super) fn clear(&self, condition: Condition) -> bool {
        self.lock().remove(&condition).is_some()
    }

    /// Why no record can be written; `None` if all is well.
    pub(super) fn reason(&self) -> Option<String> {
        self.lock().values().next().cloned()
    }

    pub(super) fn sync_began(&self, now: Duration) {
        *self.sync() = Some(now);
    }

    pub(super) fn sync_ended(&self) {
        *self.sync() = None;
        self.clear(Condition::SyncHangs);
    }

    /// Whether the present `fdatasync` has been running for `limit`.
    pub(super) fn sync_hangs(&self, now: Duration, limit: Duration) -> bool {
        self.sync()
            .is_some_and(|began| now.saturating_sub(began) >= limit)
    }

    fn allows(&self, conditions: &PresentConditions) -> bool {
        let journal = is_well(conditions, AuditPart::Journal);
        let sink = is_well(conditions, AuditPart::SecondSink);
        match self.quorum {
            Quorum::Both => journal && sink,
            Quorum::Either => journal || sink,
            Quorum::Journal => journal,
        }
    }

    fn lock(&self) -> MutexGuard<'_, PresentConditions> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) -> MutexGuard<'_, Option<Duration>> {
        self.sync_began
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_well(conditions: &PresentConditions, part: AuditPart) -> bool {
    conditions.keys().all(|condition| condition.part() != part)
}

impl Condition {
    fn part(self) -> AuditPart {
        match self {
            Self::WriteFailed | Self::WriteSlow | Self::SyncHangs => AuditPart::Journal,
            Self::SinkDown => AuditPart::SecondSink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorum_decides_whether_records_are_taken() {
        use Condition::*;
        for (quorum, conditions, expected) in [
            (Quorum::Journal, &[][..], true),
            (Quorum::Journal, &[WriteFailed], false),
            (Quorum::Journal, &[SinkDown], true),
            (Quorum::Both, &[SinkDown], false),
            (Quorum::Both, &[WriteSlow], false),
            (Quorum::Either, &[SinkDown], true),
            (Quorum::Either, &[WriteFailed, SyncHangs], true),
            (Quorum::Either, &[WriteFailed, SinkDown], false),
        ] {
            let health = Health::new(quorum);
            for condition in conditions {
                assert!(health.set(*condition, "reason"));
                assert!(!health.set(*condition, "reason"));
            }
            assert_eq!(health.is_writable(), expected, "{quorum:?} {conditions:?}");
            let report = health.report();
            assert_eq!(report.writable, expected);
            let of_sink = conditions.iter().filter(|it| **it == SinkDown).count();
            let sink = |fault: &&AuditFault| fault.part == AuditPart::SecondSink;
            assert_eq!(report.faults.iter().filter(sink).count(), of_sink);
            assert_eq!(report.faults.len(), conditions.len());
            for condition in conditions {
                assert_eq!(health.reason().as_deref(), Some("reason"));
                assert!(health.clear(*condition));
            }
            assert!(health.is_writable() && health.reason().is_none());
        }
    }
}
