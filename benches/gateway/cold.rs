//! What happens before memory can answer, and what memory costs: cases with figures of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atlas_simulator::{CLIENT_ID, CLIENT_SECRET};
use serde_json::{Value, json};

use crate::Effort;
use crate::bare;
use crate::load;
use crate::load::{Lines, Load, Protocol, Until};
use crate::process::{Cores, Server};
use crate::rounds::LINES;
use crate::sdk;
use crate::site::{Site, Tuning, Users};
use crate::table::{median, rounded};
use crate::trouble;

/// One such case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    Crowd,
    Memory,
    Neighbours,
    Pages,
    Sdk(&'static [u32]),
    Start,
    Stopped,
}

/// All of them.
pub(crate) fn all() -> [Case; 8] {
    [
        ("crowd", Kind::Crowd),
        ("pages", Kind::Pages),
        ("hit-sdk", Kind::Sdk(&[2, 100])),
        ("large-sdk", Kind::Sdk(&[2_000])),
        ("start", Kind::Start),
        ("stopped", Kind::Stopped),
        ("neighbours", Kind::Neighbours),
        ("memory", Kind::Memory),
    ]
    .map(|(name, kind)| Case { name, kind })
}

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().into_iter().map(|case| case.name)
}

pub(crate) async fn run(site: &Site, case: &Case, effort: &Effort) {
    let figures = match case.kind {
        Kind::Crowd => crowd(site, effort).await,
        Kind::Memory => memory(site, effort).await,
        Kind::Neighbours => trouble::neighbours(site, effort).await,
        Kind::Pages => pages(site, effort).await,
        Kind::Sdk(lists) => sdk::compare(site, lists).await,
        Kind::Start => start(site, effort).await,
        Kind::Stopped => trouble::stopped(site, effort).await,
    };
    println!("{}", json!({"case": case.name, "figures": figures}));
}

/// 64 callers ask for one list at once, which Atlas has to be asked for.
async fn crowd(site: &Site, effort: &Effort) -> Value {
    let users = Users {
        name: "payments-crowd",
        count: rounds(effort) + 1,
        certificates: 2,
    };
    let asks = site.asks(users, &site.tokens(1));
    let server = Server::start(&site.gateway(USUAL), Cores::One);
    // Our own token is minted with the first.
    load::once(server.address, &asks[0]).await;
    site.delay(LATENCY);
    let (mut calls, mut times) = (Vec::new(), Vec::new());
    for ask in &asks[1..] {
        let load = Arc::new(Load::new(std::slice::from_ref(ask), Protocol::Http1, 200));
        let mut lines = Lines::open(server.address, &load, LINES).await;
        let before = site.atlas.certificate_calls();
        let slice = lines.drive(Until::Answered(LINES)).await;
        calls.push((site.atlas.certificate_calls() - before) as f64);
        times.push(slice.wall.as_secs_f64() * 1e3);
    }
    site.delay(Duration::ZERO);
    let (calls, times) = (median(calls), median(times));
    println!(
        "crowd            {LINES} callers of one list that is not in memory, Atlas at {LATENCY:?}: {calls} \
         calls, {times:.1} ms until the last answer"
    );
    json!({"calls": calls, "ms": rounded(times)})
}

/// A list of several pages, at a latency that hides everything else; beside it what a script does that
/// asks Atlas for one page after the other, and proves nothing.
async fn pages(site: &Site, effort: &Effort) -> Value {
    let script = Script::start(site).await;
    let server = Server::start(&site.gateway(USUAL), Cores::One);
    let warm = Users {
        name: "payments-minted",
        count: 1,
        certificates: 1,
    };
    load::once(server.address, &site.asks(warm, &site.tokens(1))[0]).await;
    let (mut figures, mut one_call) = (Vec::new(), None);
    for (name, pages) in [
        ("payments-1-page", 1),
        ("payments-5-pages", 5),
        ("payments-20-pages", 20),
    ] {
        let users = Users {
            name,
            count: rounds(effort),
            certificates: 500 * pages - 10,
        };
        let asks = site.asks(users, &site.tokens(1));
        site.delay(LATENCY);
        let before = site.atlas.certificate_calls();
        let cpu = server.cpu();
        let mut times = Vec::new();
        for ask in &asks {
            let begun = Instant::now();
            load::once(server.address, ask).await;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = server.cpu().saturating_sub(cpu).as_secs_f64() * 1e3 / asks.len() as f64;
        let calls = (site.atlas.certificate_calls() - before) as f64 / asks.len() as f64;
        let mut script_times = Vec::new();
        for ask in &asks[..3] {
            let begun = Instant::now();
            script.read(ask, pages).await;
            script_times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let script = median(script_times);
        site.delay(Duration::ZERO);
        let time = median(times);
        // What one call takes here: Atlas's time, and that of a page on its way.
        let one = *one_call.get_or_insert(script);
        let of_one = time / one;
        println!(
            "pages            {pages:>2} pages at {LATENCY:?} a call: {time:.1} ms, {of_one:.2} × one call, \
             {calls} calls, {cpu:.1} ms of CPU; one after the other {script:.1} ms, {:.2} ×",
            script / one
        );
        figures.push(json!({
            "pages": pages, "ms": rounded(time), "of_one_call": rounded(of_one), "calls": calls,
            "cpu_ms": rounded(cpu), "one_by_one_ms": rounded(script),
        }));
    }
    Value::from(figures)
}

/// What people write to read a list of several pages.
struct Script {
    client: reqwest::Client,
    atlas: String,
    token: String,
}

impl Script {
    async fn start(site: &Site) -> Self {
        let (client, atlas) = (reqwest::Client::new(), site.atlas.base_url());
        let minted = client
            .post(format!("{atlas}/api/oauth/token"))
            .basic_auth(CLIENT_ID, Some(CLIENT_SECRET))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let minted = minted.send().await.unwrap().bytes().await.unwrap();
        let minted: Value = serde_json::from_slice(&minted).unwrap();
        let token = minted["access_token"].as_str().unwrap().to_owned();
        Self {
            client,
            atlas,
            token,
        }
    }

    async fn read(&self, ask: &load::Ask, pages: u32) {
        let url = format!("{}{}?itemsPerPage=500", self.atlas, ask.target());
        let mut list = Vec::new();
        for number in 1..=pages {
            let page = self
                .client
                .get(format!("{url}&pageNum={number}"))
                .bearer_auth(&self.token)
                .header("accept", "application/vnd.atlas.2023-01-01+json");
            let page = page.send().await.unwrap().bytes().await.unwrap();
            let mut page: Value = serde_json::from_slice(&page).unwrap();
            list.append(page["results"].as_array_mut().unwrap());
        }
        assert_eq!(list.len(), 500 * pages as usize - 10);
    }
}

/// From exec to the first answer, for which a token is minted and Atlas is asked at 0 ms.
async fn start(site: &Site, effort: &Effort) -> Value {
    let users = Users {
        name: "payments-first",
        count: 1,
        certificates: 2,
    };
    let ask = site.asks(users, &site.tokens(1)).remove(0);
    let server = Server::start(&site.gateway(USUAL), Cores::One);
    let answer = load::once(server.address, &ask).await;
    let idle = server.resident() as f64 / f64::from(1 << 20);
    let bare = bare::command(&site.write("start", &answer), Protocol::Http1, None);
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..rounds(effort) {
        for (command, times) in [(site.gateway(USUAL), &mut ours), (clone(&bare), &mut bares)] {
            let begun = Instant::now();
            let server = Server::start(&command, Cores::One);
            load::once(server.address, &ask).await;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (ours, bares) = (median(ours), median(bares));
    println!(
        "start            exec to first answer, Atlas at 0 ms: {ours:.1} ms | {bares:.1} ms; {idle:.1} MiB \
         after it"
    );
    json!({"gateway_ms": rounded(ours), "bare_ms": rounded(bares), "idle_mib": rounded(idle)})
}

/// Memory per entry, between two sizes of what is remembered.
async fn memory(site: &Site, effort: &Effort) -> Value {
    let (few, many) = if effort.quick {
        (1_000, 10_000)
    } else {
        (10_000, 100_000)
    };
    let users = Users {
        name: "payments-held",
        count: many,
        certificates: 2,
    };
    let asks = site.asks(users, &site.tokens(1));
    let server = Server::start(&site.gateway(USUAL), Cores::One);
    let load = Arc::new(Load::new(&asks, Protocol::Http1, 200));
    let mut lines = Lines::open(server.address, &load, LINES).await;
    lines.drive(Until::Answered(few)).await;
    let before = server.resident();
    lines.drive(Until::Answered(many - few)).await;
    let after = server.resident();
    let each = after.saturating_sub(before) as f64 / (many - few) as f64;
    println!(
        "memory           {each:.0} bytes an entry of two certificates, between {few} and {many}; {} MiB in \
         all",
        after >> 20
    );
    json!({"bytes_per_entry": each.round(), "from": few, "to": many, "resident_bytes": after})
}

fn rounds(effort: &Effort) -> usize {
    if effort.quick { 3 } else { 9 }
}

fn clone(command: &std::process::Command) -> std::process::Command {
    let mut other = std::process::Command::new(command.get_program());
    other.args(command.get_args());
    other
}

const USUAL: Tuning = Tuning::USUAL;
const LATENCY: Duration = Duration::from_millis(50);
