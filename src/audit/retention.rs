//! Retention: finished files are packed, and the oldest are removed where the configuration says so.
//!
//! A file is packed beside itself, read back, and only then removed. A removal is on record, and on the disk,
//! before the file goes; the record holds the number and the hash of the last record that went, so that the
//! trail itself says why it begins where it does. Whenever the process ends in between, the next round goes on
//! with what it finds. No caller waits for any of this.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::runtime::Handle;

use crate::atlas::Timestamp;
use crate::system::{Clock, in_background};
use crate::telemetry::metrics::audit::AuditMetrics;
use crate::telemetry::{RateLimitedLog, Tally};

use super::chain::Tip;
use super::database::ShippingProgress;
use super::directory::{at, sync_names};
use super::journal::Journal;
use super::listing::{Listing, Packing, Segment, SegmentFile};
use super::record::{Kind, Record, limits};
use super::{Config, chain, listing, reading};

use packing::{pack, remove_parts};

mod packing;

pub(super) struct Retention {
    config: Config,
    journal: Arc<Journal>,
    clock: Clock,
    metrics: AuditMetrics,
    /// Of the central database, if there is one: what it does not have is not removed.
    shipping: Option<Arc<ShippingProgress>>,
}

struct Removal {
    segment: Segment,
    reason: &'static str,
    /// The number with which the segment behind it begins.
    next: u64,
}

impl Retention {
    pub(super) fn new(
        config: &Config,
        journal: &Arc<Journal>,
        clock: &Clock,
        metrics: AuditMetrics,
    ) -> Self {
        Self {
            config: config.clone(),
            journal: Arc::clone(journal),
            clock: clock.clone(),
            metrics,
            shipping: None,
        }
    }

    /// Removes only what was shipped.
    pub(super) fn after(self, shipping: Option<Arc<ShippingProgress>>) -> Self {
        Self { shipping, ..self }
    }

    pub(super) async fn run(self: Arc<Self>) {
        let failures = RateLimitedLog::default();
        loop {
            let (retention, runtime) = (Arc::clone(&self), Handle::current());
            let done = in_background(move || retention.round(&runtime)).await;
            match done.unwrap_or_else(|| Err(io::Error::other("the work was not done"))) {
                Ok(()) => {
                    if failures.is_over(self.clock.elapsed()).is_some() {
                        tracing::info!("finished audit files are packed and removed again");
                    }
                }
                Err(error) => {
                    self.metrics.retention.failures.inc();
                    if let Some(Tally { times, .. }) = failures.happened(self.clock.elapsed()) {
                        tracing::warn!(%error, times, "an audit file could not be packed or removed");
                    }
                }
            }
            self.metrics.retention.rounds.inc();
            self.clock.sleep(ROUND).await;
        }
    }

    /// Removes, then packs. May wait for the disk, and for the journal.
    fn round(&self, runtime: &Handle) -> io::Result<()> {
        let directory = &self.config.directory;
        remove_parts(directory)?;
        let now = self.clock.now().wall;
        for removal in self.over(now)? {
            self.remove(&removal, runtime)?;
        }
        let files = self.unpacked(&listing::list(directory)?, Duration::ZERO, now);
        let heads = self.unpacked(&listing::list_heads(directory)?, HEADS_AFTER, now);
        let heads = heads.into_iter().map(|(file, _)| (file, None));
        let mut first_error = Ok(());
        let files = files.into_iter().map(|(file, next)| (file, Some(next)));
        let files = files.chain(heads);
        // Once the journal is closed the directory may be another process's.
        for (file, next) in files.take_while(|_| !self.journal.has_ended()) {
            match pack(&file, next) {
                Ok(true) => {
                    self.metrics.retention.files_packed.inc();
                }
                // It is not finished yet, or was taken away.
                Ok(false) => (),
                // The others are packed all the same.
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        first_error
    }

    /// The segments that are to be removed, oldest first: a trail has no holes. The newest is being written.
    fn over(&self, now: Timestamp) -> io::Result<Vec<Removal>> {
        let listing = listing::list(&self.config.directory)?;
        let heads = listing::list_heads(&self.config.directory)?.segments;
        let heads = heads.iter().flat_map(Segment::copies).map(|it| it.size);
        let size = |segment: &Segment| removable(segment).map(|copy| copy.size).sum::<u64>();
        let mut total = listing.segments.iter().map(size).sum::<u64>() + heads.sum::<u64>();
        let mut over = Vec::new();
        // Of some only what other programs made of them is left.
        let present = |(segment, _): &(&Segment, _)| removable(segment).next().is_some();
        for (segment, next) in finished(&listing).filter(present) {
            let is_old = |keep| next.start.plus(keep) <= now;
            let reason = if self.config.keep.is_some_and(is_old) {
                "keep"
            } else if self.config.keep_size.is_some_and(|most| total > most.0) {
                "keep_size"
            } else {
                break;
            };
            let is_shipped = |it: &Arc<ShippingProgress>| it.shipped() + 1 >= next.first;
            if !self.shipping.as_ref().is_none_or(is_shipped) {
                break;
            }
            total -= size(segment);
            over.push(Removal {
                segment: segment.clone(),
                reason,
                next: next.first,
            });
        }
        Ok(over)
    }

    /// The files that are to be packed: as the gateway wrote them, whole, and left by agents that follow
    /// them; each with the number with which the segment behind it begins.
    fn unpacked(
        &self,
        listing: &Listing,
        least: Duration,
        now: Timestamp,
    ) -> Vec<(SegmentFile, u64)> {
        if !self.config.compress {
            return Vec::new();
        }
        let after = self.config.compress_after.max(least);
        finished(listing)
            .filter(|(_, next)| next.start.plus(after) <= now)
            .filter_map(|(segment, next)| Some((segment.own_file()?.clone(), next.first)))
            .collect()
    }

    fn remove(&self, removal: &Removal, runtime: &Handle) -> io::Result<()> {
        let directory = &self.config.directory;
        let last = last_before(directory, removal.next)?;
        let write = |record: &mut Record<'_>| removal.write(record, last);
        let submitted = self.journal.submit(Kind::Admin, self.clock.now(), write);
        let recorded = submitted.and_then(|ticket| runtime.block_on(ticket));
        recorded.map_err(io::Error::other)?;
        // A second sink may have taken it in the journal's place, where its word is enough for an answer.
        if !self.journal.health.is_journal_well() {
            return Err(io::Error::other("the journal cannot be written"));
        }
        sync_newest(directory)?;
        remove(directory, &removal.segment)?;
        self.metrics.retention.files_removed.inc();
        let (first, reason) = (removal.segment.first, removal.reason);
        tracing::info!(first, last = last.seq, reason, "removed audit records");
        Ok(())
    }
}

impl Removal {
    fn write(&self, record: &mut Record<'_>, last: Tip) {
        let file = self.segment.best.path.file_name();
        let file = file.and_then(|name| name.to_str());
        let file = file.expect("a listed file has a name that is text");
        record.word("action", "removed");
        record.word("reason", self.reason);
        record.text("file", file, limits::NAME);
        record.put("first_seq", self.segment.first);
        record.put("last_seq", last.seq);
        record.word("last_hash", last.hash);
    }
}

/// The finished segments, oldest first, each with the one behind it.
fn finished(listing: &Listing) -> impl Iterator<Item = (&Segment, &Segment)> {
    let behind = listing.segments.iter().skip(1);
    listing.segments.iter().zip(behind)
}

/// The record before number `next`, by the word of that one: its hash is what a verification compares.
fn last_before(directory: &Path, next: u64) -> io::Result<Tip> {
    let listing = listing::list(directory)?;
    let segment = listing.segments.iter().find(|it| it.first == next);
    let segment = segment.ok_or(io::ErrorKind::NotFound)?;
    let (_, lines) = reading::open_best(directory, segment, None, reading::open)?;
    let mut line = Vec::new();
    lines.take(LONGEST).read_until(b'\n', &mut line)?;
    let found = line.strip_suffix(b"\n").and_then(chain::read);
    match found.filter(|found| found.genuine && found.seq == next) {
        Some(found) => Ok(Tip {
            seq: found.seq - 1,
            hash: found.previous,
        }),
        None => Err(at(
            &segment.best.path,
            &io::Error::other("does not begin with its first record: nothing is removed before it"),
        )),
    }
}

/// Brings to the disk what was written last, which may be in the file before the present one.
fn sync_newest(directory: &Path) -> io::Result<()> {
    let listing = listing::list(directory)?;
    for segment in listing.segments.iter().rev().take(2) {
        segment.best.open()?.sync_data()?;
    }
    sync_names(directory)
}

fn removable(segment: &Segment) -> impl Iterator<Item = &SegmentFile> {
    segment
        .copies()
        .filter(|copy| copy.packing != Packing::Unknown)
}

/// Removes the copies of a segment, and what belongs to it.
///
/// They are listed anew: one may be being packed by another program, and half of it would stay. The best goes last,
/// so that what an interruption leaves is whole.
fn remove(directory: &Path, segment: &Segment) -> io::Result<()> {
    let heads = listing::list_heads(directory)?.segments;
    let heads = heads.iter().filter(|it| it.first <= segment.first);
    let journal = listing::list(directory)?.segments;
    let is_it = |it: &&Segment| (it.first, it.start) == (segment.first, segment.start);
    for segment in heads.chain(journal.iter().filter(is_it)) {
        remove_file(&torn(segment))?;
        let copies: Vec<_> = removable(segment).collect();
        for copy in copies.into_iter().rev() {
            remove_file(&copy.path)?;
        }
    }
    sync_names(directory)
}

/// What a crash left of a segment's last line, under the name that the gateway gave the segment.
fn torn(segment: &Segment) -> PathBuf {
    let path = &segment.best.path;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let own = name.split_once(OWN).map_or(&*name, |(stem, _)| stem);
    path.with_file_name(format!("{own}{OWN}{}", listing::TORN))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // By an operator, or by the round that was interrupted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| at(path, &error)),
    }
}

const ROUND: Duration = Duration::from_mins(1);
/// The last head of a file is written once the file is on the disk.
const HEADS_AFTER: Duration = Duration::from_mins(10);
const OWN: &str = ".jsonl";
const LONGEST: u64 = 16 << 10;
