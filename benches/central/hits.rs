//! What callers notice of the central trail: gateways without one, and with one that is there, hangs or is gone, in
//! turn under the same load.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Builder;

use crate::load::{Ask, Lines, Load, Protocol, Until};
use crate::postgres::Postgres;
use crate::process::{Cores, Server, pin_this_process};
use crate::serving::{Site, Tuning, Users};
use crate::{Bench, percentile};

/// How the database of a gateway is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    Absent,
    On,
    Slow,
    Gone,
}

/// A gateway, and what was seen of it.
struct Gateway {
    database: Database,
    server: Server,
    lines: Lines,
    postgres: Option<Postgres>,
    answers: u64,
    seen: Vec<Seen>,
}

/// What a slice showed, of one answer, in microseconds.
#[derive(Clone, Copy)]
struct Seen {
    /// CPU time of the threads that answer.
    cpu: f64,
    /// Of the process, with the threads that read the journal for the database.
    whole: f64,
    p99: f64,
}

/// How fast callers ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as they are answered.
    Full,
    /// A thousand times a second.
    Thousand,
}

pub(crate) fn measure(bench: &Bench) {
    pin_this_process();
    let atlas = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let generator = Builder::new_current_thread().enable_all().build().unwrap();
    let site = generator.block_on(Site::start(atlas.handle()));
    let users = Users {
        name: "payments-small",
        count: 1,
        certificates: 2,
    };
    let asks = site.asks(users, &site.tokens(1));
    for pace in [Pace::Full, Pace::Thousand] {
        let mut gateways = Vec::new();
        for database in [
            Database::Absent,
            Database::On,
            Database::Slow,
            Database::Gone,
        ] {
            let postgres = (database != Database::Absent).then(|| bench.postgres().unwrap());
            postgres.iter().for_each(Postgres::give_way);
            let gateway = Gateway::open(database, postgres, &site, &asks);
            gateways.push(generator.block_on(gateway));
        }
        for round in 0..if bench.is_test { 1 } else { ROUNDS } {
            // None of them is always the first.
            for turn in 0..gateways.len() {
                let at = (round + turn) % gateways.len();
                generator.block_on(gateways[at].slice(bench, pace));
            }
        }
        show(bench, pace, &gateways);
    }
}

impl Gateway {
    async fn open(
        database: Database,
        postgres: Option<Postgres>,
        site: &Site,
        asks: &[Ask],
    ) -> Self {
        let config = postgres.as_ref().map_or_else(String::new, |postgres| {
            format!(
                "[audit.database]\nurl = \"{}\"",
                postgres.url("gateway_audit")
            )
        });
        let command = site.gateway_with(Tuning::USUAL, &config, |_| ());
        let server = Server::start(&command, Cores::One);
        let load = Arc::new(Load::new(asks, Protocol::Http1, 200));
        let lines = Lines::open(server.address, &load, LINES).await;
        let mut gateway = Self {
            database,
            server,
            lines,
            postgres,
            answers: 0,
            seen: Vec::new(),
        };
        gateway.drive(Until::Answered(2_000)).await;
        gateway.catch_up().await;
        match (gateway.database, &mut gateway.postgres) {
            (Database::Slow, Some(postgres)) => postgres.signal_all(Signal::STOP),
            (Database::Gone, Some(postgres)) => postgres.stop(Signal::QUIT),
            (Database::Absent | Database::On, _) | (_, None) => {}
        }
        gateway
    }

    async fn slice(&mut self, bench: &Bench, pace: Pace) {
        let (answering, whole) = self.cpu();
        let mut latencies = match pace {
            Pace::Full => self.drive(Until::Passed(slice(bench))).await,
            Pace::Thousand => {
                let mut latencies = Vec::new();
                let mut ticks = tokio::time::interval(TICK);
                for _ in 0..slice(bench).as_millis() / TICK.as_millis() {
                    ticks.tick().await;
                    latencies.extend(self.drive(Until::Answered(EACH_TICK)).await);
                }
                latencies
            }
        };
        let (answering_after, whole_after) = self.cpu();
        latencies.sort_unstable();
        let micros = |span: Duration| span.as_secs_f64() * 1e6;
        let each = |span: Duration| micros(span) / latencies.len() as f64;
        self.seen.push(Seen {
            cpu: each(answering_after.saturating_sub(answering)),
            whole: each(whole_after.saturating_sub(whole)),
            p99: micros(percentile(&latencies, 99)),
        });
        // So that what is left does not fall into the slice of another one.
        self.catch_up().await;
    }

    async fn drive(&mut self, until: Until) -> Vec<Duration> {
        let slice = self.lines.drive(until).await;
        assert_eq!(slice.others, 0, "not all were answered");
        self.answers += u64::try_from(slice.answers).unwrap();
        slice.latencies
    }

    /// Waits until the database has a record of each answer, where it takes them.
    async fn catch_up(&self) {
        let is_taking = self.database == Database::On || self.seen.is_empty();
        let Some(postgres) = self.postgres.as_ref().filter(|_| is_taking) else {
            return;
        };
        let shipped = "SELECT coalesce(max(seq), 0) FROM audit.chain";
        while postgres.number(shipped).await < i64::try_from(self.answers).unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Of the threads that answer, and of the process with all that have ended.
    fn cpu(&self) -> (Duration, Duration) {
        let process = format!("/proc/{}", self.server.pid());
        let tasks = fs::read_dir(format!("{process}/task")).unwrap();
        let of_task = |path: &std::path::Path| {
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            let nanoseconds = text.split(' ').next()?.parse::<u64>().ok()?;
            (name.trim_end() != "background").then_some(nanoseconds)
        };
        let answering = tasks.filter_map(|task| of_task(&task.ok()?.path())).sum();
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // From `state`, the third, on; `utime` and `stime` are the fourteenth and fifteenth.
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|it| it.parse::<u64>().unwrap()).sum();
        let whole = ticks * 1_000 / rustix::param::clock_ticks_per_second();
        (
            Duration::from_nanos(answering),
            Duration::from_millis(whole),
        )
    }
}

fn show(bench: &Bench, pace: Pace, gateways: &[Gateway]) {
    let pace_name = match pace {
        Pace::Full => "as fast as they are answered",
        Pace::Thousand => "a thousand a second",
    };
    let middle =
        |gateway: &Gateway, of: fn(&Seen) -> f64| median(gateway.seen.iter().map(of).collect());
    let absent = &gateways[0];
    println!(
        "\nhits, {pace_name}: without a database {:.1} µs of CPU, p99 {:.0} µs",
        middle(absent, |it| it.cpu),
        middle(absent, |it| it.p99)
    );
    for gateway in &gateways[1..] {
        let name = match gateway.database {
            Database::Absent => "absent",
            Database::On => "on",
            Database::Slow => "hanging",
            Database::Gone => "gone",
        };
        // Of the same round.
        let ratio = |of: fn(&Seen) -> f64| {
            let pairs = gateway.seen.iter().zip(&absent.seen);
            median(
                pairs
                    .map(|(with, without)| of(with) / of(without))
                    .collect(),
            )
        };
        let whole = format!(
            "{:.1} µs of the whole process",
            middle(gateway, |it| it.whole)
        );
        let goal = (1.02, "x");
        bench.at_most(
            &format!("CPU of a hit, database {name}"),
            ratio(|it| it.cpu),
            goal,
            &whole,
        );
        let p99 = format!("{:.0} µs", middle(gateway, |it| it.p99));
        bench.at_most(
            &format!("p99, database {name}"),
            ratio(|it| it.p99),
            (1.1, "x"),
            &p99,
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    percentile(&values, 50)
}

/// Longer than the shipper's interval, so that each has its work in it.
fn slice(bench: &Bench) -> Duration {
    Duration::from_millis(if bench.is_test { 300 } else { 2_000 })
}

const ROUNDS: usize = 12;
const LINES: usize = 64;
const TICK: Duration = Duration::from_millis(10);
const EACH_TICK: usize = 10;
