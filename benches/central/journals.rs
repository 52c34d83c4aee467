//! The journals of five replicas over a month, by the gateway's own writer.

use std::time::Duration;

use atlas_cert_gateway::audit::search::{Filter, Order};
use atlas_cert_gateway::audit::{Config, Sync};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::month;
use crate::month::Plan;
use crate::reading::find;

/// What was written.
pub(crate) struct Journals {
    /// One directory each, and how many records are in it.
    pub(crate) chains: Vec<(Config, u64)>,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    _place: TempDir,
}

/// Writes about so many records.
pub(crate) fn write(runtime: &Runtime, records: u64) -> Journals {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let each_day = records / CHAINS / u64::from(DAYS);
    let busy = Duration::from_millis(each_day * 1_000 / PER_SECOND).max(Duration::from_secs(1));
    let (mut chains, mut bytes) = (Vec::new(), 0);
    for chain in 0..CHAINS {
        let config = Config {
            directory: place.path().join(format!("gateway-{chain}")),
            // The disk is not what is measured.
            sync: Sync::Never,
            compress: false,
            ..Config::default()
        };
        let plan = Plan {
            config,
            span: busy * DAYS,
            window: [Duration::ZERO; 2],
            recent: Duration::ZERO,
            seed: 0x7a11 + chain,
            busy,
        };
        runtime.block_on(month::write(&plan, |_| ()));
        let all = find(
            &plan.config.directory,
            &Filter::default(),
            Order::OldestFirst,
        );
        chains.push((plan.config, all.records));
        bytes += all.bytes;
    }
    Journals {
        records: chains.iter().map(|(_, records)| records).sum(),
        chains,
        bytes,
        _place: place,
    }
}

pub(crate) const DAYS: u32 = 30;
const CHAINS: u64 = 5;
/// Twenty lookups, and the fetches that they need.
const PER_SECOND: u64 = 24;
