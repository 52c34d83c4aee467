//! Memory pressure and load shedding: how much the process takes of what it may take, and the [`Stage`] that
//! says what is given up for that. [`pressure`] judges the readings.
//!
//! What is read is the resident memory of the process, not its control group's `memory.current`: that one
//! counts the pages of files too, and so grows to the group's limit with nothing but the audit trail being
//! written, although the kernel takes those pages back by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

mod pressure;

use self::pressure::{MemoryUse, Pressure};
use crate::settings::{ConfigError, Ranges, Size};
use crate::system::Clock;
use crate::telemetry::metrics::process::MemoryMetrics;

/// What is written under `[memory]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the process may take; without it what its control groups allow, if they bound it at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling: Option<Size>,
    /// Where the kernel says what the process takes, in the form of proc(5)'s `statm`. Tests have a file
    /// of their own.
    #[serde(skip)]
    pub statm: PathBuf,
}

/// The memory of the process. Cheap to clone, and a stage costs one load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<MemoryState>);

#[derive(Debug, Default)]
struct MemoryState {
    /// The index of a stage in [`MARKS`].
    stage: AtomicU8,
    connections_must_end: Notify,
    metrics: MemoryMetrics,
}

/// What can be made smaller when memory is short. Both calls may take their time.
pub(crate) trait Reclaim: Clone + Send + 'static {
    /// How many bytes it holds.
    fn held(&self) -> u64;

    /// Evicts so many bytes, first of what is asked for least.
    fn reclaim(&self, bytes: u64);
}

/// Two caches give back in proportion to what each holds.
impl<A: Reclaim, B: Reclaim> Reclaim for (A, B) {
    fn held(&self) -> u64 {
        self.0.held().saturating_add(self.1.held())
    }

    fn reclaim(&self, bytes: u64) {
        let (first, all) = (u128::from(self.0.held()), u128::from(self.held().max(1)));
        let of_first = (u128::from(bytes) * first / all).min(bytes.into());
        let of_first = u64::try_from(of_first).expect("it is at most `bytes`");
        self.0.reclaim(of_first);
        self.1.reclaim(bytes - of_first);
    }
}

/// What is given up; each stage includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nothing.
    Plenty,
    /// Lists are not renewed ahead of time, and the cache evicts an eighth at a time.
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
    /// What the process may take, in bytes; `None` if nothing bounds it. Reads files.
    pub(crate) fn bound(&self) -> Option<u64> {
        self.ceiling.map(|size| size.0).or_else(allowed_by_groups)
    }

    /// What cannot be meant.
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        if let Some(ceiling) = self.ceiling {
            let allowed = SMALLEST_CEILING..=Size::mebibytes(64 << 20);
            let example = Size::mebibytes(512);
            Ranges::of("memory", &mut config_errors).check("ceiling", ceiling, allowed, example);
        }
        config_errors
    }

    /// What will not do what it seems to, with a cache of `max_size`. Reads what the control groups allow.
    pub(crate) fn warnings(&self, max_size: Size) -> Vec<ConfigError> {
        Self::warnings_for(self.bound().map(Size), max_size)
    }

    fn warnings_for(ceiling: Option<Size>, max_size: Size) -> Vec<ConfigError> {
        let Some(ceiling) = ceiling else {
            return Vec::new();
        };
        let mark = Stage::Saving.mark();
        let needed = BASE.0.saturating_add(max_size.0);
        if needed <= ceiling.0 / 100 * mark {
            return Vec::new();
        }
        let fits = Size::mebibytes((ceiling.0 / 100 * mark).saturating_sub(BASE.0) >> 20);
        let enough = Size::mebibytes((needed / mark * 100).div_ceil(1 << 20));
        vec![ConfigError::at(
            "cache.max_size",
            format!(
                "{BASE} and cache.max_size ({max_size}) are more than {mark} % of the memory's ceiling \
                 ({ceiling}): the cache will be shrunk before it is full; set cache.max_size to at most \
                 {fits}, or allow at least {enough} (memory.ceiling, or memory.max of the control group)"
            ),
        )]
    }
}

impl Stage {
    /// From which percentage of the ceiling on.
    fn mark(self) -> u64 {
        let found = MARKS.iter().find(|(stage, _)| *stage == self);
        found.expect("every stage has a mark").1
    }
}

impl Memory {
    /// Nothing is known of it yet.
    pub(crate) fn new(metrics: MemoryMetrics) -> Self {
        Self(Arc::new(MemoryState {
            metrics,
            ..MemoryState::default()
        }))
    }

    /// What is given up now.
    pub(crate) fn stage(&self) -> Stage {
        let index = usize::from(self.0.stage.load(Ordering::Relaxed));
        MARKS
            .get(index)
            .expect("only indices of stages are stored")
            .0
    }

    /// Waits until the present connections are to end.
    pub(crate) async fn connections_must_end(&self) {
        self.0.connections_must_end.notified().await;
    }

    /// Takes a reading again and again, tells `each` stage, and has `cache` evict what is too much, for
    /// ever; without a ceiling there is nothing to do.
    pub(crate) async fn watch(
        &self,
        config: Config,
        clock: Clock,
        cache: impl Reclaim,
        each: impl Fn(Stage),
    ) {
        let bounds = config.clone();
        let ceiling = spawn_blocking(move || bounds.bound()).await.ok().flatten();
        let Some(ceiling) = ceiling else {
            return;
        };
        let shown = i64::try_from(ceiling).unwrap_or(i64::MAX);
        self.0.metrics.ceiling.set(shown);
        let mut pressure = Pressure::new(ceiling);
        loop {
            let (statm, held) = (config.statm.clone(), cache.clone());
            let reading = spawn_blocking(move || {
                Some(MemoryUse {
                    resident: resident(&statm)?,
                    held: held.held(),
                })
            });
            if let Ok(Some(reading)) = reading.await {
                let (stage, reclaim) = self.take(&mut pressure, reading);
                each(stage);
                if reclaim > 0 {
                    let cache = cache.clone();
                    // A panic in it has been logged.
                    let _ = spawn_blocking(move || cache.reclaim(reclaim)).await;
                }
            }
            clock.sleep(PERIOD).await;
        }
    }

    fn take(&self, pressure: &mut Pressure, reading: MemoryUse) -> (Stage, u64) {
        let (before, measures) = (self.stage(), pressure.judge(reading));
        let (now, in_use, ceiling) = (measures.stage, measures.in_use, pressure.ceiling);
        let index = MARKS.iter().position(|(stage, _)| *stage == now);
        let index = index.and_then(|index| u8::try_from(index).ok());
        let index = index.expect("every stage has a mark, and there are five");
        self.0.stage.store(index, Ordering::Relaxed);
        self.0.metrics.stage.set(index.into());
        let shown = i64::try_from(in_use).unwrap_or(i64::MAX);
        self.0.metrics.in_use.set(shown);
        let MemoryUse { resident, held } = reading;
        if now > before {
            warn!(resident, in_use, held, ceiling, "memory is short: {now:?}");
        } else if now < before {
            info!(
                resident,
                in_use, held, ceiling, "there is memory again: {now:?}"
            );
        }
        if before < Stage::Closing && now >= Stage::Closing {
            self.0.connections_must_end.notify_waiters();
        }
        (now, measures.reclaim)
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

/// The stages, and from which percentage of the ceiling on each begins.
const MARKS: [(Stage, u64); 5] = [
    (Stage::Plenty, 0),
    (Stage::Saving, 85),
    (Stage::Closing, 92),
    (Stage::HitsOnly, 95),
    (Stage::Full, 98),
];
const PERIOD: Duration = Duration::from_millis(250);
/// The process takes about half of it when it has nothing to do.
const SMALLEST_CEILING: Size = Size::mebibytes(32);
/// What it takes beside the cache, as the operating guide has it.
const BASE: Size = Size::mebibytes(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_cannot_fit_is_warned_of_with_what_to_set() {
        let warnings = |ceiling: Option<u64>, cache: u64| {
            let ceiling = ceiling.map(Size::mebibytes);
            Config::warnings_for(ceiling, Size::mebibytes(cache))
        };
        let tight = warnings(Some(64), 256);
        assert_eq!(tight[0].place, "cache.max_size");
        assert_eq!(
            tight[0].message,
            "20MiB and cache.max_size (256MiB) are more than 85 % of the memory's ceiling (64MiB): \
             the cache will be shrunk before it is full; set cache.max_size to at most 34MiB, or \
             allow at least 325MiB (memory.ceiling, or memory.max of the control group)"
        );
        assert!(warnings(Some(325), 256).is_empty());
        assert_eq!(warnings(Some(324), 256).len(), 1);
        assert!(warnings(None, 256).is_empty());
    }

    #[derive(Clone)]
    struct Holder(Arc<std::sync::atomic::AtomicU64>);

    impl Reclaim for Holder {
        fn held(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn reclaim(&self, bytes: u64) {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    #[test]
    fn two_caches_give_back_in_proportion_to_what_they_hold() {
        let holder = |bytes: u64| Holder(Arc::new(bytes.into()));
        for (first, second, left) in [(800, 200, (720, 180)), (0, 1_000, (0, 900))] {
            let both = (holder(first), holder(second));
            both.reclaim(both.held() / 10);
            assert_eq!((both.0.held(), both.1.held()), left);
        }
        (holder(0), holder(0)).reclaim(0);
    }

    #[test]
    fn the_kernel_says_what_this_process_takes() {
        let resident = resident(&Config::default().statm).unwrap();
        assert!(resident > 1 << 20, "{resident}");
        // Whatever it is here, it can be read without harm.
        Config::default().bound();
    }
}
