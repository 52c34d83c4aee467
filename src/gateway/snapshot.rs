//! The snapshot: the lists in memory, sealed on the disk, from which the next process goes on while Atlas is down.
//!
//! There is a file for each credential, because each list is sealed with the secret of the credential that serves
//! its project. It is written beside the old one, brought to the disk and renamed over it.
//!
//! **A purge does not come back.** Before a purge is answered the files are gone from the disk, and one that was
//! being written meanwhile is thrown away: each purge raises the generation that a new file needs.

mod sealed;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use self::sealed::{SealedReader, SealedWriter};
use self::text::{ReadList, ReadSnapshot, ReadingTime, SnapshotHead};
use crate::atlas::CertQuery;
use crate::cache::{Cache, KeyedEntry, RestoredList};
use crate::system::Clock;
use crate::system::private_files::{self, DirectoryFault, PrivateDirectory};
use crate::telemetry::metrics::cache::{CacheMetrics, NotRestored};
use crate::telemetry::{RateLimitedLog, Tally};
use crate::upstream::ListSeal;

/// The snapshot of this process, and what it has found of the one before.
pub(crate) struct Snapshot {
    directory: PathBuf,
    /// How many bytes of lists it holds at most.
    most: u64,
    clock: Clock,
    metrics: CacheMetrics,
    owned: Mutex<Option<PrivateDirectory>>,
    /// Whether the directory is the next process's.
    is_left: AtomicBool,
    /// Held while files are renamed or removed, by threads that may wait.
    state: Mutex<SnapshotState>,
    seen: Mutex<SnapshotSeen>,
    /// Held while files are written: one writer at a time.
    writing: Mutex<()>,
    failures: RateLimitedLog,
}

#[derive(Default)]
struct SnapshotState {
    generation: u64,
    /// What a former process has left and is not taken over yet: then nothing is written over it.
    former: Option<FormerLists>,
}

/// What operators see of it; never held while a disk is waited for.
#[derive(Default)]
struct SnapshotSeen {
    /// Why the last attempt to write or to remove has failed.
    fault: Option<String>,
    /// When it was written, by [`Moment::elapsed`](crate::system::Moment::elapsed).
    written_at: Option<Duration>,
}

/// What a former process has left.
#[derive(Default)]
pub(crate) struct FormerLists {
    pub(crate) lists: Vec<(CertQuery, RestoredList)>,
    /// The last event of its fleet that it had heard; `None` where the files do not agree.
    pub(crate) place: Option<String>,
}

/// New files that lie beside the old ones.
struct NewSnapshot {
    generation: u64,
    files: io::Result<Vec<NewFile>>,
    /// By [`Moment::elapsed`](crate::system::Moment::elapsed).
    written_at: Duration,
}

/// A file that was written, and its place.
struct NewFile {
    beside: PathBuf,
    path: PathBuf,
}

impl Snapshot {
    /// Makes the directory this process's own.
    pub(crate) fn take(
        directory: PathBuf,
        most: u64,
        clock: Clock,
        metrics: CacheMetrics,
    ) -> Result<Self, DirectoryFault> {
        let owned = PrivateDirectory::take(&directory)?;
        Ok(Self {
            directory,
            most,
            clock,
            metrics,
            owned: Mutex::new(Some(owned)),
            is_left: AtomicBool::new(false),
            state: Mutex::default(),
            seen: Mutex::default(),
            writing: Mutex::default(),
            failures: RateLimitedLog::default(),
        })
    }

    /// Leaves the directory to the next process. What is still being written is not put in place.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::SeqCst);
        *self.owned.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why it could not be written, or removed, the last time.
    pub(crate) fn fault(&self) -> Option<String> {
        self.seen().fault.clone()
    }

    /// Brings the gauge of its age up to date; for a scrape.
    pub(crate) fn measure(&self) {
        let now = self.clock.elapsed();
        let age = self.seen().written_at.map(|at| now.saturating_sub(at));
        let age = age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.metrics.snapshot_age.set(age);
    }

    /// Reads what the last process has left, and keeps it until it is [taken](Snapshot::take_former). Says the names
    /// of all lists in it, also of those that are too old; `None` where there is no snapshot. Waits for the disk.
    pub(crate) fn read(&self, seals: &[ListSeal]) -> Option<Vec<CertQuery>> {
        let time = self.reading_time();
        let (mut former, mut names, mut places) = (FormerLists::default(), Vec::new(), Vec::new());
        for seal in seals {
            let path = self.path(seal);
            let ReadSnapshot { head, lists } = match self.read_file(&path, seal, &time) {
                Ok(Some(read)) => read,
                Ok(None) => continue,
                Err(why) => {
                    self.metrics.not_restored(why);
                    places.push(None);
                    continue;
                }
            };
            for ReadList { query, list } in lists {
                let serves = seals.iter().find(|seal| seal.covers(&query.project));
                let list = match serves {
                    Some(serves) if serves.id() == seal.id() => list,
                    Some(_) | None => Err(NotRestored::Credential),
                };
                names.push(query.clone());
                match list {
                    Ok(list) => former.lists.push((query, list)),
                    Err(why) => self.metrics.not_restored(why),
                }
            }
            places.push(head.place);
        }
        let first = places.first()?.clone();
        former.place = first.filter(|_| places.windows(2).all(|two| two.first() == two.last()));
        self.state().former = Some(former);
        Some(names)
    }

    /// Hands out what the last process has left, if no purge has come since it was read, for as long as no purge
    /// can come: `take_over` puts it in place.
    pub(crate) fn take_former(&self, take_over: impl FnOnce(FormerLists)) {
        let mut state = self.state();
        if let Some(former) = state.former.take() {
            take_over(former);
        }
    }

    /// Before a purge: what is written from now on, is written of what it leaves.
    pub(crate) fn begin_purge(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.former = None;
    }

    /// After a purge and before its answer: no file with what was purged is left on the disk.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut state = self.state();
        state.generation += 1;
        state.former = None;
        let removed = self
            .files()
            .and_then(|files| files.iter().try_for_each(fs::remove_file))
            .and_then(|()| self.sync_directory());
        drop(state);
        self.note(removed.as_ref().err(), None);
        removed
    }

    /// Writes what the cache holds. `place` is the last event of the fleet that was heard before. Waits for the disk.
    pub(crate) fn write(&self, cache: &Cache, seals: &[ListSeal], place: Option<String>) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = self.write_beside(cache, seals, place) {
            self.put_in_place(new);
        }
    }

    /// Writes new files beside the old ones; `None` while what a former process has left is not taken over.
    fn write_beside(
        &self,
        cache: &Cache,
        seals: &[ListSeal],
        place: Option<String>,
    ) -> Option<NewSnapshot> {
        let generation = {
            let state = self.state();
            if state.former.is_some() {
                return None;
            }
            state.generation
        };
        let time = self.reading_time();
        let lists = cache.lists(self.most, time.now);
        let head = SnapshotHead::new(&time, place);
        let files = seals.iter().filter_map(|seal| {
            let serves = |query: &CertQuery| {
                let mut seals = seals.iter();
                let serves = seals.find(|it| it.covers(&query.project));
                serves.is_some_and(|it| it.id() == seal.id())
            };
            let lists = lists.iter().filter(|(query, _)| serves(query));
            let lists: Vec<&KeyedEntry> = lists.collect();
            (!lists.is_empty()).then(|| self.write_file(seal, &head, &lists, &time))
        });
        Some(NewSnapshot {
            generation,
            files: files.collect(),
            written_at: time.now.elapsed,
        })
    }

    /// Renames new files over the old ones, if no purge has come since they were begun.
    fn put_in_place(&self, new: NewSnapshot) {
        let state = self.state();
        let is_left = self.is_left.load(Ordering::SeqCst);
        let is_good = state.generation == new.generation && !is_left;
        let placed = new.files.and_then(|files| {
            if is_good {
                self.rename(&files)
            } else {
                // They hold what was purged since.
                let mut files = files.iter();
                files.try_for_each(|file| fs::remove_file(&file.beside))
            }
        });
        drop(state);
        self.note(placed.as_ref().err(), is_good.then_some(new.written_at));
    }

    fn write_file(
        &self,
        seal: &ListSeal,
        head: &SnapshotHead,
        lists: &[&KeyedEntry],
        time: &ReadingTime,
    ) -> io::Result<NewFile> {
        let path = self.path(seal);
        let (file, beside) = private_files::beside(&path)?;
        let mut sealed = SealedWriter::begin(BufWriter::new(file), |salt| seal.key(salt))?;
        text::write(&mut sealed, head, lists, time.now)?;
        let mut file = sealed.finish()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(NewFile { beside, path })
    }

    fn rename(&self, files: &[NewFile]) -> io::Result<()> {
        for NewFile { beside, path } in files {
            fs::rename(beside, path)?;
        }
        // Those of a credential that has no lists any more.
        let new: HashSet<&PathBuf> = files.iter().map(|file| &file.path).collect();
        for old in self.files()?.iter().filter(|old| !new.contains(old)) {
            fs::remove_file(old)?;
        }
        self.sync_directory()
    }

    fn read_file(
        &self,
        path: &Path,
        seal: &ListSeal,
        time: &ReadingTime,
    ) -> Result<Option<ReadSnapshot>, NotRestored> {
        let file = match private_files::open(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(why) => {
                let aside = private_files::set_aside(path);
                let aside =
                    aside.map_or_else(|error| error.to_string(), |it| it.display().to_string());
                warn!(file = %path.display(), aside, "a snapshot of lists is not taken over: {why}");
                return Err(NotRestored::Unfit);
            }
        };
        // Frames and heads come on top of the lists, which are packed.
        let longest = self.most.saturating_mul(2).saturating_add(FILE_OVERHEAD);
        let read = file.metadata().and_then(|found| {
            if found.len() > longest {
                return Err(io::Error::other("it is too large"));
            }
            let file = BufReader::new(file);
            let mut opened = SealedReader::begin(file, |salt| seal.key(salt))?;
            text::read(&mut opened, time)
        });
        read.map(Some).map_err(|why| {
            warn!(file = %path.display(), "a snapshot of lists is not taken over: {why}");
            NotRestored::Damaged
        })
    }

    fn reading_time(&self) -> ReadingTime {
        ReadingTime {
            now: self.clock.now(),
            boot: self.clock.boot(),
        }
    }

    /// The files that the next process would read.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let ours = |path: &PathBuf| path.extension().is_some_and(|ending| ending == ENDING);
        paths
            .filter(|path| path.as_ref().map_or(true, ours))
            .collect()
    }

    fn sync_directory(&self) -> io::Result<()> {
        match File::open(&self.directory) {
            Ok(directory) => directory.sync_all(),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, seal: &ListSeal) -> PathBuf {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = seal.id().replace(|c| !is_plain(c), "-");
        self.directory.join(format!("{name}.{ENDING}"))
    }

    /// Notes how an attempt has ended; without a failure, when what is on the disk now was written.
    fn note(&self, error: Option<&io::Error>, written_at: Option<Duration>) {
        let mut seen = self.seen();
        seen.fault = error.map(|error| format!("it cannot be written or removed: {error}"));
        if error.is_none() {
            seen.written_at = written_at;
        }
        drop(seen);
        let now = self.clock.elapsed();
        match error {
            Some(error) => {
                self.metrics.snapshot_failures.inc();
                if let Some(Tally { times, .. }) = self.failures.happened(now) {
                    error!(times, directory = %self.directory.display(), "the snapshot of lists cannot be written: {error}");
                }
            }
            None => {
                if let Some(Tally { times, .. }) = self.failures.is_over(now) {
                    info!(times, "the snapshot of lists is written again");
                }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, SnapshotSeen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, SnapshotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ENDING: &str = "lists";
const FILE_OVERHEAD: u64 = 1 << 20;
