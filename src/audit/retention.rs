//! What becomes of finished files: they are packed, and the oldest are removed where the configuration says
//! so.
//!
//! A file is packed beside itself, read back, and only then removed. A removal is on record, and on the disk,
//! before the file goes; the record holds the number and the hash of the last record that went, so that the
//! trail itself says why it begins where it does. Whenever the process ends in between, the next round goes
//! on with what it finds. Nothing here waits for a caller, nor a caller for it.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use crate::atlas::Timestamp;
use crate::system::{Clock, in_background};
use crate::telemetry::metrics::audit::AuditMetrics;
use crate::telemetry::{RateLimitedLog, Tally};

use super::chain::Tip;
use super::directory::{at, sync_names};
use super::journal::Journal;
use super::listing::{Listing, Packing, Segment, SegmentFile};
use super::record::{Kind, Record, limits};
use super::{Config, chain, listing, reading};

use packing::{pack, remove_parts};

mod packing;

/// Packs and removes finished files, once a minute.
pub(super) struct Retention {
    directory: PathBuf,
    limits: Limits,
    journal: Arc<Journal>,
    clock: Clock,
    metrics: AuditMetrics,
}

/// How long finished files stay as they are, and how long, and how many, stay at all.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    /// After which they are packed; `None` if never.
    pack_after: Option<Duration>,
    keep: Option<Duration>,
    /// In bytes.
    keep_size: Option<u64>,
}

/// A file that is to be removed, and why.
#[derive(Debug)]
struct Removal {
    segment: Segment,
    reason: Reason,
    /// The number with which the segment behind it begins.
    next: u64,
}

/// A finished file that is to be packed.
#[derive(Debug)]
struct Unpacked {
    file: SegmentFile,
    /// The number with which the segment behind it begins.
    next: u64,
}

/// The setting that wants a file removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Keep,
    KeepSize,
}

impl Limits {
    fn of(config: &Config) -> Self {
        Self {
            pack_after: config.compress.then_some(config.compress_after),
            keep: config.keep,
            keep_size: config.keep_size.map(|size| size.0),
        }
    }

    /// The segments that are over, oldest first: a trail has no holes. The newest is being written.
    fn over(self, listing: &Listing, heads: u64, now: Timestamp) -> Vec<Removal> {
        let size = |segment: &Segment| removable(segment).map(|copy| copy.size).sum::<u64>();
        let mut total = listing.segments.iter().map(size).sum::<u64>() + heads;
        let mut over = Vec::new();
        // Of some there is only left what somebody else made of them.
        let present = |(segment, _): &(&Segment, _)| removable(segment).next().is_some();
        for (segment, next) in finished(listing).filter(present) {
            let is_old = |keep| next.start.plus(keep) <= now;
            let reason = if self.keep.is_some_and(is_old) {
                Reason::Keep
            } else if self.keep_size.is_some_and(|most| total > most) {
                Reason::KeepSize
            } else {
                break;
            };
            total -= size(segment);
            over.push(Removal {
                segment: segment.clone(),
                reason,
                next: next.first,
            });
        }
        over
    }

    /// The files that are to be packed: as the gateway wrote them, whole, and left by agents that follow
    /// them.
    fn unpacked(self, listing: &Listing, least: Duration, now: Timestamp) -> Vec<Unpacked> {
        let Some(after) = self.pack_after.map(|after| after.max(least)) else {
            return Vec::new();
        };
        finished(listing)
            .filter(|(_, next)| next.start.plus(after) <= now)
            .filter_map(|(segment, next)| {
                Some(Unpacked {
                    file: segment.own_file()?.clone(),
                    next: next.first,
                })
            })
            .collect()
    }
}

impl Retention {
    pub(super) fn new(
        config: &Config,
        journal: &Arc<Journal>,
        clock: &Clock,
        metrics: AuditMetrics,
    ) -> Self {
        Self {
            directory: config.directory.clone(),
            limits: Limits::of(config),
            journal: Arc::clone(journal),
            clock: clock.clone(),
            metrics,
        }
    }

    /// Goes on until it is aborted.
    pub(super) async fn run(self) {
        let troubles = RateLimitedLog::default();
        loop {
            match self.go_round().await {
                Ok(()) => {
                    if troubles.is_over(self.clock.elapsed()).is_some() {
                        tracing::info!("finished audit files are packed and removed again");
                    }
                }
                Err(error) => {
                    self.metrics.retention_failures.inc();
                    if let Some(Tally { times, .. }) = troubles.happened(self.clock.elapsed()) {
                        tracing::warn!(%error, times, "an audit file could not be packed or removed");
                    }
                }
            }
            self.clock.sleep(ROUND).await;
        }
    }

    async fn go_round(&self) -> io::Result<()> {
        let directory = self.directory.clone();
        background(move || remove_parts(&directory)).await?;
        let now = self.clock.now().wall;
        let listing = self.list().await?;
        for removal in self
            .limits
            .over(&listing.journal, listing.heads_size(), now)
        {
            self.remove(removal).await?;
        }
        let listing = self.list().await?;
        let mut first_error = Ok(());
        let files = self.limits.unpacked(&listing.journal, Duration::ZERO, now);
        let heads = self.limits.unpacked(&listing.heads, HEADS_AFTER, now);
        let files = files.into_iter().map(|it| (it.file, Some(it.next)));
        let heads = heads.into_iter().map(|it| (it.file, None));
        for (file, next) in files.chain(heads) {
            match background(move || pack(&file, next)).await {
                Ok(true) => {
                    self.metrics.files_packed.inc();
                }
                // It is not finished yet, or somebody else has taken it.
                Ok(false) => (),
                // The others are packed all the same.
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        first_error
    }

    async fn list(&self) -> io::Result<Listings> {
        let directory = self.directory.clone();
        background(move || {
            Ok(Listings {
                journal: listing::list(&directory)?,
                heads: listing::list_heads(&directory)?,
            })
        })
        .await
    }

    async fn remove(&self, removal: Removal) -> io::Result<()> {
        let directory = self.directory.clone();
        let next = removal.next;
        let last = background(move || last_before(&directory, next)).await?;
        let now = self.clock.now();
        let write = |record: &mut Record<'_>| removal.write(record, last);
        let submitted = self.journal.submit(Kind::Admin, now, write);
        let ticket = submitted.map_err(io::Error::other)?;
        ticket.await.map_err(io::Error::other)?;
        // A second sink may have taken it in the journal's place, where its word is enough for an answer.
        if !self.journal.health.is_journal_well() {
            return Err(io::Error::other("the journal cannot be written"));
        }
        let directory = self.directory.clone();
        let reason = removal.reason.word();
        let first = removal.segment.first;
        background(move || {
            sync_newest(&directory)?;
            remove(&directory, &removal.segment)
        })
        .await?;
        self.metrics.files_removed.inc();
        tracing::info!(first, last = last.seq, reason, "removed audit records");
        Ok(())
    }
}

impl Removal {
    fn write(&self, record: &mut Record<'_>, last: Tip) {
        let file = self.segment.best.path.file_name();
        let file = file.and_then(|name| name.to_str());
        record.word("action", "removed");
        record.word("reason", self.reason.word());
        let file = file.expect("a listed file has a name that is text");
        record.text("file", file, limits::NAME);
        record.put("first_seq", self.segment.first);
        record.put("last_seq", last.seq);
        record.word("last_hash", last.hash);
    }
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::KeepSize => "keep_size",
        }
    }
}

struct Listings {
    journal: Listing,
    heads: Listing,
}

impl Listings {
    fn heads_size(&self) -> u64 {
        let copies = self.heads.segments.iter().flat_map(Segment::copies);
        copies.map(|copy| copy.size).sum()
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
    let place = line.strip_suffix(b"\n").and_then(chain::read);
    match place.filter(|place| place.genuine && place.seq == next) {
        Some(place) => Ok(Tip {
            seq: place.seq - 1,
            hash: place.previous,
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

/// The copies of a segment that are the journal's own, the best first.
fn removable(segment: &Segment) -> impl Iterator<Item = &SegmentFile> {
    segment
        .copies()
        .filter(|copy| copy.packing != Packing::Unknown)
}

/// Removes the copies of a segment, and what belongs to it.
///
/// They are listed anew: somebody may have begun to pack one, and half of it would stay. The best goes last,
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

async fn background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let lost = || Err(io::Error::other("the work was not done"));
    in_background(work).await.unwrap_or_else(lost)
}

const ROUND: Duration = Duration::from_mins(1);
/// The last head of a file is written once the file is on the disk.
const HEADS_AFTER: Duration = Duration::from_mins(10);
/// What the gateway's own names end in.
const OWN: &str = ".jsonl";
const LONGEST: u64 = 16 << 10;
