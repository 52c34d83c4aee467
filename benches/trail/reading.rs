//! Reading the trail back, through the binary and in the library, and what it takes.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atlas_cert_gateway::audit::search::{Filter, Order, Search, search};
use atlas_cert_gateway::system::Clock;

/// What a run of the binary came to.
pub(crate) struct Run {
    pub(crate) out: Vec<u8>,
    pub(crate) took: Duration,
    /// User and system time of the process.
    pub(crate) cpu: Duration,
}

impl Run {
    pub(crate) fn lines(&self) -> u64 {
        memchr::memchr_iter(b'\n', &self.out)
            .count()
            .try_into()
            .unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }
}

/// Runs `atlas-cert-gateway audit COMMAND DIRECTORY OPTIONS..`, which has to end well and complain of nothing.
pub(crate) fn audit(command: &str, directory: &Path, options: &[&str]) -> Run {
    let clock = Clock::system();
    let before = children();
    let output = Command::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"))
        .args(["audit", command])
        .arg(directory)
        .args(options)
        .output()
        .unwrap();
    let took = clock.elapsed();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{complaint}{said}");
    assert_eq!(complaint, "");
    Run {
        out: output.stdout,
        took,
        cpu: children().saturating_sub(before),
    }
}

/// User and system time of all children that have ended.
fn children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // From `state`, the third, on; `cutime` and `cstime` are the sixteenth and seventeenth.
    let ticks = fields.split(' ').skip(13).take(2);
    let ticks: u64 = ticks.map(|it| it.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// What a search in the library came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) records: u64,
    /// Of lines, with their ends.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// Searches in the library; every file has to be read as a whole.
pub(crate) fn find(directory: &Path, filter: &Filter, order: Order) -> Found {
    let clock = Clock::system();
    let mut found = Found::default();
    let wanted = Search {
        directories: &[directory.to_owned()],
        filter,
        order,
    };
    let incomplete = search(&wanted, &|_| (), |record| {
        found.records += 1;
        found.bytes += u64::try_from(record.line.len()).unwrap() + 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(incomplete, []);
    found.took = clock.elapsed();
    found
}
