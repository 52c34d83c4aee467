//! Troubles go in; whether records can be written, and why not, comes out.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What may be wrong, each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The last attempt to write failed.
    Failed,
    /// The second sink takes nothing.
    Sink,
    /// A record has waited too long.
    Slow,
    /// `fdatasync` does not come back.
    Unsynced,
}

/// How the audit trail is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHealth {
    /// Whether a record can be written by those whose word counts.
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

/// The state of the journal and of the second sink. Read for every record, so it is one byte; the
/// reasons are read by people.
#[derive(Debug)]
pub(super) struct Health {
    troubles: AtomicU8,
    whose_word: WhoseWord,
    reasons: Mutex<Reasons>,
    /// Up to which record everything is on the disk.
    durable: AtomicU64,
    /// When the present `fdatasync` began, in milliseconds and plus one; 0 if there is none.
    sync_began: AtomicU64,
}

/// One for each trouble, in the order of [`Trouble::place`].
type Reasons = [Option<Box<str>>; 4];

/// Who has to have a record before its answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhoseWord {
    /// The journal and the second sink.
    Both,
    /// Either of them; a second sink that acknowledges what it takes.
    Either,
    /// The journal; there is no second sink, or one that does not acknowledge.
    Journal,
}

impl Health {
    pub(super) fn new(whose_word: WhoseWord) -> Self {
        Self {
            troubles: AtomicU8::new(0),
            whose_word,
            reasons: Mutex::default(),
            durable: AtomicU64::new(0),
            sync_began: AtomicU64::new(0),
        }
    }

    /// Whether a record that comes now can be expected to be written.
    pub(super) fn is_writable(&self) -> bool {
        self.allows(self.troubles.load(Ordering::Acquire))
    }

    /// All that is known, of one moment.
    pub(super) fn report(&self) -> AuditHealth {
        let troubles = self.troubles.load(Ordering::Acquire);
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = Trouble::ALL
            .into_iter()
            .filter(|trouble| troubles & trouble.bit() != 0)
            .map(|trouble| AuditFault {
                part: match trouble {
                    Trouble::Failed | Trouble::Slow | Trouble::Unsynced => AuditPart::Journal,
                    Trouble::Sink => AuditPart::SecondSink,
                },
                problem: reason_of(&reasons, trouble),
            });
        AuditHealth {
            writable: self.allows(troubles),
            faults: faults.collect(),
        }
    }

    fn allows(&self, troubles: u8) -> bool {
        match self.whose_word {
            WhoseWord::Both => troubles == 0,
            WhoseWord::Journal => troubles & JOURNAL == 0,
            WhoseWord::Either => troubles & JOURNAL == 0 || troubles & Trouble::Sink.bit() == 0,
        }
    }

    /// Whether nothing at all is wrong with the journal itself.
    pub(super) fn journal_is_well(&self) -> bool {
        self.troubles.load(Ordering::Acquire) & JOURNAL == 0
    }

    pub(super) fn whose_word(&self) -> WhoseWord {
        self.whose_word
    }

    pub(super) fn is(&self, trouble: Trouble) -> bool {
        self.troubles.load(Ordering::Acquire) & trouble.bit() != 0
    }

    /// Notes a trouble; says whether it is new.
    pub(super) fn set(&self, trouble: Trouble, reason: &str) -> bool {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = reasons.get_mut(trouble.place()) {
            *place = Some(Box::from(reason));
        }
        self.troubles.fetch_or(trouble.bit(), Ordering::AcqRel) & trouble.bit() == 0
    }

    /// Notes that a trouble is over; says whether there was one.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        // Asked after every write: a read is cheaper than an exchange.
        self.is(trouble)
            && self.troubles.fetch_and(!trouble.bit(), Ordering::AcqRel) & trouble.bit() != 0
    }

    /// Why no record can be written; `None` if all is well.
    pub(super) fn reason(&self) -> Option<String> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        Trouble::ALL
            .into_iter()
            .find(|trouble| self.is(*trouble))
            .map(|trouble| reason_of(&reasons, trouble))
    }

    pub(super) fn durable(&self, seq: u64) {
        self.durable.fetch_max(seq, Ordering::AcqRel);
    }

    pub(super) fn is_durable(&self, seq: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= seq
    }

    pub(super) fn sync_began(&self, now: Duration) {
        self.sync_began.store(millis(now), Ordering::Release);
    }

    pub(super) fn sync_ended(&self) {
        self.sync_began.store(0, Ordering::Release);
        self.clear(Trouble::Unsynced);
    }

    /// Whether the present `fdatasync` has been running for `limit`.
    pub(super) fn sync_hangs(&self, now: Duration, limit: Duration) -> bool {
        let began = self.sync_began.load(Ordering::Acquire);
        began != 0 && millis(now).saturating_sub(began) >= millis(limit)
    }
}

fn reason_of(reasons: &Reasons, trouble: Trouble) -> String {
    let reason = reasons.get(trouble.place()).and_then(Option::as_deref);
    reason
        .unwrap_or("the audit trail is not written")
        .to_owned()
}

impl Trouble {
    /// All of them, what is gravest first.
    const ALL: [Self; 4] = [Self::Failed, Self::Slow, Self::Unsynced, Self::Sink];

    fn place(self) -> usize {
        match self {
            Self::Failed => 0,
            Self::Slow => 1,
            Self::Unsynced => 2,
            Self::Sink => 3,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Slow => 2,
            Self::Unsynced => 4,
            Self::Sink => 8,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// The bits of what may be wrong with the journal.
const JOURNAL: u8 = 1 | 2 | 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_word_counts_decides_whether_records_are_taken() {
        use Trouble::*;
        for (whose_word, troubles, expected) in [
            (WhoseWord::Journal, &[][..], true),
            (WhoseWord::Journal, &[Failed], false),
            (WhoseWord::Journal, &[Sink], true),
            (WhoseWord::Both, &[Sink], false),
            (WhoseWord::Both, &[Slow], false),
            (WhoseWord::Either, &[Sink], true),
            (WhoseWord::Either, &[Failed, Unsynced], true),
            (WhoseWord::Either, &[Failed, Sink], false),
        ] {
            let health = Health::new(whose_word);
            for trouble in troubles {
                assert!(health.set(*trouble, "reason"));
                assert!(!health.set(*trouble, "reason"));
            }
            assert_eq!(
                health.is_writable(),
                expected,
                "{whose_word:?} {troubles:?}"
            );
            let report = health.report();
            assert_eq!(report.writable, expected);
            let of_sink = troubles.iter().filter(|trouble| **trouble == Sink).count();
            let sink = |fault: &&AuditFault| fault.part == AuditPart::SecondSink;
            assert_eq!(report.faults.iter().filter(sink).count(), of_sink);
            assert_eq!(report.faults.len(), troubles.len());
            for trouble in troubles {
                assert_eq!(health.reason().as_deref(), Some("reason"));
                assert!(health.clear(*trouble));
            }
            assert!(health.is_writable() && health.reason().is_none());
        }
    }
}
