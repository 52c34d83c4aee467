//! A plan goes in, the trail of that time is written by the gateway's own writer and packed and removed by
//! its own retention, and what has to be in it comes out. Only time is moved.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::audit::{
    Arrival, Audit, CacheUse, Closing, Config, FetchRecord, Outcome, Refused, Ticket,
};
use atlas_cert_gateway::system::{Clock, ManualClock, Moment};
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use uuid::Uuid;

use crate::site::{ASKERS, Site};

/// What is to be written, and which part of it is counted apart.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) span: Duration,
    /// Counted from the beginning.
    pub(crate) window: [Duration; 2],
    /// The time at the end whose records are counted.
    pub(crate) recent: Duration,
    /// Others are drawn for another seed.
    pub(crate) seed: u64,
    /// So much of each day of 24 hours has lookups, of which the span is made up; then the clock jumps.
    pub(crate) busy: Duration,
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Records of lookups.
    pub(crate) lookups: u64,
    pub(crate) fetches: u64,
    /// Lookups that have no record of their own.
    pub(crate) folded: u64,
    /// Of the lookups, those in the window.
    pub(crate) in_window: u64,
    /// Those of the last time.
    pub(crate) recent: u64,
    /// Those of [`RARE`].
    pub(crate) of_one: u64,
    pub(crate) packed: u64,
    pub(crate) removed: u64,
    /// The most that the directory held, in bytes.
    pub(crate) most_bytes: u64,
    pub(crate) took: Duration,
}

struct Generator<'p> {
    plan: &'p Plan,
    audit: Audit,
    clock: Clock,
    manual_clock: ManualClock,
    site: Site,
    tickets: Vec<Ticket>,
    written: Written,
}

impl Plan {
    /// An hour, or what stands for one where all is short.
    pub(crate) fn hour(&self) -> Duration {
        HOUR.min(self.span / 6)
    }
}

/// Writes the trail. `each_hour` is called with the time at the end of each hour.
pub(crate) async fn write(plan: &Plan, mut each_hour: impl FnMut(Timestamp)) -> Written {
    let began = Clock::system();
    let (clock, manual_clock) = Clock::manual(START);
    let metrics = AuditMetrics::default();
    let audit = Audit::open(&plan.config, "gateway-1", clock.clone(), metrics.clone()).unwrap();
    let mut generator = Generator {
        plan,
        audit,
        clock,
        manual_clock,
        site: Site::new(plan.seed),
        tickets: Vec::new(),
        written: Written::default(),
    };
    let steps = plan.span.as_micros() / STEP.as_micros();
    for step in 1..=steps {
        generator.step(step).await;
        if step.is_multiple_of(if plan.span < HOUR { 6 } else { 360 }) {
            generator.wait_for_retention().await;
        }
        if step.is_multiple_of(plan.hour().as_micros() / STEP.as_micros()) {
            each_hour(generator.clock.now().wall);
            generator.site.turn_over();
        }
        if step.is_multiple_of(plan.busy.as_micros() / STEP.as_micros()) {
            generator.jump().await;
        }
    }
    generator.settle().await;
    let mut written = generator.written;
    generator.audit.close().await;
    written.packed = metrics.retention.files_packed.get();
    written.removed = metrics.retention.files_removed.get();
    assert_eq!(metrics.retention.failures.get(), 0);
    assert_eq!(metrics.records_failed.get(), 0);
    written.took = began.elapsed();
    written
}

impl Generator<'_> {
    /// What comes within a step is dated before it is over, and on record when it is.
    async fn step(&mut self, step: u128) {
        let now = self.clock.now();
        for number in 0..PER_STEP {
            let offset = u64::try_from(STEP.as_micros()).unwrap() * number / PER_STEP;
            let drawn = self.site.draw();
            let offset = Duration::from_micros(offset + (drawn >> 49));
            self.look_up(now.at(now.elapsed + offset), drawn);
        }
        // A caller's rule was taken away, and it asks all the more.
        if step % 4_000 == 300 {
            for _ in 0..150 {
                let drawn = self.site.draw();
                self.refuse(now, 0, drawn, DENIED);
            }
        }
        for ticket in self.tickets.drain(..) {
            ticket.await.unwrap();
        }
        self.manual_clock.advance(STEP);
    }

    fn look_up(&mut self, at: Moment, drawn: u64) {
        let (asker, user) = self.site.pair(drawn);
        let kind = (drawn >> 32) % 1_000;
        match kind {
            0..10 => return self.refuse(at, asker, drawn, DENIED),
            10..13 => return self.refuse(at, asker, drawn, UNKNOWN),
            _ => (),
        }
        let hit = self.fill(at, user, drawn);
        let user = &self.site.users[user];
        let (fill_id, filled) = user.filled.unwrap();
        let age = Duration::from_micros(micros(at).saturating_sub(filled));
        let (status, error_code, cache) = match (user.certificates, hit) {
            (None, true) => (404, Some("USER_NOT_FOUND"), CacheUse::Negative),
            (None, false) => (404, Some("USER_NOT_FOUND"), CacheUse::Miss),
            (Some(_), true) if kind < 100 => (304, None, CacheUse::Hit),
            (Some(_), true) => (200, None, CacheUse::Hit),
            (Some(_), false) => (200, None, CacheUse::Miss),
        };
        let pages = pages(user.certificates);
        let closing = Closing {
            outcome: Outcome::Answered,
            status,
            error_code,
            cache,
            fill_id: Some(fill_id),
            age: Some(age),
            certificates: user.certificates,
            list: user.certificates.map(|_| user.list),
            upstream_calls: if hit { 0 } else { pages },
            ..Closing::abandoned(at)
        };
        let by = &self.site.askers[asker];
        let mut entry = self.audit.entry(Arrival {
            request_id: id_at(at, drawn).into(),
            origin: Cow::Borrowed(&by.origin),
            at: at.at(at.elapsed.saturating_sub(took(hit, drawn))),
            caller_request_id: None,
        });
        entry.set_query(&user.query);
        entry.set_caller(&by.caller);
        entry.set_rule(Some(&by.rule));
        self.tickets.push(entry.submit(&closing).unwrap());
        self.count(at, asker);
    }

    /// Says whether the list is in memory; if not, it is fetched.
    fn fill(&mut self, at: Moment, user: usize, drawn: u64) -> bool {
        let user = &mut self.site.users[user];
        let before = user.filled;
        if before.is_some_and(|(_, filled)| micros(at) < filled + TTL) {
            return true;
        }
        let fill_id = id_at(at, drawn.rotate_left(17));
        user.filled = Some((fill_id, micros(at)));
        let changes = (drawn >> 40).is_multiple_of(64);
        if changes {
            user.change(drawn);
        }
        let serial = [i64::try_from(drawn >> 1).unwrap_or(i64::MAX)];
        self.written.fetches += 1;
        self.audit.record_fetch(&FetchRecord {
            fill_id,
            query: &user.query,
            outcome: Outcome::Answered,
            credential: "main",
            status: Some(if user.certificates.is_some() {
                200
            } else {
                404
            }),
            error_code: None,
            pages: pages(user.certificates),
            upstream_calls: pages(user.certificates),
            certificates: user.certificates,
            list: user.certificates.map(|_| user.list),
            before: before.map(|(id, _)| id),
            appeared: if changes { &serial } else { &[] },
            vanished: &[],
            expired: &[],
            duration: took(false, drawn),
            now: at,
        });
        false
    }

    fn refuse(&mut self, at: Moment, asker: usize, drawn: u64, what: Refusal) {
        let by = &self.site.askers[asker];
        let (_, user) = self.site.pair(drawn);
        let mut entry = self.audit.entry(Arrival {
            request_id: id_at(at, drawn).into(),
            origin: Cow::Borrowed(&by.origin),
            at: at.at(at.elapsed.saturating_sub(took(true, drawn))),
            caller_request_id: None,
        });
        entry.set_query(&self.site.users[user].query);
        if what.outcome == Outcome::Denied {
            entry.set_caller(&by.caller);
        }
        let closing = Closing {
            outcome: what.outcome,
            status: what.status,
            error_code: Some(what.code),
            reason: Some(what.reason),
            ..Closing::abandoned(at)
        };
        if entry.refuse(&closing) != Refused::OnItsOwn {
            self.written.folded += 1;
            return;
        }
        self.tickets.push(entry.submit(&closing).unwrap());
        let is_known = what.outcome == Outcome::Denied;
        self.count(at, if is_known { asker } else { usize::MAX });
    }

    fn count(&mut self, at: Moment, asker: usize) {
        let [since, until] = self.plan.window;
        self.written.lookups += 1;
        let passed = at.wall.since(START);
        let is_in_window = passed >= since && passed < until;
        let is_recent = passed + self.plan.recent >= self.plan.span;
        self.written.in_window += u64::from(is_in_window);
        self.written.recent += u64::from(is_recent);
        self.written.of_one += u64::from(asker == RARE);
    }

    /// To the next day.
    async fn jump(&mut self) {
        let night = DAY.saturating_sub(self.plan.busy);
        if !night.is_zero() {
            // A record of the gateway's own that is being written now would be late.
            Clock::system().sleep(Duration::from_millis(20)).await;
            self.manual_clock.advance(night);
        }
    }

    /// A month passes in minutes here, and packing must not fall behind more than it would.
    async fn wait_for_retention(&mut self) {
        if !self.plan.config.compress {
            return;
        }
        let (bytes, unpacked) = measure(&self.plan.config.directory);
        self.written.most_bytes = self.written.most_bytes.max(bytes);
        let behind = unpacked.saturating_sub(MOST_UNPACKED);
        let pause = Duration::from_millis(100) * u32::try_from(behind.min(10)).unwrap();
        Clock::system().sleep(pause).await;
    }

    /// Until nothing is being packed.
    async fn settle(&self) {
        let directory = &self.plan.config.directory;
        let is_packing = || {
            let mut names = fs::read_dir(directory).unwrap();
            names.any(|name| name.unwrap().path().to_string_lossy().ends_with(".part"))
        };
        for _ in 0..2 {
            Clock::system().sleep(Duration::from_millis(100)).await;
            while is_packing() {
                Clock::system().sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How much the files of a directory take, and how many of the journal's are not packed.
pub(crate) fn measure(directory: &Path) -> (u64, u64) {
    let (mut bytes, mut unpacked) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        // One that has been packed meanwhile takes nothing.
        bytes += entry.metadata().map_or(0, |it| it.len());
        let name = entry.file_name();
        let name = name.to_string_lossy();
        unpacked += u64::from(name.starts_with("lookups-") && name.ends_with(".jsonl"));
    }
    (bytes, unpacked)
}

#[derive(Clone, Copy)]
struct Refusal {
    outcome: Outcome,
    status: u16,
    code: &'static str,
    reason: &'static str,
}

const DENIED: Refusal = Refusal {
    outcome: Outcome::Denied,
    status: 403,
    code: "ACCESS_FORBIDDEN",
    reason: "no rule grants it",
};

const UNKNOWN: Refusal = Refusal {
    outcome: Outcome::Unauthenticated,
    status: 401,
    code: "UNAUTHORIZED",
    reason: "the token has expired",
};

fn pages(certificates: Option<u64>) -> u32 {
    u32::try_from(certificates.unwrap_or_default().div_ceil(500).max(1)).unwrap()
}

fn took(hit: bool, drawn: u64) -> Duration {
    let spread = drawn >> 55;
    Duration::from_micros(if hit {
        35 + spread
    } else {
        48_000 + 40 * spread
    })
}

fn micros(at: Moment) -> u64 {
    at.elapsed.as_micros().try_into().unwrap()
}

/// A version 7 id of this moment.
fn id_at(at: Moment, drawn: u64) -> Uuid {
    let millis = u64::try_from(at.wall.micros() / 1_000).unwrap();
    let low = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2 | 1 << 63;
    Uuid::from_u64_pair(millis << 16 | 7 << 12 | drawn >> 52, low)
}

/// 2026-08-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_785_542_400);
/// A caller that seldom asks.
pub(crate) const RARE: usize = ASKERS - 1;
/// Less than the second for which a record may wait: a record that the gateway makes itself may have begun the
/// batch before the clock was moved.
const STEP: Duration = Duration::from_millis(800);
/// Twenty lookups a second.
const PER_STEP: u64 = 16;
const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
/// In microseconds.
const TTL: u64 = 300_000_000;
const MOST_UNPACKED: u64 = 6;
