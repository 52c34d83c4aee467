//! The usual `process_*` metrics: `/proc/self` goes in, Prometheus text comes out.

use std::fmt::Write;
use std::fs;

/// The metrics that every Prometheus client library has for its process. What `/proc` does not tell is
/// left out. Waits for the kernel.
pub(super) fn page() -> String {
    let mut page = String::new();
    render(&mut page);
    page
}

fn render(page: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let number = |field: usize| fields.get(field)?.parse::<f64>().ok();
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100));
    let page_size = f64::from(u32::try_from(rustix::param::page_size()).unwrap_or(4_096));
    let cpu = number(USER_TICKS)
        .zip(number(SYSTEM_TICKS))
        .map(|(user, system)| (user + system) / ticks);
    let began = boot_time()
        .zip(number(START_TICKS))
        .map(|(boot, start)| boot + start / ticks);
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(
                page,
                "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}"
            );
        }
    };
    metric(
        "cpu_seconds_total",
        "counter",
        "User and system CPU time spent",
        cpu,
    );
    metric(
        "resident_memory_bytes",
        "gauge",
        "Resident memory",
        number(RESIDENT_PAGES).map(|pages| pages * page_size),
    );
    metric(
        "virtual_memory_bytes",
        "gauge",
        "Virtual memory",
        number(VIRTUAL_BYTES),
    );
    metric("threads", "gauge", "Threads", number(THREADS));
    metric(
        "start_time_seconds",
        "gauge",
        "Start of the process since the Unix epoch",
        began,
    );
    metric(
        "open_fds",
        "gauge",
        "Open file descriptors",
        open_descriptors(),
    );
    metric(
        "max_fds",
        "gauge",
        "Limit on open file descriptors",
        most_descriptors(),
    );
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn open_descriptors() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

fn most_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
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
