//! What a day of lookups costs Atlas.
//!
//! `cargo bench --bench savings` replays a day on an injected clock: lookups of 5,000 users of twenty
//! projects, a few of them often and most of them rarely (Zipf), rollouts in which sixty pods ask for the
//! same list at once, forced refreshes, certificates that are issued and revoked, and ten minutes in which
//! Atlas answers 503. The gateway and the simulated Atlas are real and talk over sockets; only time is
//! moved. `-- --test` replays twenty minutes.
//!
//! Printed are the calls that reached Atlas, beside what others would have made of the same day:
//!
//! - no cache: one call for each lookup;
//! - a plain cache: one call for each lookup that finds nothing younger than `ttl`, and so one for each of
//!   sixty pods;
//! - the least: knowing the future, a call only where a lookup needs it and nothing younger than `ttl` is
//!   there, none while Atlas is ill, one for sixty pods.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot be set up has nothing to measure; the tests' harness is part of it"
)]

#[path = "savings/day.rs"]
mod day;
#[path = "savings/others.rs"]
mod others;
#[path = "../tests/harness/mod.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod harness;

use std::env;
use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::Timestamp;
use atlas_simulator::{Asked, Fault, Planted};
use day::{Day, Event, What};
use futures_util::future::join_all;
use harness::client::Connection;
use harness::world::{NOW, World, certs, set, set_rule, token_at};
use others::Others;
use serde_json::json;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let day = if is_test {
        Day::new(Duration::from_mins(20), 2_000, 20)
    } else {
        Day::new(Duration::from_hours(24), 400_000, 5_000)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seen = runtime.block_on(replay(&day));
    let others = Others::of(&day, TTL);
    let calls = |name: &str, calls: usize| {
        let number = |count: usize| f64::from(u32::try_from(count).unwrap());
        let ratio = number(seen.calls) / number(calls);
        println!("{name:<38} {calls:>8}   {ratio:>6.3}");
    };
    println!("{} lookups, of which {} failed", seen.lookups, seen.failed);
    println!("{:<38} {:>8}   gateway ÷ it", "calls to Atlas", "");
    calls("no cache", others.uncached);
    calls("a plain cache, without coalescing", others.plain);
    calls("the least, knowing the future", others.least);
    calls("this gateway", seen.calls);
    println!(
        "the emptiest bucket went down to {} of 1200 calls; {} are issuing's",
        seen.lowest, RESERVE
    );
    assert!(
        seen.lowest >= RESERVE,
        "calls were taken out of the reserve"
    );
    seen.account();
    if !is_test {
        assert!(20 * seen.calls <= others.uncached, "more than a twentieth");
        assert!(100 * seen.calls <= 105 * others.least, "more than 1.05");
    }
}

/// What was seen of the gateway.
struct Seen {
    lookups: usize,
    failed: usize,
    calls: usize,
    /// The fewest calls that were left to a project.
    lowest: u64,
    /// What the answers themselves say, and what the metrics say of them.
    answers: Account,
    metrics: Account,
    /// Calls that no caller waited for.
    ahead: usize,
    /// Calls that were made again, also where no caller waited.
    retries: usize,
}

/// What lookups would have cost, what they did cost, and what was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    would_have_cost: usize,
    saved: usize,
    /// All calls, those for lookups that failed included.
    calls: usize,
}

impl Seen {
    /// Holds the metrics against the answers and against what Atlas has counted.
    fn account(&self) {
        let Account {
            would_have_cost,
            saved,
            calls,
        } = self.metrics;
        println!(
            "by the metrics: {would_have_cost} calls without the gateway, {saved} saved, {calls} made, {} of \
             them ahead of time",
            self.ahead
        );
        assert_eq!(calls, self.calls, "Atlas has counted others");
        // What is renewed ahead of time is tried again, too, and no answer says so.
        let unasked = calls - self.answers.calls - self.ahead;
        assert!(unasked <= self.retries, "{unasked} calls of no caller");
        let answers = Account {
            calls,
            ..self.answers
        };
        assert_eq!(self.metrics, answers, "the answers say something else");
    }
}

/// The gateway through the day.
struct Replay {
    world: World,
    callers: Vec<Connection>,
    operators: Connection,
    now: Duration,
    token: String,
    operator: String,
    token_made: Duration,
    known_calls: usize,
    seen: Seen,
}

async fn replay(day: &Day) -> Seen {
    let world = World::with(|plan| {
        set(&mut plan.config, "cache.ttl", "5m");
        set_rule(plan, 0, "projects", vec!["*"]);
        let mut projects = atlas_simulator::World::new((plan.atlas.now)());
        for user in 0..day::USERS {
            let mut project = projects.project(&project_of(user));
            project.user(&name_of(user)).certificates(2);
        }
        plan.atlas.world = projects;
        plan.atlas.keep_requests = 1;
    })
    .await;
    let callers = open_all(&world, 60).await;
    let operators = Connection::open(world.app.admin_address()).await;
    let mut replay = Replay {
        callers,
        operators,
        now: Duration::ZERO,
        token: String::new(),
        operator: String::new(),
        token_made: Duration::MAX,
        known_calls: 0,
        seen: Seen {
            lookups: 0,
            failed: 0,
            calls: 0,
            lowest: u64::MAX,
            answers: Account::default(),
            metrics: Account::default(),
            ahead: 0,
            retries: 0,
        },
        world,
    };
    let mut ill: Option<Planted> = None;
    for event in &day.events {
        replay.until(event.at).await;
        match event.what {
            What::Fall => {
                let fault = Fault::api_error(503, "SERVICE_UNAVAILABLE", "Not now.");
                ill = Some(replay.world.atlas.on(Asked::certificates()).respond(fault));
            }
            What::Recover => {
                if let Some(fault) = ill.take() {
                    fault.withdraw();
                }
            }
            What::Issue | What::Revoke => replay.change(event),
            What::Lookup { pods, forced } => replay.ask(event.user, pods, forced).await,
        }
    }
    replay.seen.calls = replay.world.atlas.certificate_calls();
    replay.read_metrics().await;
    replay.seen
}

impl Replay {
    /// Lets time pass, not so much at once that what is under way would seem to take long.
    async fn until(&mut self, at: Duration) {
        while self.now < at {
            let step = at.saturating_sub(self.now).min(STEP);
            self.now += step;
            self.world.advance(step);
            // What has its time begins.
            tokio::task::yield_now().await;
        }
        if self.now.saturating_sub(self.token_made) > Duration::from_hours(1)
            || self.token_made == Duration::MAX
        {
            self.token_made = self.now;
            let seconds = i64::try_from(self.now.as_secs()).unwrap();
            let now = Timestamp::parse(NOW).unwrap().seconds() + seconds;
            self.token = token_at(now, &json!({"sub": "payments-api"}));
            self.operator = token_at(now, &json!({"sub": "operator"}));
        }
    }

    /// Waits until no fetch is under way.
    async fn settle(&mut self) {
        self.operators_get("/healthz").await;
        while self.world.atlas.certificate_calls() > self.known_calls {
            let page = self.operators_get("/metrics").await;
            let under_way = page
                .lines()
                .find_map(|line| line.strip_prefix("atlas_cert_gateway_cache_fetches_in_flight "))
                .unwrap();
            if under_way == "0" {
                self.known_calls = self.world.atlas.certificate_calls();
            } else {
                // A retry waits for the clock.
                self.world.advance(Duration::from_millis(1));
            }
        }
    }

    async fn operators_get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        loop {
            self.operators.send(request.as_bytes()).await;
            let reply = self.operators.reply(false).await;
            if reply.status == 200 {
                return reply.text();
            }
            assert_eq!(reply.status, 0, "{}", reply.text());
            self.operators = Connection::open(self.world.app.admin_address()).await;
        }
    }

    /// What the gateway itself says of the day.
    async fn read_metrics(&mut self) {
        let page = self.operators_get("/metrics").await;
        let count = |name: &str| -> usize {
            let series = page.lines().filter_map(|line| {
                let line = line.strip_prefix("atlas_cert_gateway_")?;
                let value = line.strip_prefix(name)?.rsplit(' ').next()?;
                value.parse::<usize>().ok()
            });
            series.sum()
        };
        self.seen.metrics = Account {
            would_have_cost: count("lookups_would_have_cost_total "),
            saved: count("upstream_calls_saved_total "),
            calls: count("upstream_calls_by_cause_total{"),
        };
        self.seen.retries = count("upstream_calls_by_cause_total{cause=\"retry\"} ");
        self.seen.ahead = count("upstream_calls_by_cause_total{cause=\"ahead\"} ");
    }

    async fn ask(&mut self, user: usize, pods: usize, forced: bool) {
        let path = certs(&project_of(user), &name_of(user));
        let (token, header) = if forced {
            (&self.operator, "Cache-Control: no-cache\r\n")
        } else {
            (&self.token, "")
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: certs.internal\r\nAuthorization: Bearer {token}\r\n{header}\r\n"
        );
        let address = self.world.address();
        let mut callers = std::mem::take(&mut self.callers);
        let asking = callers.iter_mut().take(pods).map(|caller| async {
            loop {
                caller.send(request.as_bytes()).await;
                let reply = caller.reply(false).await;
                let closes = reply.header("connection") == Some("close");
                if closes || reply.status == 0 {
                    *caller = Connection::open(address).await;
                }
                if reply.status != 0 {
                    let calls = reply.header("x-upstream-calls");
                    let calls: usize = calls.map_or(0, |calls| calls.parse().unwrap());
                    return (reply.status, calls);
                }
            }
        });
        let answers = {
            let mut asking = std::pin::pin!(join_all(asking));
            // Retries wait for the clock.
            loop {
                tokio::select! {
                    biased;
                    answers = asking.as_mut() => break answers,
                    () = tokio::task::yield_now() => {
                        self.world.advance(Duration::from_micros(20));
                    }
                }
            }
        };
        self.callers = callers;
        self.now = self.world.clock.passed();
        self.seen.lookups += answers.len();
        for (status, calls) in answers {
            let account = &mut self.seen.answers;
            account.calls += calls;
            if status == 200 {
                // No list is longer than a page.
                account.would_have_cost += 1;
                account.saved += 1_usize.saturating_sub(calls);
            } else {
                self.seen.failed += 1;
            }
        }
        let left = self.world.atlas.bucket_remaining(&project_of(user));
        self.seen.lowest = self.seen.lowest.min(left);
        self.settle().await;
    }

    fn change(&self, event: &Event) {
        let (project, name) = (project_of(event.user), name_of(event.user));
        self.world.atlas.world(|projects| {
            let mut project = projects.project(&project);
            let mut user = project.user(&name);
            if event.what == What::Issue {
                let until = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
                user.certificate_until(until);
            } else if let Some(serial) = user.serials().first().copied() {
                user.remove_certificate(serial);
            }
        });
    }
}

async fn open_all(world: &World, count: usize) -> Vec<Connection> {
    join_all((0..count).map(|_| Connection::open(world.address()))).await
}

fn project_of(user: usize) -> String {
    format!("32b6e34b3d91647abb2{:05x}", user % PROJECTS)
}

fn name_of(user: usize) -> String {
    format!("user-{user}")
}

const PROJECTS: usize = 20;
const TTL: Duration = Duration::from_mins(5);
const RESERVE: u64 = 200;
const STEP: Duration = Duration::from_millis(500);
