//! Another build of the gateway under the same load, in turn: what a change of the code has brought.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::Effort;
use crate::cases::Case;
use crate::load::Load;
use crate::process::Server;
use crate::rounds::{Plan, Side};
use crate::site::Site;
use crate::table::Spread;

/// Compares this build with the one at `program`, and prints the ratio of their CPU times per answer. Where
/// one lies between the quartiles, nothing was shown.
pub(crate) async fn compare(site: &Site, case: &Case, program: &Path, effort: &Effort) {
    let plan = Plan::of(case, effort);
    let asks = case.asks(site, plan.slices(), plan.each);
    let load = || Arc::new(Load::new(&asks, case.protocol, case.status));
    let this = site.gateway(case.tuning);
    // A directory of its own: the audit trail is held by the first.
    let configured = site.gateway(case.tuning);
    let mut other = Command::new(program);
    other.args(configured.get_args());
    let mut this = Side::open(Server::start(&this, case.cores), &load()).await;
    let mut other = Side::open(Server::start(&other, case.cores), &load()).await;
    this.warm(case, asks.len()).await;
    other.warm(case, asks.len()).await;
    let mut ratios = Vec::with_capacity(plan.rounds);
    for round in 0..plan.rounds {
        // Neither is always the first.
        let ratio = if round % 2 == 0 {
            let this = this.slice(plan.until).await;
            other.slice(plan.until).await / this
        } else {
            let other = other.slice(plan.until).await;
            other / this.slice(plan.until).await
        };
        ratios.push(ratio);
    }
    let Spread {
        median,
        quartiles: (low, high),
    } = Spread::of(ratios);
    println!(
        "{:<16} {} takes {median:.3} times the CPU time of this build ({low:.3}-{high:.3})",
        case.name,
        program.display(),
    );
}
