//! Judges readings of the process's memory: which [`Stage`] is reached, and how much the cache has to evict.
//!
//! Resident memory alone does not say what the process needs. What the cache evicts goes back to the allocator,
//! which gives a page back to the kernel only once nothing at all is left in it, so a process that has halved
//! its cache may stay as large as it was, for hours; a stage that waits for it to shrink would never end. But
//! what is free inside of the allocator is used again before the kernel is asked for more. So what is judged is
//!
//! ```text
//! in use = the smaller of  resident  and  resident at its peak − (held at its peak − held now)
//! ```
//!
//! where `held` is the cache's own account. Once the process grows beyond its peak, what was evicted did not
//! serve for what came, and the peak is the present; once it becomes smaller, the peak follows.
//!
//! From [`Stage::Saving`] on the cache evicts an eighth of what it *holds* with each reading, until there is
//! memory. Where that is enough, connections are not closed and misses not refused. Where the cache has not
//! enough left, the memory went to connections, which end, or to pages that the allocator keeps after a burst,
//! which no reading shows. So when the process has not grown for ten seconds, the stage below is tried, and
//! should the process grow, the stage comes back. Above the mark of [`Stage::Full`] there is no such trial.

use super::{MARKS, PERIOD, Stage};

/// What the process takes and what the cache holds of it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryUse {
    pub(super) resident: u64,
    pub(super) held: u64,
}

/// What is to be done about a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measures {
    /// What is given up.
    pub(super) stage: Stage,
    /// How much of the cache is to be evicted.
    pub(super) reclaim: u64,
    /// What the process is held to need.
    pub(super) in_use: u64,
}

/// How close the process is to its ceiling.
#[derive(Debug)]
pub(super) struct Pressure {
    pub(super) ceiling: u64,
    stage: Stage,
    peak: MemoryUse,
    /// Readings in a row at which the cache had not enough to let go, and the process did not grow.
    quiet: u32,
}

impl Pressure {
    pub(super) fn new(ceiling: u64) -> Self {
        Self {
            ceiling: ceiling.max(1),
            stage: Stage::Plenty,
            peak: MemoryUse::default(),
            quiet: 0,
        }
    }

    pub(super) fn judge(&mut self, now: MemoryUse) -> Measures {
        self.follow(now);
        let reclaimable = now.held.saturating_sub(NOT_WORTH_IT);
        let mut in_use = self.in_use(now);
        let mut stage = self.reached(in_use);
        let excess = in_use.saturating_sub(self.share(Stage::Saving.mark() - SLACK - 1));
        let is_close = now.resident >= self.share(Stage::Full.mark());
        let can_give = excess <= reclaimable;
        if can_give && !is_close {
            stage = stage.min(Stage::Saving);
        }
        self.quiet = if stage >= Stage::Saving && !can_give && !is_close {
            self.quiet + 1
        } else {
            0
        };
        if self.quiet >= QUIET {
            self.quiet = 0;
            // The last trial lets the cache grow, which costs nothing: it ends as soon as the process grows.
            let percent = if stage == Stage::Saving {
                stage.mark() / 2
            } else {
                stage.mark() - SLACK
            };
            let wanted = self.share(percent).saturating_sub(1);
            self.peak.held += in_use.saturating_sub(wanted);
            in_use = self.in_use(now);
            stage = self.reached(in_use);
        }
        self.stage = stage;
        let reclaim = if stage < Stage::Saving {
            0
        } else if can_give {
            excess.max(now.held / 8).min(reclaimable)
        } else {
            (now.held / 8).min(reclaimable)
        };
        Measures {
            stage,
            reclaim,
            in_use,
        }
    }

    /// Moves the peak, where the reading says more than it does.
    fn follow(&mut self, now: MemoryUse) {
        let noise = self.ceiling / 100;
        let grows = now.resident > self.peak.resident.saturating_add(noise);
        if grows {
            self.quiet = 0;
        }
        if grows || now.held >= self.peak.held {
            self.peak = now;
            return;
        }
        let given_back = self
            .peak
            .resident
            .saturating_sub(now.resident.saturating_add(noise));
        self.peak.resident -= given_back;
        self.peak.held = self.peak.held.saturating_sub(given_back);
    }

    fn in_use(&self, now: MemoryUse) -> u64 {
        let evicted = self.peak.held.saturating_sub(now.held);
        let peak = self.peak.resident.max(now.resident);
        now.resident.min(peak.saturating_sub(evicted))
    }

    fn reached(&self, in_use: u64) -> Stage {
        let percent = in_use.saturating_mul(100) / self.ceiling;
        let reached = MARKS.into_iter().rfind(|(stage, mark)| {
            // A stage is left a little below where it is entered, so that it does not come and go.
            let slack = if *stage <= self.stage { SLACK } else { 0 };
            percent >= mark.saturating_sub(slack)
        });
        reached.expect("the first mark is 0").0
    }

    fn share(&self, percent: u64) -> u64 {
        // In this order, so that it cannot overflow; to a hundred bytes it is the same.
        self.ceiling / 100 * percent
    }
}

const SLACK: u64 = 2;
/// A cache as small as this is left alone: it is no remedy, and is all that hits have.
const NOT_WORTH_IT: u64 = 64 << 10;
/// Ten seconds.
const QUIET: u32 = 40;
const _: () = assert!(PERIOD.as_millis() == 250, "QUIET readings are ten seconds");

#[cfg(test)]
mod tests {
    use super::*;

    /// What the process takes and the cache holds, and what that leads to: a stage, and what is to go. In
    /// percent of a ceiling of 100 MB.
    type Step = (u64, u64, Stage, u64);

    #[track_caller]
    fn check(readings: &[Step]) {
        let mut pressure = Pressure::new(100 * PERCENT);
        for (at, (resident, held, stage, reclaim)) in readings.iter().enumerate() {
            let demand = pressure.judge(MemoryUse {
                resident: resident * PERCENT,
                held: held * PERCENT,
            });
            assert_eq!(demand.stage, *stage, "reading {at}");
            assert_eq!(demand.reclaim / PERCENT, *reclaim, "reading {at}");
        }
    }

    const PERCENT: u64 = 1_000_000;

    #[test]
    fn each_stage_begins_at_its_share_and_ends_a_little_below_it() {
        check(&[
            (84, 0, Stage::Plenty, 0),
            (85, 0, Stage::Saving, 0),
            (83, 0, Stage::Saving, 0),
            (82, 0, Stage::Plenty, 0),
            (91, 0, Stage::Saving, 0),
            (92, 0, Stage::Closing, 0),
            (95, 0, Stage::HitsOnly, 0),
            (98, 0, Stage::Full, 0),
            (200, 0, Stage::Full, 0),
            (96, 0, Stage::Full, 0),
            (95, 0, Stage::HitsOnly, 0),
            (1, 0, Stage::Plenty, 0),
        ]);
    }

    #[test]
    fn the_cache_gives_what_is_too_much_even_if_the_process_stays_as_large() {
        check(&[
            (60, 40, Stage::Plenty, 0),
            (88, 64, Stage::Saving, 8),
            (88, 56, Stage::Plenty, 0),
            // It grows again into what is free.
            (88, 60, Stage::Plenty, 0),
            (88, 62, Stage::Saving, 7),
            (88, 55, Stage::Plenty, 0),
        ]);
    }

    #[test]
    fn what_the_cache_can_give_costs_neither_connections_nor_misses() {
        check(&[(97, 60, Stage::Saving, 15), (97, 45, Stage::Plenty, 0)]);
        // So close to the ceiling it does, for one reading.
        check(&[(98, 60, Stage::Full, 16), (98, 44, Stage::Plenty, 0)]);
    }

    #[test]
    fn a_purge_under_pressure_ends_the_pressure_at_once() {
        check(&[
            (80, 60, Stage::Plenty, 0),
            (88, 60, Stage::Saving, 7),
            (89, 0, Stage::Plenty, 0),
        ]);
    }

    #[test]
    fn what_grows_beyond_its_peak_has_nothing_free() {
        check(&[
            (90, 40, Stage::Saving, 8),
            (90, 32, Stage::Plenty, 0),
            (92, 32, Stage::Saving, 10),
            (96, 4, Stage::HitsOnly, 0),
            // What was given back to the kernel is not free a second time.
            (60, 4, Stage::Plenty, 0),
            (96, 4, Stage::HitsOnly, 0),
        ]);
    }

    #[test]
    fn a_cache_that_cannot_give_enough_gives_an_eighth_each_time() {
        check(&[
            (96, 8, Stage::HitsOnly, 1),
            (96, 7, Stage::HitsOnly, 0),
            (95, 6, Stage::HitsOnly, 0),
        ]);
    }

    #[test]
    fn misses_are_let_in_again_when_nothing_is_left_to_give_and_nothing_grows() {
        let mut pressure = Pressure::new(100 * PERCENT);
        let mut read = |percent: u64| {
            let resident = percent * PERCENT;
            pressure.judge(MemoryUse { resident, held: 0 }).stage
        };
        for _ in 1..QUIET {
            assert_eq!(read(96), Stage::HitsOnly);
        }
        assert_eq!(read(96), Stage::Closing);
        assert_eq!(read(96), Stage::Closing, "a trial lasts");
        assert_eq!(read(98), Stage::Full, "and ends when the process grows");
        for _ in 0..3 * QUIET {
            assert_eq!(read(98), Stage::Full, "so close there is no trial");
        }
    }

    #[test]
    fn the_cache_may_grow_again_when_the_process_does_not_although_it_has_little_to_give() {
        let mut pressure = Pressure::new(100 * PERCENT);
        let mut read = |resident: u64, held: u64| {
            let (resident, held) = (resident * PERCENT, held * PERCENT);
            pressure.judge(MemoryUse { resident, held })
        };
        for _ in 1..QUIET {
            assert_eq!(read(93, 1).stage, Stage::Closing);
        }
        for _ in 0..QUIET {
            assert_eq!(read(93, 1).stage, Stage::Saving);
        }
        let demand = read(93, 1);
        assert_eq!((demand.stage, demand.reclaim), (Stage::Plenty, 0));
        assert_eq!(read(93, 40).reclaim, 0, "into what is free");
        assert!(read(95, 40).reclaim > 0, "not beyond it");
    }

    #[test]
    fn the_stages_end_whatever_the_allocator_keeps_and_the_cache_fits() {
        // The process never becomes smaller, and every list that comes finds a place in what is free.
        let mut pressure = Pressure::new(64 << 20);
        let (base, mut held, mut resident) = (20_u64 << 20, 0_u64, 20_u64 << 20);
        let mut refused = 0;
        for reading in 0..4_000 {
            let demand = pressure.judge(MemoryUse { resident, held });
            refused += u32::from(demand.stage >= Stage::Closing);
            held -= demand.reclaim;
            held += 700 << 10;
            resident = resident.max(base + held);
            assert!(resident < 60 << 20, "reading {reading}: {resident}");
        }
        assert_eq!(refused, 0);
        assert!(held > 20 << 20, "{held}");
    }
}
