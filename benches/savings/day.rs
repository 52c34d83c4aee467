//! A day of lookups, the same each time.

use std::time::Duration;

/// How many users are asked about.
pub(crate) const USERS: usize = 5_000;

/// What happens, in order.
pub(crate) struct Day {
    pub(crate) events: Vec<Event>,
}

/// One thing that happens.
pub(crate) struct Event {
    pub(crate) at: Duration,
    /// Whom it concerns; of no meaning where Atlas as a whole is.
    pub(crate) user: usize,
    pub(crate) what: What,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Atlas falls ill.
    Fall,
    /// A certificate is issued.
    Issue,
    /// So many pods ask at once; with `forced` they force a refresh.
    Lookup { pods: usize, forced: bool },
    /// Atlas is well again.
    Recover,
    /// A certificate is revoked.
    Revoke,
}

impl Day {
    /// A day, or a part of one, with so many lookups by single callers, and so many rollouts.
    pub(crate) fn new(length: Duration, lookups: usize, rollouts: usize) -> Self {
        let mut chance = Chance(0x5eed);
        let users = Zipf::new(USERS);
        let mut events = Vec::new();
        let mut add = |count: usize, what: What, chance: &mut Chance| {
            for _ in 0..count {
                events.push(Event {
                    at: length.mul_f64(chance.unit()),
                    user: users.pick(chance.unit()),
                    what,
                });
            }
        };
        let once = |pods, forced| What::Lookup { pods, forced };
        add(lookups, once(1, false), &mut chance);
        add(rollouts, once(60, false), &mut chance);
        add(lookups / 1_000, once(1, true), &mut chance);
        add(lookups / 400, What::Issue, &mut chance);
        add(lookups / 800, What::Revoke, &mut chance);
        let at = length.mul_f64(0.6);
        let fall = |at, what| Event { at, user: 0, what };
        events.push(fall(at, What::Fall));
        events.push(fall(
            at + Duration::from_mins(10).min(length / 10),
            What::Recover,
        ));
        events.sort_by_key(|event| event.at);
        Self { events }
    }
}

/// The user of rank n is asked about in proportion to n to the power of -1.6: a few services ask all the
/// time, and most of them hardly ever.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let ranks = 1..=u32::try_from(count).unwrap();
        let cumulated = ranks.map(|rank| {
            sum += f64::from(rank).powf(-1.6);
            sum
        });
        let cumulated: Vec<f64> = cumulated.collect();
        Self(cumulated.iter().map(|part| part / sum).collect())
    }

    fn pick(&self, unit: f64) -> usize {
        self.0
            .partition_point(|part| *part < unit)
            .min(self.0.len() - 1)
    }
}

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    /// From 0 up to, and without, 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let upper = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap();
        f64::from(upper) / 4_294_967_296.0
    }
}
