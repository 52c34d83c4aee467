//! When an issuer may be asked for its keys: attempts and their results go in, turns and the next due
//! time come out. Pure.

use std::time::Duration;

/// The attempts to bring one issuer's keys up to date.
#[derive(Debug)]
pub(super) struct Gate {
    published: bool,
    running: bool,
    asked_for_unknown: Option<Duration>,
    /// Whether they are wanted anew, whatever comes of the attempt that is under way.
    wanted: bool,
    ended: Option<Duration>,
    due: Duration,
    failures: u32,
}

/// What somebody with an unknown `kid` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The issuer was asked too short a time ago.
    NotNow,
    /// Wake the background task, then wait for it.
    Wake,
    /// Somebody has asked: wait for what comes of it.
    Wait,
}

impl Gate {
    /// The first attempt is due at once. To published keys it counts as under way before it begins, so
    /// that callers who come earlier wait for it instead of asking for another.
    pub(super) fn new(published: bool) -> Self {
        Self {
            published,
            running: published,
            asked_for_unknown: None,
            wanted: false,
            ended: None,
            due: Duration::ZERO,
            failures: 0,
        }
    }

    /// Goes on where `old` stops. What was under way there ends with its background task, so it is begun again.
    pub(super) fn inherit(&mut self, old: &Self, now: Duration) {
        *self = Self {
            published: self.published,
            due: if old.running { now } else { old.due },
            ..*old
        };
    }

    /// When the next attempt is due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Whether the last attempt that ended was good.
    pub(super) fn was_good(&self) -> bool {
        self.failures == 0
    }

    /// A token names a key that is not known.
    pub(super) fn turn(&mut self, now: Duration) -> Turn {
        if self.running {
            return Turn::Wait;
        }
        match self.asked_for_unknown {
            Some(asked) if now.saturating_sub(asked) < COOL_DOWN => Turn::NotNow,
            _ => {
                self.asked_for_unknown = Some(now);
                self.running = true;
                self.due = now;
                Turn::Wake
            }
        }
    }

    /// An operator wants the keys as they are now. An attempt that is under way may have begun before they
    /// changed.
    pub(super) fn want(&mut self, now: Duration) {
        self.wanted = self.running;
        if !self.running {
            let pause_ends = self.ended.map_or(now, |ended| ended.saturating_add(BREATH));
            self.due = self.due.min(pause_ends.max(now));
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.running = true;
    }

    /// An attempt ends before it is known how.
    pub(super) fn abandon(&mut self) {
        self.running = false;
    }

    /// An attempt ends. After a failure the next comes sooner, but ever later while they go on.
    pub(super) fn end(&mut self, now: Duration, good: bool) {
        self.running = false;
        self.ended = Some(now);
        self.failures = if good {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let pause = if std::mem::take(&mut self.wanted) {
            BREATH
        } else if !self.published {
            FILE_PERIOD
        } else if good {
            PERIOD
        } else {
            let doublings = self.failures.saturating_sub(1);
            Duration::from_secs(1_u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(COOL_DOWN)
        };
        self.due = now.saturating_add(pause);
    }
}

/// How often published keys are fetched while all is well.
const PERIOD: Duration = Duration::from_mins(5);

/// How often a file is read. It is small, and notifications miss files that are swapped by symlink.
const FILE_PERIOD: Duration = Duration::from_secs(2);

/// The least time between two fetches for unknown keys, and the longest pause after a failure.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// The least time between two attempts, however often they are asked for.
const BREATH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn unknown_keys_wake_the_keeper_once_in_thirty_seconds_whatever_comes_of_it() {
        for good in [true, false] {
            let mut gate = Gate::new(true);
            assert_eq!(
                gate.turn(at(0)),
                Turn::Wait,
                "the first attempt is on its way"
            );
            gate.end(at(0), good);
            assert_eq!(gate.turn(at(1)), Turn::Wake);
            assert_eq!(gate.turn(at(1)), Turn::Wait);
            gate.end(at(5), good);
            assert_eq!(gate.turn(at(5)), Turn::NotNow);
            assert_eq!(gate.turn(at(30)), Turn::NotNow);
            assert_eq!(gate.turn(at(31)), Turn::Wake);
        }
    }

    #[test]
    fn failures_are_tried_again_sooner_and_ever_later() {
        let mut gate = Gate::new(true);
        let mut pauses = Vec::new();
        for _ in 0..70 {
            gate.end(at(100), false);
            pauses.push(gate.due().saturating_sub(at(100)));
        }
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30].map(at));
        assert_eq!(pauses[69], at(30));
        gate.end(at(100), true);
        assert_eq!(gate.due(), at(400));
    }

    #[test]
    fn an_operator_is_heard_at_once_but_not_twice_in_a_second() {
        let mut gate = Gate::new(true);
        gate.begin();
        gate.want(at(0));
        gate.end(at(5), true);
        assert_eq!(gate.due(), at(6), "what was under way may be too old");
        gate.begin();
        gate.end(at(6), true);
        assert_eq!(gate.due(), at(306));
        gate.want(at(6));
        gate.want(at(6));
        assert_eq!(gate.due(), at(7));
        gate.want(at(100));
        assert_eq!(gate.due(), at(7));
        gate.begin();
        gate.end(at(100), true);
        gate.want(at(200));
        assert_eq!(gate.due(), at(200));
    }

    #[test]
    fn a_successor_keeps_the_pauses_and_begins_again_what_was_under_way() {
        let mut old = Gate::new(true);
        old.end(at(0), true);
        let mut gate = Gate::new(true);
        gate.inherit(&old, at(9));
        assert_eq!(gate.due(), at(300));
        assert_eq!(old.turn(at(10)), Turn::Wake);
        gate.inherit(&old, at(11));
        assert_eq!(gate.due(), at(11));
        assert_eq!(gate.turn(at(11)), Turn::Wait);
    }
}
