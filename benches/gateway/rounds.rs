//! Two servers under the same load, in turn; what is printed are medians over the rounds.

use std::sync::Arc;
use std::time::Duration;

use crate::Effort;
use crate::bare;
use crate::bare::Behind;
use crate::callgrind;
use crate::cases::{Beside, Case, Once};
use crate::load;
use crate::load::{Lines, Load, Until};
use crate::process::Server;
use crate::samples::Shares;
use crate::site::Site;
use crate::table;
use crate::table::{Reading, Seen, Spread};

/// A server, its lines, and what was seen of it.
pub(crate) struct Side {
    server: Server,
    lines: Lines,
    seen: Seen,
}

/// Compares the gateway with bare hyper and prints what came of it.
pub(crate) async fn compare(site: &Site, case: &Case, effort: &Effort) {
    let plan = Plan::of(case, effort);
    let asks = case.asks(site, plan.slices(), plan.each);
    let load = || Arc::new(Load::new(&asks, case.protocol, case.status));

    let command = site.gateway(case.tuning);
    let server = Server::start(&command, case.cores);
    // What the gateway answers is what bare hyper will: the same body, the same headers.
    let answer = load::once(server.address, &case.plain(site)).await;
    let answer_file = site.write(case.name, &answer);
    let mut ours = Side::open(server, &load()).await;
    let bare_load = Arc::new(Load::new(&asks, case.protocol, 200));
    let behind = match case.beside {
        Beside::Hyper => None,
        Beside::HyperAndClient => Some(Behind::of(site.atlas.base_url()).await),
    };
    let bare_command = bare::command(&answer_file, case.protocol, behind.as_ref());
    let bare_server = Server::start(&bare_command, case.cores);
    let mut bare = Side::open(bare_server, &bare_load).await;

    ours.warm(case, asks.len()).await;
    let mut ratios = Vec::new();
    for _ in 0..plan.rounds {
        let before = bare.slice(plan.until).await;
        let measured = ours.slice(plan.until).await;
        let after = bare.slice(plan.until).await;
        ratios.push(f64::midpoint(before, after) / measured);
    }
    for side in [&mut ours, &mut bare] {
        let slice = side.lines.drive(plan.until);
        let (slice, calls) = side.server.system_calls(slice).await;
        side.seen.system_calls = calls.map(|calls| calls as f64 / slice.answers as f64);
        side.seen.resident = side.server.resident();
        if effort.profile {
            let slices = async {
                for _ in 0..plan.profiled {
                    side.lines.drive(plan.until).await;
                }
            };
            side.seen.shares = Shares::during(&side.server, slices).await;
        }
    }
    if effort.callgrind {
        let plan = callgrind::Plan::of(case, effort);
        bare.seen.instructions = callgrind::per_answer(&bare_command, &bare_load, &plan).await;
        // Its own directory: the audit trail is held by the first gateway.
        let command = site.gateway(case.tuning);
        let asks = case.asks(site, 1, plan.answers());
        let load = Arc::new(Load::new(&asks, case.protocol, case.status));
        ours.seen.instructions = callgrind::per_answer(&command, &load, &plan).await;
    }
    let (ours, bare) = (ours.seen, bare.seen);
    table::print(case, answer.len(), &ours, &bare, Spread::of(ratios));
    if effort.profile {
        table::print_profile(&ours, &bare);
    }
}

/// How long a case is measured: in slices that are short and many, because the speed of a shared machine
/// changes within seconds, and only what was measured side by side can be compared.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) until: Until,
    /// Answers in a slice, where they are counted.
    pub(crate) each: usize,
    /// Slices in which a profile is taken.
    profiled: usize,
}

impl Plan {
    pub(crate) fn of(case: &Case, effort: &Effort) -> Self {
        let rounds = if effort.quick { 6 } else { 28 };
        let milliseconds = if effort.quick { 50 } else { 125 };
        let each: usize = match case.once {
            Once::RateLimitedLog => 0,
            Once::Token => 150,
            Once::User => 500,
            Once::TwentiethUser => 2_500,
        };
        let each = if effort.quick { each.div_ceil(2) } else { each };
        let until = match case.once {
            Once::RateLimitedLog => Until::Passed(Duration::from_millis(milliseconds)),
            Once::Token | Once::User | Once::TwentiethUser => Until::Answered(each),
        };
        Self {
            rounds,
            until,
            each,
            profiled: if effort.profile { 16 } else { 0 },
        }
    }

    /// One more than rounds, for the system calls, and those for a profile.
    pub(crate) fn slices(&self) -> usize {
        self.rounds + 1 + self.profiled
    }
}

impl Side {
    pub(crate) async fn open(server: Server, load: &Arc<Load>) -> Self {
        let lines = Lines::open(server.address, load, LINES).await;
        Self {
            server,
            lines,
            seen: Seen::default(),
        }
    }

    /// Has each of `asks` requests answered twice, where they may be repeated, so that all that can be
    /// remembered is.
    pub(crate) async fn warm(&mut self, case: &Case, asks: usize) {
        if case.once != Once::RateLimitedLog {
            return;
        }
        self.lines.drive(Until::Answered(2 * asks.max(500))).await;
    }

    /// Measures one slice, and returns CPU time per answer.
    pub(crate) async fn slice(&mut self, until: Until) -> f64 {
        let before = self.server.cpu();
        let slice = self.lines.drive(until).await;
        let cpu = self.server.cpu().saturating_sub(before);
        self.seen.others += slice.others;
        let reading = Reading::of(slice, cpu);
        let cpu = reading.cpu;
        self.seen.readings.push(reading);
        cpu
    }
}

/// As many connections as the figures of other servers were taken with.
pub(crate) const LINES: usize = 64;
