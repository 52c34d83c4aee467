//! One project's lane: calls that ended go in, how many may be under way at once comes out, and who
//! is next. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{SlotRequest, TurnEnded, WalkNumber};
use crate::upstream::answer::Urgency;

/// The calls of one project, under way and waiting.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) under_way: usize,
    pub(super) limit: usize,
    /// How many of the calls under way may raise the limit, because it held others back.
    pressed: usize,
    /// Good answers since the limit last rose; only counted once there was a bad one.
    good: usize,
    strained: bool,
    /// Whose calls are under way.
    walks: Walks,
    /// One queue per urgency, the least urgent first.
    queues: [VecDeque<Waiting>; 3],
}

/// Whose the calls under way are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walks {
    Nobodys,
    One(WalkNumber),
    Several,
}

/// Somebody who waits for a turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) since: Duration,
    pub(super) walk: WalkNumber,
    pub(super) leave: oneshot::Sender<()>,
}

impl Lane {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            under_way: 0,
            limit,
            pressed: 0,
            good: 0,
            strained: false,
            walks: Walks::Nobodys,
            queues: Default::default(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub(super) fn queue(&mut self, urgency: Urgency) -> &mut VecDeque<Waiting> {
        let [ahead, revalidate, miss] = &mut self.queues;
        match urgency {
            Urgency::RefreshAhead => ahead,
            Urgency::Revalidate => revalidate,
            Urgency::Miss => miss,
        }
    }

    /// Who is next: the most urgent, and among those the oldest. But once the oldest has waited for
    /// long, the newest: it still has the time to use an answer.
    pub(super) fn next(&mut self, now: Duration) -> Option<Waiting> {
        let queue = self
            .queues
            .iter_mut()
            .rev()
            .find(|queue| !queue.is_empty())?;
        let waited = now.saturating_sub(queue.front()?.since);
        if waited > LONG_WAIT {
            queue.pop_back()
        } else {
            queue.pop_front()
        }
    }

    /// Whether one more call may be under way. Nobody waits.
    pub(super) fn has_room(&self, request: SlotRequest, to_begin_with: usize) -> bool {
        let alone = match self.walks {
            Walks::Nobodys => true,
            Walks::One(walk) => walk == request.walk,
            Walks::Several => false,
        };
        let limit = if request.further && alone && !self.strained {
            most(to_begin_with)
        } else {
            self.limit
        };
        self.under_way < limit
    }

    pub(super) fn grant(&mut self, walk: WalkNumber) {
        self.under_way += 1;
        self.walks = match self.walks {
            Walks::Nobodys => Walks::One(walk),
            Walks::One(only) if only == walk => self.walks,
            Walks::One(_) | Walks::Several => Walks::Several,
        };
        self.press();
    }

    /// A call has ended.
    pub(super) fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 {
            self.walks = Walks::Nobodys;
        }
    }

    /// Notes that the limit is reached: what is under way now may raise it.
    pub(super) fn press(&mut self) {
        if self.under_way >= self.limit {
            self.pressed = self.under_way;
        }
    }

    /// More at once while Atlas answers well, fewer when it does not. At first each round of calls may
    /// be four times the one before, so that the twenty pages of the longest list need few rounds;
    /// after the first bad answer it is one call more, and a third less with each bad answer.
    pub(super) fn learn(&mut self, ended: Option<TurnEnded>, to_begin_with: usize) {
        let pressed = self.pressed > 0;
        self.pressed = self.pressed.saturating_sub(1);
        match ended {
            Some(TurnEnded::Strained) => {
                self.strained = true;
                self.good = 0;
                self.limit = (self.limit * 2 / 3).max(1);
            }
            Some(TurnEnded::Well) if pressed => {
                self.good += 1;
                if !self.strained {
                    self.limit += 3;
                } else if self.good >= self.limit {
                    self.good = 0;
                    self.limit += 1;
                }
                self.limit = self.limit.min(most(to_begin_with));
            }
            Some(TurnEnded::Well) | None => {}
        }
    }
}

/// The most calls of one project that are ever under way.
fn most(to_begin_with: usize) -> usize {
    to_begin_with.saturating_mul(GROWTH)
}

const LONG_WAIT: Duration = Duration::from_secs(1);
const GROWTH: usize = 5;
