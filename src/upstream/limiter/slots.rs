//! Concurrency slots of one project, and its queue: how many calls may be under way at once, which moves with
//! how well Atlas answers, and which waiting call is next. Pure.
//!
//! The pages of one list need not wait for that number to grow while no other fetch wants anything of the
//! project, and Atlas has never yet answered it badly: they all go at once, up to the most that it could grow
//! to. Its first page has just been answered well.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::upstream::error::Urgency;

type Queue<W> = VecDeque<(Duration, W)>;

#[derive(Clone, Debug)]
pub(super) struct Slots<W> {
    initial: usize,
    limit: usize,
    /// The fetches whose calls are under way, one entry a call.
    in_flight: Vec<u64>,
    /// How many of the calls under way may raise the limit, because it held others back.
    pressed: usize,
    /// Good answers since the limit last rose; only counted once there was a bad one.
    good: usize,
    is_strained: bool,
    queues: BTreeMap<Urgency, Queue<W>>,
}

impl<W> Slots<W> {
    pub(super) fn new(initial: usize) -> Self {
        Self {
            initial,
            limit: initial,
            in_flight: Vec::new(),
            pressed: 0,
            good: 0,
            is_strained: false,
            queues: BTreeMap::new(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    pub(super) fn is_in_use(&self) -> bool {
        !self.in_flight.is_empty() || self.waiting() > 0
    }

    pub(super) fn queue(&mut self, urgency: Urgency, now: Duration, waiter: W) {
        self.note_pressure();
        let queue = self.queues.entry(urgency).or_default();
        queue.push_back((now, waiter));
    }

    /// Who is next: the most urgent, and among those the oldest. But once the oldest has waited for long,
    /// the newest: it still has the time to use an answer.
    pub(super) fn next(&mut self, now: Duration) -> Option<W> {
        let mut queues = self.queues.values_mut().rev();
        let queue = queues.find(|queue| !queue.is_empty())?;
        let (since, _) = queue.front()?;
        let next = if now.saturating_sub(*since) > LONG_WAIT {
            queue.pop_back()
        } else {
            queue.pop_front()
        };
        next.map(|(_, waiter)| waiter)
    }

    pub(super) fn has_free(&self) -> bool {
        self.in_flight.len() < self.limit
    }

    /// Whether a page behind the first one of this fetch may go, beside pages of the same fetch alone.
    pub(super) fn has_free_for_further(&self, fetch: u64) -> bool {
        let is_alone = self.in_flight.iter().all(|other| *other == fetch);
        self.has_free()
            || (is_alone && !self.is_strained && self.in_flight.len() < self.highest_limit())
    }

    pub(super) fn begin(&mut self, fetch: u64) {
        self.in_flight.push(fetch);
        self.note_pressure();
    }

    /// A call has ended, `well` or badly; or it was not made. More at once while Atlas answers well, fewer
    /// when it does not: at first each round of calls may be four times the one before, so that the twenty
    /// pages of the longest list need few rounds; after the first bad answer it is one call more, and a third
    /// less with each bad answer.
    pub(super) fn end(&mut self, fetch: u64, well: Option<bool>) {
        if let Some(at) = self.in_flight.iter().position(|other| *other == fetch) {
            self.in_flight.swap_remove(at);
        }
        let was_pressed = self.pressed > 0;
        self.pressed = self.pressed.saturating_sub(1);
        match well {
            Some(false) => {
                self.is_strained = true;
                self.good = 0;
                self.limit = (self.limit * 2 / 3).max(1);
            }
            Some(true) if was_pressed => {
                self.good += 1;
                if !self.is_strained {
                    self.limit += 3;
                } else if self.good >= self.limit {
                    self.good = 0;
                    self.limit += 1;
                }
                self.limit = self.limit.min(self.highest_limit());
            }
            Some(true) | None => {}
        }
    }

    /// If the limit is reached, what is under way now may raise it.
    fn note_pressure(&mut self) {
        if !self.has_free() {
            self.pressed = self.in_flight.len();
        }
    }

    fn highest_limit(&self) -> usize {
        self.initial.saturating_mul(GROWTH)
    }
}

const LONG_WAIT: Duration = Duration::from_secs(1);
const GROWTH: usize = 5;
