//! A script by chance: calls that are taken, sent, answered and given back, by two
//! replicas of a fleet, and all of them by a single one.

use std::time::Duration;

use super::super::super::CallOutcome;
use super::super::super::cooldown::{CooldownCause, CooldownRequest};
use super::super::super::project::Project;
use super::super::super::token_bucket::{Quota, Rates, TokenBucket};
use super::START;
use crate::atlas::ProjectId;
use crate::fleet::Fleet;
use crate::upstream::config::AtlasLimits;
use crate::upstream::error::Urgency;
use crate::upstream::jitter::Jitter;

/// Numbers that look random and are the same in each run (`SplitMix64`).
pub(super) struct Chance(pub(super) u64);

/// How a call ended, what Atlas says of its bucket, and whether it wants to be left alone.
type Said = (Option<CallOutcome>, Quota, Option<CooldownRequest>);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len().try_into().unwrap())).unwrap()]
    }
}

/// A call that was taken, and what was known when it was sent.
#[derive(Clone, Copy)]
struct Call {
    /// Which replica makes it.
    by: usize,
    taken_at: Duration,
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Duration,
    /// How many had ended before, by the replica and by the single one.
    ended_before: [u64; 2],
    /// What was left at Atlas then.
    remaining: u64,
}

/// One script: two replicas of the fleet, and one that is single and makes the calls of both.
pub(super) struct Script {
    chance: Chance,
    id: ProjectId,
    replicas: [Project<()>; 2],
    single: Project<()>,
    calls: Vec<Call>,
    /// What Atlas has, and may have.
    level: u64,
    capacity: u64,
    pub(super) tally: Tally,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) asked: u64,
    pub(super) granted: u64,
    /// Where the single one would have been granted them.
    pub(super) refused_by_fleet_alone: u64,
}

impl Script {
    pub(super) fn new(number: u64) -> Self {
        let mut chance = Chance(number);
        let capacity = chance.of(&[20, 60, 1_200]);
        let limits = AtlasLimits {
            capacity,
            reserve: capacity / chance.of(&[4, 6, 100]),
            refill_per_minute: capacity * 5 / 12,
            share_percent: chance.of(&[33, 50, 100]),
            ..AtlasLimits::default()
        };
        let bucket = TokenBucket::new(Rates::new(&limits), START);
        Self {
            chance,
            id: format!("{number:024x}").parse().unwrap(),
            replicas: [(); 2].map(|()| Project::new(bucket.clone(), 4)),
            single: Project::new(bucket, 4),
            calls: Vec::new(),
            level: capacity,
            capacity,
            tally: Tally::default(),
        }
    }

    pub(super) async fn step(&mut self, fleet: &Fleet, now: Duration) {
        match self.chance.below(10) {
            0..=3 => {
                let by = self.chance.of(&[0, 1]);
                self.take(by, fleet, now).await;
            }
            4..=5 => self.send(now),
            6..=7 => self.answer(fleet, now).await,
            8 => match self.chance.below(4) {
                0 => self.challenge(fleet, now).await,
                1 => self.level = self.level.saturating_sub(self.chance.below(self.capacity)),
                2 => self.level = (self.level + self.capacity * 5 / 12).min(self.capacity),
                _ => {}
            },
            _ => {
                if let Some(at) = self.calls.iter().position(|call| call.sent.is_none()) {
                    // The next request tells of it.
                    let Call { by, .. } = self.calls.remove(at);
                    self.give_back(by);
                    self.replicas[by].return_call(now);
                    self.take(by, fleet, now).await;
                }
            }
        }
    }

    async fn take(&mut self, by: usize, fleet: &Fleet, now: Duration) {
        let urgency = self.chance.of(&[
            Urgency::Miss,
            Urgency::Miss,
            Urgency::Revalidate,
            Urgency::RefreshAhead,
        ]);
        let most = if self.capacity > 100 { 19 } else { 3 };
        let calls = self.chance.of(&[1, 1, 1, 2, 3, most]);
        let first = self.chance.below(4) > 0;
        let request = self.replicas[by].request(calls, urgency, first, now);
        let answer = fleet.take_calls(&self.id, &request).await.unwrap();
        let taken = self.replicas[by].follow(&answer, calls, now);
        let single = self.single.clone().take(calls, urgency, first, now);
        self.tally.asked += 1;
        if taken.is_ok() {
            let id = self.id;
            assert_eq!(single, Ok(()), "script {id}, at {now:?}: {answer:?}");
            self.single.take(calls, urgency, first, now).unwrap();
            let call = Call {
                by,
                taken_at: now,
                sent: None,
            };
            self.calls.extend((0..calls).map(|_| call));
            self.tally.granted += 1;
        } else {
            self.single.bucket.refill(now);
            self.tally.refused_by_fleet_alone += u64::from(single.is_ok());
        }
    }

    fn send(&mut self, now: Duration) {
        let Some(at) = self.calls.iter().position(|call| call.sent.is_none()) else {
            return;
        };
        let by = self.calls[at].by;
        let Ok(by_replica) = self.replicas[by].send(Urgency::Miss, now) else {
            self.calls.remove(at);
            self.give_back(by);
            return;
        };
        let by_single = self.single.bucket.sent();
        self.level = self.level.saturating_sub(1);
        self.calls[at].sent = Some(Sent {
            at: now,
            ended_before: [by_replica, by_single],
            remaining: self.level,
        });
    }

    /// One of the calls under way is answered, by what Atlas had when it was sent or has now.
    async fn answer(&mut self, fleet: &Fleet, now: Duration) {
        let under_way: Vec<usize> = (0..self.calls.len())
            .filter(|at| self.calls[*at].sent.is_some())
            .collect();
        if under_way.is_empty() {
            return;
        }
        let Call { by, sent, .. } = self.calls.remove(self.chance.of(&under_way));
        let sent = sent.unwrap();
        let (outcome, quota, cooldown) = self.say(&sent);
        let [by_replica, by_single] = sent.ended_before;
        let at = (Jitter::Fixed(0), now);
        self.replicas[by].learn(outcome, (by_replica, quota), cooldown, at);
        let (_, wait) = self.single.learn(outcome, (by_single, quota), cooldown, at);
        let cooldown = cooldown.zip(wait);
        let cooldown = cooldown.map(|(request, wait)| (request.cause.status(), wait));
        let window = LIFE + now.saturating_sub(sent.at);
        // The engine is told of the calls of both that were not sent yet.
        if let Some(observed) = self.single.observed((outcome, quota, cooldown), window) {
            fleet.observe(&self.id, &observed).await.unwrap();
        }
        self.replicas[by].bucket.ended();
        self.single.bucket.ended();
    }

    fn say(&mut self, sent: &Sent) -> Said {
        let remaining = self.chance.of(&[sent.remaining, self.level]);
        let limit = self.chance.of(&[None, Some(self.capacity)]);
        let quota = Quota {
            limit,
            remaining: Some(remaining),
        };
        let wait = self.chance.of(&[
            None,
            Some(Duration::from_secs(1)),
            Some(Duration::from_secs(40)),
        ]);
        let cause = self
            .chance
            .of(&[CooldownCause::RateLimited, CooldownCause::Unavailable]);
        match self.chance.below(20) {
            0 => (
                Some(CallOutcome::Answered),
                quota,
                Some(CooldownRequest { cause, wait }),
            ),
            1 => (Some(CallOutcome::Unanswered), Quota::default(), None),
            2 => (Some(CallOutcome::Answered), Quota::default(), None),
            _ => (Some(CallOutcome::Answered), quota, None),
        }
    }

    fn give_back(&mut self, by: usize) {
        self.replicas[by].bucket.give_back();
        self.single.bucket.give_back();
    }

    /// A call that was made and not taken, and another of the same replica, which tells of it.
    async fn challenge(&mut self, fleet: &Fleet, now: Duration) {
        let by = self.chance.of(&[0, 1]);
        for project in [&mut self.replicas[by], &mut self.single] {
            project.bucket.take(1, now);
            project.bucket.sent();
            project.bucket.ended();
        }
        self.replicas[by].untaken += 1;
        self.take(by, fleet, now).await;
    }

    /// No call lives for longer.
    pub(super) fn end_before(&mut self, later: Duration) {
        let (gone, kept) = self
            .calls
            .iter()
            .partition(|call| later.saturating_sub(call.taken_at) > LIFE);
        self.calls = kept;
        let gone: Vec<Call> = gone;
        for call in gone {
            if call.sent.is_none() {
                self.give_back(call.by);
            } else {
                self.replicas[call.by].bucket.ended();
                self.single.bucket.ended();
            }
        }
    }
}

/// How long a call takes at most.
pub(super) const LIFE: Duration = Duration::from_secs(10);
