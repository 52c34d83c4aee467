//! Freshness: what may be done with a list of some age. Pure.
//!
//! An age is [`Moment::since`](crate::system::Moment::since): a calendar that is set back lengthens no life, and
//! one that has run ahead by more than a minute ends the fresh ones (G34). `notAfter` is judged certificate by
//! certificate, elsewhere.

use std::time::Duration;

use super::Config;

/// What a list's age allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// It is served without asking Atlas.
    Fresh,
    /// It is served, and refreshed ahead if it is in use.
    Due,
    /// It is served only while Atlas cannot answer (stale-if-error).
    Stale,
    /// It is not served any more.
    Dead,
}

/// How long one list lives, decided when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Milliseconds, so that a lifetime is small enough to be kept with every list.
    fresh: u32,
    due: u32,
}

impl Lifetime {
    /// The lifetime that `chance`, a random number, picks (jitter): `ttl` give or take a tenth, so that lists
    /// which arrived together do not end together; due between 95 and 98 % of that. Earlier would cost more
    /// calls, and callers of the last seconds are enough to refresh a list in use.
    pub fn pick(config: &Config, chance: u64) -> Self {
        let ttl = u32::try_from(config.ttl.as_millis()).unwrap_or(u32::MAX);
        let fresh = per_mille(ttl, 900 + (chance & 0xffff) * 200 / 0xffff);
        let due = if config.refresh_ahead {
            per_mille(fresh, 950 + ((chance >> 16) & 0xffff) * 30 / 0xffff)
        } else {
            fresh
        };
        Self { fresh, due }
    }

    /// For how long at most a list that is due is fresh still, by another clock that is nearly right.
    pub(crate) fn most_left_when_due(config: &Config) -> Duration {
        let longest = Self::pick(config, 0xffff);
        let left = longest.fresh().saturating_sub(longest.due());
        left.saturating_add(Duration::from_secs(1))
    }

    /// Until what age a list is fresh.
    pub(crate) fn fresh(self) -> Duration {
        Duration::from_millis(self.fresh.into())
    }

    /// From what age on a list in use is fetched anew.
    pub(crate) fn due(self) -> Duration {
        Duration::from_millis(self.due.into())
    }

    /// What may be done with a list of this lifetime at `age`.
    pub fn judge(self, age: Duration, stale_if_error: Duration) -> Freshness {
        if age < self.due() {
            Freshness::Fresh
        } else if age < self.fresh() {
            Freshness::Due
        } else if age < self.fresh().saturating_add(stale_if_error) {
            Freshness::Stale
        } else {
            Freshness::Dead
        }
    }
}

/// For how long Atlas is not asked again for a list that it has failed to give so many times in a row (backoff).
pub(super) fn pause_after(failures: u8) -> Duration {
    Duration::from_secs(match failures {
        0 => 0,
        1 => 5,
        2 => 10,
        3 => 20,
        _ => 30,
    })
}

fn per_mille(span: u32, share: u64) -> u32 {
    u32::try_from(u64::from(span) * share / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_life_goes_from_fresh_to_due_to_stale_to_dead_at_exact_moments() {
        let lifetime = Lifetime::pick(&Config::default(), 0);
        assert_eq!(lifetime.fresh(), Duration::from_secs(270));
        assert_eq!(lifetime.due(), Duration::from_millis(256_500));
        let at = |millis| {
            let age = Duration::from_millis(millis);
            lifetime.judge(age, Duration::from_secs(10))
        };
        assert_eq!(
            [0, 256_499, 256_500, 269_999, 270_000, 279_999, 280_000].map(at),
            [
                Freshness::Fresh,
                Freshness::Fresh,
                Freshness::Due,
                Freshness::Due,
                Freshness::Stale,
                Freshness::Stale,
                Freshness::Dead
            ]
        );
    }

    #[test]
    fn what_is_switched_off_does_not_happen() {
        let off = Config {
            ttl: Duration::ZERO,
            refresh_ahead: false,
            ..Config::default()
        };
        let lifetime = Lifetime::pick(&off, u64::MAX);
        assert_eq!(
            lifetime.judge(Duration::ZERO, Duration::ZERO),
            Freshness::Dead
        );
        let hour = Duration::from_hours(1);
        assert_eq!(lifetime.judge(Duration::ZERO, hour), Freshness::Stale);
    }

    proptest! {
        #[test]
        fn the_jitter_is_a_tenth_and_due_is_shortly_before_the_end(chance: u64, ttl in 1_000_u32..86_400_000) {
            let config = Config { ttl: Duration::from_millis(ttl.into()), ..Config::default() };
            let lifetime = Lifetime::pick(&config, chance);
            let share = lifetime.fresh().as_secs_f64() / config.ttl.as_secs_f64();
            prop_assert!((0.898..=1.1).contains(&share), "{share}");
            let share = lifetime.due().as_secs_f64() / lifetime.fresh().as_secs_f64();
            prop_assert!((0.948..=0.98).contains(&share), "{share}");
        }
    }
}
