//! How much memory the process takes, of what it may take: readings go in, the [`Stage`] comes out that
//! says what is given up for more.
//!
//! What is read is the resident memory of the process, not its control group's `memory.current`: that one
//! counts the pages of files too, and so grows to the group's limit with nothing but the audit trail being
//! written, although the kernel takes those pages back by itself.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tracing::info;
use tracing::warn;

use crate::clock::Clock;
use crate::settings::Mistake;
use crate::settings::Ranges;
use crate::settings::Size;
use crate::telemetry::metrics::memory::MemoryMetrics;

/// What is written under `[memory]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the process may take; without it what its control groups allow, if they bound it at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Size>,
    /// Where the kernel says what the process takes, in the form of proc(5)'s `statm`. Tests have a file
    /// of their own.
    #[serde(skip)]
    pub statm: PathBuf,
}

/// The memory of the process. Cheap to clone, and a stage costs one load.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stage: AtomicU8,
    relief: Notify,
    metrics: MemoryMetrics,
}

/// What is given up; each stage includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing.
    Plenty,
    /// Lists are not renewed ahead of time, and the cache keeps half of what it may.
    Saving,
    /// No connection is kept for another request.
    Closing,
    /// Only what memory knows is answered.
    HitsOnly,
    /// No connection is taken.
    Full,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ceiling: None,
            statm: PathBuf::from("/proc/self/statm"),
        }
    }
}

impl Config {
    /// What cannot be meant.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(ceiling) = self.ceiling {
            let allowed = SMALLEST_CEILING..=Size::mebibytes(64 << 20);
            let example = Size::mebibytes(512);
            Ranges::of("memory", &mut mistakes).check("ceiling", ceiling, allowed, example);
        }
        mistakes
    }
}

impl Memory {
    /// Nothing is known of it yet.
    pub fn new(metrics: MemoryMetrics) -> Self {
        Self(Arc::new(Inner {
            metrics,
            ..Inner::default()
        }))
    }

    /// What is given up now.
    pub fn stage(&self) -> Stage {
        let number = usize::from(self.0.stage.load(Ordering::Relaxed));
        STAGES
            .get(number)
            .map_or(Stage::Plenty, |(stage, _)| *stage)
    }

    /// Waits until the present connections are to end.
    pub async fn relief(&self) {
        self.0.relief.notified().await;
    }

    /// Looks again and again, and tells `each` stage, for ever; without a ceiling there is nothing to do.
    pub async fn watch(&self, config: Config, clock: Clock, each: impl Fn(Stage)) {
        let ceiling = config.ceiling.map(|size| size.0).or_else(allowed_by_groups);
        let Some(ceiling) = ceiling else {
            return;
        };
        self.0.metrics.ceiling(ceiling);
        loop {
            if let Some(resident) = resident(&config.statm) {
                self.look(resident, ceiling);
            }
            each(self.stage());
            clock.sleep(PERIOD).await;
        }
    }

    fn look(&self, resident: u64, ceiling: u64) {
        let before = self.stage();
        let percent = resident.saturating_mul(100) / ceiling.max(1);
        let reached = STAGES.iter().rposition(|(stage, mark)| {
            // A stage is left a little below where it is entered, so that it does not come and go.
            let slack = if *stage <= before { SLACK } else { 0 };
            percent >= mark.saturating_sub(slack)
        });
        let number = u8::try_from(reached.unwrap_or_default()).unwrap_or_default();
        self.0.stage.store(number, Ordering::Relaxed);
        self.0.metrics.stage(number);
        let now = self.stage();
        if now > before {
            warn!(resident, ceiling, "memory is short: {now:?}");
        } else if now < before {
            info!(resident, ceiling, "there is memory again: {now:?}");
        }
        if before < Stage::Closing && now >= Stage::Closing {
            self.0.relief.notify_waiters();
        }
    }
}

/// The second number of proc(5)'s `statm`, in bytes.
fn resident(statm: &Path) -> Option<u64> {
    let text = fs::read_to_string(statm).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    pages.checked_mul(page)
}

/// The lowest `memory.max` of the process's control group and of those above it (cgroups(7), version 2).
fn allowed_by_groups() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    root.join(group)
        .ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|directory| fs::read_to_string(directory.join("memory.max")).ok())
        .filter_map(|most| most.trim().parse().ok())
        .min()
}

/// From which percentage of the ceiling on.
const STAGES: [(Stage, u64); 5] = [
    (Stage::Plenty, 0),
    (Stage::Saving, 85),
    (Stage::Closing, 92),
    (Stage::HitsOnly, 95),
    (Stage::Full, 98),
];
const SLACK: u64 = 2;
const PERIOD: Duration = Duration::from_millis(250);
/// The process takes about half of it when it has nothing to do.
const SMALLEST_CEILING: Size = Size::mebibytes(32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_begins_at_its_share_and_ends_a_little_below_it() {
        let memory = Memory::default();
        for (resident, stage) in [
            (840, Stage::Plenty),
            (850, Stage::Saving),
            (830, Stage::Saving),
            (829, Stage::Plenty),
            (919, Stage::Saving),
            (920, Stage::Closing),
            (950, Stage::HitsOnly),
            (980, Stage::Full),
            (2_000, Stage::Full),
            (960, Stage::Full),
            (950, Stage::HitsOnly),
            (10, Stage::Plenty),
        ] {
            memory.look(resident, 1_000);
            assert_eq!(memory.stage(), stage, "{resident}");
        }
    }

    #[test]
    fn the_kernel_says_what_this_process_takes() {
        let resident = resident(&Config::default().statm).unwrap();
        assert!(resident > 1 << 20, "{resident}");
        // Whatever it is here, it can be read without harm.
        allowed_by_groups();
    }
}
