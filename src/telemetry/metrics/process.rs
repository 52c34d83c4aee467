//! Metrics of the process: the usual `process_*` from `/proc/self`, its memory, its log, its configuration.

use std::fmt::Write;
use std::fs;
use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Register;

/// Handles to the metrics of memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryMetrics {
    pub(crate) stage: Gauge,
    pub(crate) ceiling: Gauge,
    pub(crate) in_use: Gauge,
}

#[derive(Clone, Debug)]
pub(crate) struct ReloadMetrics {
    refused: Counter,
    taken: Counter,
    last_taken: Gauge,
}

impl MemoryMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            stage: registry.gauge(
                "memory_stage",
                "What is given up for want of memory: 0 nothing, 1 renewing ahead and a part of the cache, 2 \
                 kept connections, 3 misses, 4 new connections",
            ),
            ceiling: registry.gauge(
                "memory_ceiling_bytes",
                "What the process may take; 0 if nothing bounds it",
            ),
            in_use: registry.gauge(
                "memory_in_use_bytes",
                "What the process takes without what the cache has let go of and the allocator has kept; 0 if \
                 nothing bounds it",
            ),
        }
    }
}

impl ReloadMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let [refused, taken] = registry.add_counters(
            "config_reloads",
            "Times that the configuration was read again, by result",
            "result",
            ["refused", "taken"],
        );
        let last_taken = registry.gauge(
            "config_last_reload_successful",
            "Whether the configuration that was read last is in place",
        );
        // The one that the process was started with was taken.
        last_taken.set(1);
        Self {
            refused,
            taken,
            last_taken,
        }
    }

    pub(crate) fn reloaded(&self, taken: bool) {
        if taken { &self.taken } else { &self.refused }.inc();
        self.last_taken.set(taken.into());
    }
}

/// Lines of the log that were dropped. A process has one standard error, and so one of these.
pub(crate) fn log_lines_dropped() -> Counter {
    static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);
    DROPPED.clone()
}

/// What every Prometheus client library tells of its process, as text. What `/proc` does not tell is left
/// out. Waits for the kernel.
pub(super) fn page() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let number = |field: usize| fields.get(field)?.parse::<f64>().ok();
    let small = |value: u64| f64::from(u32::try_from(value).expect("the kernel's units are small"));
    let ticks = small(rustix::param::clock_ticks_per_second());
    let page_size = u64::try_from(rustix::param::page_size()).expect("a page fits into 64 bits");
    let cpu = number(USER_TICKS).zip(number(SYSTEM_TICKS));
    let began = boot_time().zip(number(START_TICKS));
    let descriptors = fs::read_dir("/proc/self/fd").map(Iterator::count);
    let descriptors = descriptors.ok().and_then(|count| u32::try_from(count).ok());
    let resident = number(RESIDENT_PAGES).map(|pages| pages * small(page_size));
    let metrics = [
        (
            "cpu_seconds_total counter",
            "User and system CPU time spent",
            cpu.map(|(user, system)| (user + system) / ticks),
        ),
        ("resident_memory_bytes gauge", "Resident memory", resident),
        (
            "virtual_memory_bytes gauge",
            "Virtual memory",
            number(VIRTUAL_BYTES),
        ),
        ("threads gauge", "Threads", number(THREADS)),
        (
            "start_time_seconds gauge",
            "Start of the process since the Unix epoch",
            began.map(|(boot, start)| boot + start / ticks),
        ),
        (
            "open_fds gauge",
            "Open file descriptors",
            descriptors.map(f64::from),
        ),
        (
            "max_fds gauge",
            "Limit on open file descriptors",
            most_descriptors(),
        ),
    ];
    let mut page = String::new();
    for (metric, help, value) in metrics {
        let name = metric.split(' ').next().expect("a split has a first part");
        if let Some(value) = value {
            let text = format_args!(
                "# HELP process_{name} {help}\n# TYPE process_{metric}\nprocess_{name} {value}"
            );
            writeln!(page, "{text}").expect("a string takes all that is written");
        }
    }
    page
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn most_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

// proc(5), /proc/pid/stat, counted from the third field, the state.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory_its_descriptors_and_its_start() {
        let page = page();
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
        ] {
            let prefix = format!("process_{name} ");
            let value = page
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{name} {value}");
        }
    }
}
