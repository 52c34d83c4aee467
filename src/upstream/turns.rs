//! Turns: projects that want to call go in, leave to call comes out, to one after the other.
//!
//! So many calls are under way in all, and so many for one project; the latter number moves with how
//! well Atlas answers that project. Whoever has to wait stands in its project's queue, and the projects
//! take turns, so that a project with many callers, or with slow answers, delays its own and not those
//! of others (G23).
//!
//! The pages of one list need not wait for that number to grow while nobody else wants anything of the
//! project, and Atlas has never yet answered it badly: they all go at once, up to the most that it could
//! grow to. Its first page has just been answered well, and it is one caller's question.

mod lane;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use super::answer::Urgency;
use super::config::Limits;
use crate::atlas::ProjectId;
use crate::clock::Clock;
use lane::Lane;
use lane::Waiting;

/// Hands out turns. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    shared: Arc<Shared>,
}

/// Leave to make one call now. Dropping it passes the turn on.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    project: ProjectId,
    ended: Option<TurnEnded>,
}

/// Whose call it is, and how much it matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) project: ProjectId,
    pub(crate) urgency: Urgency,
    pub(crate) walk: WalkNumber,
    /// Whether this is a page behind the first one.
    pub(crate) further: bool,
}

/// Which walk a call belongs to; each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkNumber(u64);

/// How the call of a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnEnded {
    /// Late, broken or with a server's error: fewer at once.
    Strained,
    /// With an answer: more at once.
    Well,
}

/// Too many are waiting, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

#[derive(Debug)]
struct Shared {
    clock: Clock,
    rules: Rules,
    lanes: Mutex<Lanes>,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    in_all: usize,
    to_begin_with: usize,
    queue: usize,
    wait: Duration,
}

#[derive(Debug, Default)]
struct Lanes {
    walks: u64,
    under_way: usize,
    projects: HashMap<ProjectId, Lane>,
    /// The projects in which somebody waits, in the order of their turns.
    waiting: VecDeque<ProjectId>,
}

impl Turns {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        let rules = Rules {
            in_all: limits.concurrency,
            to_begin_with: limits.concurrency_per_project,
            queue: limits.queue,
            wait: limits.queue_wait,
        };
        Self {
            shared: Arc::new(Shared {
                clock,
                rules,
                lanes: Mutex::default(),
            }),
        }
    }

    /// A number for a new walk.
    pub(crate) fn walk(&self) -> WalkNumber {
        let mut lanes = self.shared.lanes();
        lanes.walks += 1;
        WalkNumber(lanes.walks)
    }

    /// Waits for a turn of a project.
    pub(crate) async fn take(&self, wish: Wish) -> Result<Turn, Busy> {
        let shared = &self.shared;
        let project = wish.project;
        let leave = match shared.ask(wish)? {
            Asked::Granted => return Ok(shared.turn(project)),
            Asked::Queued(leave) => leave,
        };
        let mut place = Place {
            shared,
            project,
            leave: Some(leave),
        };
        let Some(leave) = place.leave.as_mut() else {
            return Err(Busy);
        };
        let granted = shared.clock.timeout(shared.rules.wait, leave).await;
        if matches!(granted, Ok(Ok(()))) {
            place.leave = None;
            return Ok(shared.turn(project));
        }
        Err(Busy)
    }
}

/// A place in a queue. When it is left while a turn is on its way, the turn is passed on.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    project: ProjectId,
    leave: Option<oneshot::Receiver<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(mut leave) = self.leave.take() {
            leave.close();
            if leave.try_recv().is_ok() {
                drop(self.shared.turn(self.project));
            }
        }
    }
}

enum Asked {
    Granted,
    Queued(oneshot::Receiver<()>),
}

impl Shared {
    fn ask(&self, wish: Wish) -> Result<Asked, Busy> {
        let Wish {
            project, urgency, ..
        } = wish;
        let now = self.clock.now().elapsed;
        let mut lanes = self.lanes();
        let free = lanes.under_way < self.rules.in_all;
        let lane = lanes
            .projects
            .entry(project)
            .or_insert_with(|| Lane::new(self.rules.to_begin_with));
        let nobody_waits = lane.waiting() == 0;
        if free && nobody_waits && lane.has_room(wish, self.rules.to_begin_with) {
            lane.grant(wish.walk);
            lanes.under_way += 1;
            return Ok(Asked::Granted);
        }
        if lane.waiting() >= self.rules.queue {
            return Err(Busy);
        }
        let (leave, granted) = oneshot::channel();
        lane.press();
        let waiting = Waiting {
            since: now,
            walk: wish.walk,
            leave,
        };
        lane.queue(urgency).push_back(waiting);
        if nobody_waits {
            lanes.waiting.push_back(project);
        }
        Ok(Asked::Queued(granted))
    }

    fn turn(self: &Arc<Self>, project: ProjectId) -> Turn {
        Turn {
            shared: Arc::clone(self),
            project,
            ended: None,
        }
    }

    fn give_back(&self, project: ProjectId, ended: Option<TurnEnded>) {
        let now = self.clock.now().elapsed;
        let mut lanes = self.lanes();
        lanes.under_way = lanes.under_way.saturating_sub(1);
        if let Some(lane) = lanes.projects.get_mut(&project) {
            lane.ended();
            lane.learn(ended, self.rules.to_begin_with);
        }
        lanes.pass_on(self.rules.in_all, now);
        if lanes.projects.len() > MOST_LANES {
            lanes
                .projects
                .retain(|_, lane| lane.under_way > 0 || lane.waiting() > 0);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Gives turns to those who wait, one project after the other, as long as there are any.
    fn pass_on(&mut self, in_all: usize, now: Duration) {
        let mut passed_over = 0;
        while self.under_way < in_all && passed_over < self.waiting.len() {
            let Some(project) = self.waiting.pop_front() else {
                return;
            };
            let Some(lane) = self.projects.get_mut(&project) else {
                continue;
            };
            let mut granted = None;
            while granted.is_none() && lane.under_way < lane.limit {
                match lane.next(now) {
                    // Whoever has stopped waiting is passed over.
                    Some(Waiting { leave, walk, .. }) => {
                        granted = leave.send(()).is_ok().then_some(walk);
                    }
                    None => break,
                }
            }
            if let Some(walk) = granted {
                lane.grant(walk);
                self.under_way += 1;
                passed_over = 0;
            } else {
                passed_over += 1;
            }
            if lane.waiting() > 0 {
                self.waiting.push_back(project);
            }
        }
    }
}

impl Turn {
    /// Writes down how the call went, and passes the turn on.
    pub(crate) fn ended(mut self, how: TurnEnded) {
        self.ended = Some(how);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.give_back(self.project, self.ended);
    }
}

const MOST_LANES: usize = 10_000;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::clock::Hands;

    fn turns(in_all: usize, per_project: usize, queue: usize) -> (Turns, Hands) {
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(0));
        let limits = Limits {
            concurrency: in_all,
            concurrency_per_project: per_project,
            queue,
            ..Limits::default()
        };
        (Turns::new(&limits, clock), hands)
    }

    fn project(digit: char) -> ProjectId {
        digit.to_string().repeat(24).parse().unwrap()
    }

    /// A first page, of a walk that has no other calls.
    fn wish(project: ProjectId, urgency: Urgency) -> Wish {
        Wish {
            project,
            urgency,
            walk: WalkNumber(0),
            further: false,
        }
    }

    #[tokio::test]
    async fn projects_take_turns_however_many_of_one_are_waiting() {
        let (turns, _hands) = turns(1, 4, 100);
        let held = turns.take(wish(project('a'), Urgency::Miss)).await.unwrap();
        let order = Mutex::new(String::new());
        let ask = |name: char| {
            let (turns, order) = (&turns, &order);
            async move {
                let turn = turns
                    .take(wish(project(name), Urgency::Miss))
                    .await
                    .unwrap();
                order.lock().unwrap().push(name);
                drop(turn);
            }
        };
        let waiting = join_all("aaaaabc".chars().map(ask));
        let release = async { drop(held) };
        tokio::join!(waiting, release);
        assert_eq!(*order.lock().unwrap(), "abcaaaa");
    }

    #[tokio::test]
    async fn the_more_urgent_goes_first() {
        let (turns, _hands) = turns(1, 1, 100);
        let held = turns.take(wish(project('a'), Urgency::Miss)).await.unwrap();
        let order = Mutex::new(Vec::new());
        let ask = |urgency| {
            let (turns, order) = (&turns, &order);
            async move {
                let _turn = turns.take(wish(project('a'), urgency)).await.unwrap();
                order.lock().unwrap().push(urgency);
            }
        };
        let waiting =
            join_all([Urgency::RefreshAhead, Urgency::Revalidate, Urgency::Miss].map(ask));
        tokio::join!(waiting, async { drop(held) });
        let expected = [Urgency::Miss, Urgency::Revalidate, Urgency::RefreshAhead];
        assert_eq!(*order.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn whoever_cannot_wait_in_the_queue_or_has_waited_too_long_is_told_so() {
        let (turns, hands) = turns(1, 1, 1);
        let _held = turns.take(wish(project('a'), Urgency::Miss)).await.unwrap();
        let mut waiting = Box::pin(turns.take(wish(project('a'), Urgency::Miss)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(
            turns
                .take(wish(project('a'), Urgency::Miss))
                .await
                .unwrap_err(),
            Busy
        );
        hands.advance(Duration::from_secs(5));
        assert_eq!(waiting.await.unwrap_err(), Busy);
    }

    #[tokio::test]
    async fn a_turn_that_reaches_someone_who_has_left_is_passed_on() {
        let (turns, _hands) = turns(1, 1, 10);
        let held = turns.take(wish(project('a'), Urgency::Miss)).await.unwrap();
        let mut leaves_early = Box::pin(turns.take(wish(project('a'), Urgency::Miss)));
        let mut leaves_late = Box::pin(turns.take(wish(project('a'), Urgency::Miss)));
        let mut stays = Box::pin(turns.take(wish(project('a'), Urgency::Miss)));
        for waiting in [&mut leaves_early, &mut leaves_late, &mut stays] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        drop(leaves_early);
        drop(held);
        // The turn is on its way to the second when that one leaves.
        drop(leaves_late);
        assert!(stays.now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn more_at_once_while_it_goes_well_and_fewer_when_it_does_not() {
        let (turns, _hands) = turns(100, 4, 100);
        let round = |how| {
            let turns = &turns;
            async move {
                let mut held = Vec::new();
                while let Some(turn) = turns.take(wish(project('a'), Urgency::Miss)).now_or_never()
                {
                    held.push(turn.unwrap());
                }
                let at_once = held.len();
                held.drain(..).for_each(|turn| turn.ended(how));
                at_once
            }
        };
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(round(TurnEnded::Well).await);
        }
        assert_eq!(seen, [4, 16, 20, 20]);
        round(TurnEnded::Strained).await;
        assert_eq!(round(TurnEnded::Well).await, 1);
    }

    #[tokio::test]
    async fn the_pages_of_one_list_go_at_once_while_nobody_else_wants_anything_of_the_project() {
        let further = |walk: u64| Wish {
            walk: WalkNumber(walk),
            further: true,
            ..wish(project('a'), Urgency::Miss)
        };
        let at_once = |turns: &Turns, walk: u64| {
            let mut held = Vec::new();
            while let Some(turn) = turns.take(further(walk)).now_or_never() {
                held.push(turn.unwrap());
            }
            held
        };
        let (alone, _hands) = turns(100, 4, 100);
        let pages = at_once(&alone, 1);
        assert_eq!(pages.len(), 20);
        // Nor does another list when they have ended well.
        for page in pages {
            page.ended(TurnEnded::Well);
        }
        assert_eq!(at_once(&alone, 2).len(), 20);
        let (shared, _hands) = turns(100, 4, 100);
        let other = shared.take(further(1)).await.unwrap();
        assert_eq!(at_once(&shared, 2).len(), 3);
        drop(other);
        let (strained, _hands) = turns(100, 4, 100);
        let bad = strained.take(further(1)).await.unwrap();
        bad.ended(TurnEnded::Strained);
        assert_eq!(at_once(&strained, 2).len(), 2);
        let (full, _hands) = turns(10, 4, 100);
        assert_eq!(at_once(&full, 1).len(), 10);
    }
}
