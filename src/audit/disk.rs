//! How much of the trail's disk is free: while less is left than the reserve, refusals have no records of their
//! own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use rustix::fs::statvfs;

use crate::system::{Clock, may_wait};
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Config;

#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    /// Says how many bytes are free, in place of the kernel.
    free: Option<PathBuf>,
    reserve: u64,
    is_short: AtomicBool,
    metrics: AuditMetrics,
}

impl Disk {
    pub(super) fn new(config: &Config, metrics: AuditMetrics) -> Arc<Self> {
        metrics.reserve_bytes.set(whole(config.reserve.0));
        let disk = Self {
            directory: config.directory.clone(),
            free: config.disk_free.clone(),
            reserve: config.reserve.0,
            is_short: AtomicBool::new(false),
            metrics,
        };
        disk.measure_free();
        disk.measure_directory();
        Arc::new(disk)
    }

    /// Measures once a second, where a thread may wait for the disk.
    pub(super) async fn watch(self: Arc<Self>, clock: Clock) {
        for seconds in 1_u64.. {
            clock.sleep(Duration::from_secs(1)).await;
            let disk = Arc::clone(&self);
            may_wait(move || {
                disk.measure_free();
                // A long trail has thousands of files.
                if seconds.is_multiple_of(10) {
                    disk.measure_directory();
                }
            })
            .await;
        }
    }

    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    fn measure_free(&self) {
        let free = match self.free() {
            Ok(free) => free,
            Err(error) => {
                tracing::debug!(%error, "how much of the audit trail's disk is free is not known");
                return;
            }
        };
        let was_short = self.is_short();
        // The reserve is left a little above where it is entered, so that it does not come and go.
        let slack = if was_short { self.reserve / SLACK } else { 0 };
        let is_short = free < self.reserve.saturating_add(slack);
        self.is_short.store(is_short, Ordering::Relaxed);
        self.metrics.disk_free_bytes.set(whole(free));
        let reserve = self.reserve;
        if is_short && !was_short {
            tracing::warn!(
                free,
                reserve,
                "the audit trail's disk is nearly full: there is one record a minute for all refusals"
            );
        } else if was_short && !is_short {
            tracing::info!(
                free,
                reserve,
                "the audit trail's disk has enough space again"
            );
        }
    }

    fn measure_directory(&self) {
        if let Ok(bytes) = taken(&self.directory) {
            self.metrics.directory_bytes.set(whole(bytes));
        }
    }

    fn free(&self) -> io::Result<u64> {
        if let Some(file) = &self.free {
            let text = fs::read_to_string(file)?;
            return text.trim().parse().map_err(io::Error::other);
        }
        let disk = statvfs(&self.directory)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

fn taken(directory: &Path) -> io::Result<u64> {
    let sizes = fs::read_dir(directory)?.filter_map(|entry| {
        // One that is gone takes nothing.
        let metadata = entry.ok()?.metadata().ok()?;
        Some(metadata.blocks().saturating_mul(BLOCK))
    });
    Ok(sizes.sum())
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The reserve is left once an eighth of it is free beyond it.
const SLACK: u64 = 8;
/// stat(2) counts in these.
const BLOCK: u64 = 512;
