//! What auditors ask the database, on a connection that is there.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use atlas_cert_gateway::audit::database::{CentralQuery, CentralTrail, Connection};
use atlas_cert_gateway::audit::search::{Filter, Order, Search, search};
use atlas_cert_gateway::audit::usage::{GroupBy, Usage, UsageCounts};
use atlas_cert_gateway::system::Clock;
use tokio_postgres::Client;

use crate::journals::{DAYS, Journals};
use crate::month::{DAY, RARE, START};
use crate::postgres::Postgres;
use crate::{Bench, database_of, percentile, site};

/// What each question took, in their order.
pub(crate) type Answers = Vec<Duration>;

/// Asks all of them, each often enough for a middle one.
pub(crate) fn measure(
    bench: &Bench,
    postgres: &Postgres,
    journals: &Journals,
    smaller: Option<&Answers>,
) -> Answers {
    let trail = CentralTrail {
        database: database_of(postgres, "auditor"),
        directories: Vec::new(),
        clock: Clock::system(),
    };
    let mut answers = Vec::new();
    bench.runtime.block_on(async {
        let connection = Connection::open(&trail.database, &trail.clock)
            .await
            .unwrap();
        let client = postgres.client("owner").await;
        for (name, filter, condition) in filters(&client).await {
            let count = format!("SELECT count(*) FROM audit.record WHERE {condition}");
            let expected = postgres.number(&count).await.min(SHOWN);
            assert!(expected > 0, "{name}");
            let took = searched(&trail, &connection, filter, expected).await;
            show(
                bench,
                name,
                took,
                (GOAL_OF_SEARCH, smaller.map(|it| it[answers.len()])),
            );
            answers.push(took);
        }
    });
    for (name, by) in [
        ("usage by subject", GroupBy::Subject),
        ("usage by project", GroupBy::Project),
        ("usage by username", GroupBy::Username),
    ] {
        let took = used(bench, &trail, journals, by);
        // Every record is read, so that ten times as many take ten times as long.
        let goal = if smaller.is_none() {
            GOAL_OF_USAGE
        } else {
            f64::INFINITY
        };
        show(
            bench,
            name,
            took,
            (goal, smaller.map(|it| it[answers.len()])),
        );
        answers.push(took);
    }
    answers
}

/// Searches, and which records they are about.
async fn filters(client: &Client) -> [(&'static str, Filter, String); 5] {
    let one = async |sql: &str| {
        client
            .query_one(sql, &[])
            .await
            .unwrap()
            .get::<_, String>(0)
    };
    let by_count = "SELECT username FROM audit.record WHERE kind = 'lookup' GROUP BY username ORDER BY count(*)";
    let often = one(&format!("{by_count} DESC LIMIT 1")).await;
    let rare = one(&format!("{by_count} LIMIT 1")).await;
    let middle = START.plus(DAY * (DAYS / 2));
    let id = format!(
        "SELECT request_id::text FROM audit.record WHERE request_id IS NOT NULL AND time >= '{middle}' \
         ORDER BY time LIMIT 1"
    );
    let id = one(&id).await;
    // The one who asks most.
    let subject = site::subject(0);
    assert_ne!(subject, site::subject(RARE));
    let (since, until) = (middle.to_string(), middle.plus(DAY).to_string());
    [
        (
            "search: newest 100 of a username",
            filter(&[("username", &often)]),
            format!("username = '{often}'"),
        ),
        (
            "search: rare username",
            filter(&[("username", &rare)]),
            format!("username = '{rare}'"),
        ),
        (
            "search: subject of a day",
            filter(&[("subject", &subject), ("since", &since), ("until", &until)]),
            format!("subject = '{subject}' AND time >= '{since}' AND time < '{until}'"),
        ),
        (
            "search: request id",
            filter(&[("request-id", &id)]),
            format!("request_id = '{id}'"),
        ),
        (
            "search: newest denials",
            filter(&[("outcome", "denied")]),
            "outcome = 'denied'".to_owned(),
        ),
    ]
}

fn filter(options: &[(&str, &str)]) -> Filter {
    let mut filter = Filter::default();
    for (name, value) in options {
        filter.set(name, value, START).unwrap();
    }
    filter
}

async fn searched(
    trail: &CentralTrail,
    connection: &Connection,
    filter: Filter,
    expected: i64,
) -> Duration {
    let query = CentralQuery {
        filter,
        order: Order::NewestFirst,
        behind: None,
    };
    let mut all = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let found = Cell::new(0);
        let searched = trail.search_over(
            connection,
            &query,
            || false,
            |_, _| {
                found.update(|found| found + 1);
                if found.get() < SHOWN {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        );
        let coverage = searched.await.unwrap();
        all.push(begun.elapsed());
        assert_eq!((found.get(), coverage.incomplete.len()), (expected, 0));
    }
    all.sort_unstable();
    percentile(&all, 50)
}

/// The middle one of three, each on a connection of its own, as `audit usage --database` has it.
fn used(bench: &Bench, trail: &CentralTrail, journals: &Journals, by: GroupBy) -> Duration {
    let month = Filter {
        since: Some(START),
        until: Some(START.plus(DAY * DAYS)),
        ..Filter::default()
    };
    let mut all = Vec::new();
    let mut total = None;
    for _ in 0..3 {
        let mut usage = Usage::new(by);
        let begun = Instant::now();
        let added = trail.add_usage(&month, by, &mut usage);
        bench.runtime.block_on(added).unwrap();
        all.push(begun.elapsed());
        total = UsageCounts::total(&usage.rows());
    }
    assert_eq!(total, of_files(journals, &month, by));
    all.sort_unstable();
    percentile(&all, 50)
}

fn of_files(journals: &Journals, month: &Filter, by: GroupBy) -> Option<UsageCounts> {
    let directories = journals.chains.iter().map(|(it, _)| it.directory.clone());
    let directories: Vec<_> = directories.collect();
    let all = Search {
        directories: &directories,
        filter: month,
        order: Order::OldestFirst,
    };
    let mut usage = Usage::new(by);
    let incomplete = search(&all, &|_| (), |record| {
        usage.add(record.line);
        ControlFlow::Continue(())
    });
    assert_eq!(incomplete.unwrap(), []);
    UsageCounts::total(&usage.rows())
}

/// Beside what it took of fewer records, of which it may take twice as much.
fn show(bench: &Bench, name: &str, took: Duration, (goal, smaller): (f64, Option<Duration>)) {
    let milliseconds = took.as_secs_f64() * 1_000.0;
    let Some(smaller) = smaller else {
        return bench.at_most(name, milliseconds, (goal, "ms"), "");
    };
    let times = took.as_secs_f64() / smaller.as_secs_f64();
    let goal = if goal.is_finite() { 2.0 } else { goal };
    let beside = format!("{milliseconds:.1} ms");
    bench.at_most(name, times, (goal, "x of fewer records"), &beside);
}

/// As `audit search` shows as usual.
const SHOWN: i64 = 100;
const TIMES: usize = 41;
const GOAL_OF_SEARCH: f64 = 10.0;
const GOAL_OF_USAGE: f64 = 1_000.0;
