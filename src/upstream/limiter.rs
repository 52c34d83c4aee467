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
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use tokio::sync::oneshot;

use super::answer::Urgency;
use super::config::Limits;
use crate::atlas::ProjectId;
use crate::system::Clock;
use lane::{Lane, Waiting};

/// Hands out turns. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyLimiter {
    shared: Arc<Shared>,
}

/// Leave to make one call now. Dropping it passes the turn on.
#[derive(Debug)]
pub(crate) struct CallSlot {
    shared: Arc<Shared>,
    project: ProjectId,
    ended: Option<TurnEnded>,
}

/// Whose call it is, and how much it matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRequest {
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
    projects: HashMap<ProjectId, Lane, RandomState>,
    /// The projects in which somebody waits, in the order of their turns.
    waiting: VecDeque<ProjectId>,
}

impl ConcurrencyLimiter {
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
    pub(crate) async fn take(&self, request: SlotRequest) -> Result<CallSlot, Busy> {
        let shared = &self.shared;
        let project = request.project;
        let leave = match shared.ask(request)? {
            Asked::Granted => return Ok(shared.slot(project)),
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
            return Ok(shared.slot(project));
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
                drop(self.shared.slot(self.project));
            }
        }
    }
}

enum Asked {
    Granted,
    Queued(oneshot::Receiver<()>),
}

impl Shared {
    fn ask(&self, request: SlotRequest) -> Result<Asked, Busy> {
        let SlotRequest {
            project, urgency, ..
        } = request;
        let mut lanes = self.lanes();
        let free = lanes.under_way < self.rules.in_all;
        let lane = lanes
            .projects
            .entry(project)
            .or_insert_with(|| Lane::new(self.rules.to_begin_with));
        let nobody_waits = lane.waiting() == 0;
        if free && nobody_waits && lane.has_room(request, self.rules.to_begin_with) {
            lane.grant(request.walk);
            lanes.under_way += 1;
            return Ok(Asked::Granted);
        }
        if lane.waiting() >= self.rules.queue {
            return Err(Busy);
        }
        let (leave, granted) = oneshot::channel();
        lane.press();
        let waiting = Waiting {
            since: self.clock.elapsed(),
            walk: request.walk,
            leave,
        };
        lane.queue(urgency).push_back(waiting);
        if nobody_waits {
            lanes.waiting.push_back(project);
        }
        Ok(Asked::Queued(granted))
    }

    fn slot(self: &Arc<Self>, project: ProjectId) -> CallSlot {
        CallSlot {
            shared: Arc::clone(self),
            project,
            ended: None,
        }
    }

    fn give_back(&self, project: ProjectId, ended: Option<TurnEnded>) {
        let mut lanes = self.lanes();
        lanes.under_way = lanes.under_way.saturating_sub(1);
        if let Some(lane) = lanes.projects.get_mut(&project) {
            lane.ended();
            lane.learn(ended, self.rules.to_begin_with);
        }
        if !lanes.waiting.is_empty() {
            lanes.pass_on(self.rules.in_all, self.clock.elapsed());
        }
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

impl CallSlot {
    /// Writes down how the call went, and passes the turn on.
    pub(crate) fn ended(mut self, how: TurnEnded) {
        self.ended = Some(how);
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.shared.give_back(self.project, self.ended);
    }
}

const MOST_LANES: usize = 10_000;
