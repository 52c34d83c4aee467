//! Packers and rotations of others at work on finished files, beside the gateway's own and beside whoever
//! reads: no record is missed, doubled or called false.
//!
//! `AUDIT_ROUNDS=1000 cargo test --test gateway packers -- --nocapture` is the long run.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{env, fs, io, thread};

use atlas_cert_gateway::audit::search::{Filter, Incomplete, Order, Search};
use atlas_cert_gateway::audit::verify::verify;
use atlas_cert_gateway::audit::{HeadVerifier, Sync, search};
use atlas_cert_gateway::settings::Size;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Notify;

use crate::audit::heads::Key;
use crate::audit::trail::{Trail, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packers_beside_a_gateway_that_packs_leave_every_record_readable() {
    rounds(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packers_beside_a_gateway_that_does_not_leave_every_record_readable() {
    rounds(false).await;
}

#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn rounds(compress: bool) {
    let rounds =
        env::var_os("AUDIT_ROUNDS").map_or(ROUNDS, |it| it.into_string().unwrap().parse().unwrap());
    let (mut passes, mut records, mut round) = ([0; 4], 0, 0);
    while round < rounds {
        let key = Key::new();
        let trail = Trail::with(|config| {
            config.rotate_size = Size::kibibytes(64);
            config.compress = compress;
            config.compress_after = Duration::ZERO;
            config.head_key_file = Some(key.path());
            // The clock below runs faster than any disk.
            config.sync = Sync::Never;
        });
        let readers = Readers::of(&trail, &key);
        // A trail that grew without end would be read ever more slowly.
        for _ in 0..ROUNDS_OF_ONE.min(rounds - round) {
            one_round(&trail, &readers, round).await;
            round += 1;
        }
        records += readers.acknowledged.load(Ordering::SeqCst);
        for (sum, more) in passes.iter_mut().zip(readers.end()) {
            *sum += more;
        }
    }
    let [verified, oldest, newest, limited] = passes;
    println!(
        "{rounds} rounds, {records} records; verified {verified} times, searched {oldest} times oldest \
         first, {newest} newest first, {limited} with a limit"
    );
}

/// Records are written, what is finished goes to a packer, and each reader goes over all of it.
async fn one_round(trail: &Trail, readers: &Readers, round: usize) {
    let seen = readers.passes();
    while finished(trail).is_empty() {
        readers.record(trail).await;
    }
    let packers: Vec<_> = finished(trail)
        .into_iter()
        .zip(round..)
        .map(|(file, turn)| thread::spawn(move || PACKERS[turn % PACKERS.len()](&file)))
        .collect();
    trail.advance(Duration::from_secs(61)).await;
    if round.is_multiple_of(3) {
        rotate(trail, readers).await;
    }
    for packer in packers {
        readers.record(trail).await;
        packer.join().unwrap().unwrap();
    }
    shift(trail);
    while readers
        .passes()
        .iter()
        .zip(&seen)
        .any(|(now, then)| now <= then)
    {
        readers.record(trail).await;
        readers.passed.notified().await;
    }
}

/// What somebody else does with a file that is finished. One that another was quicker to take is left.
type Packer = fn(&Path) -> io::Result<()>;

const PACKERS: [Packer; 6] = [
    |file| run("zstd", &["-q", "--rm"], file).or_else(|_| write_zstd(file)),
    |file| run("gzip", &["-q"], file).or_else(|_| write_gzip(file)),
    write_zstd,
    // `dateext`, and `compresscmd zstd`.
    |file| renamed(file, "-20261130").map_or(Ok(()), |it| PACKERS[0](&it)),
    write_gzip,
    // `compress`.
    |file| renamed(file, ".1").map_or(Ok(()), |it| PACKERS[1](&it)),
];

/// Runs a packer. Fails only if it is not installed.
fn run(program: &str, arguments: &[&str], file: &Path) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).stdin(Stdio::null());
    // It complains of files that another has taken.
    command.stderr(Stdio::null()).status().map(drop)
}

fn write_zstd(file: &Path) -> io::Result<()> {
    write_packed(
        file,
        ".zst",
        |packed| zstd::Encoder::new(packed, 1),
        zstd::Encoder::finish,
    )
}

fn write_gzip(file: &Path) -> io::Result<()> {
    let begin = |packed| Ok(GzEncoder::new(packed, Compression::fast()));
    write_packed(file, ".gz", begin, GzEncoder::finish)
}

/// As every packer does it: under the final name from the first byte on, and the source goes last.
fn write_packed<W: Write>(
    file: &Path,
    ending: &str,
    begin: impl FnOnce(File) -> io::Result<W>,
    finish: impl FnOnce(W) -> io::Result<File>,
) -> io::Result<()> {
    let Ok(text) = fs::read(file) else {
        return Ok(());
    };
    let Ok(packed) = File::create_new(with(file, ending)) else {
        return Ok(());
    };
    let mut writer = begin(packed)?;
    for piece in text.chunks(8 << 10) {
        writer.write_all(piece)?;
        writer.flush()?;
        thread::yield_now();
    }
    finish(writer)?.sync_all()?;
    let _ = fs::remove_file(file);
    Ok(())
}

/// The file under its next name; `None` if another has taken it.
fn renamed(file: &Path, ending: &str) -> Option<PathBuf> {
    // Of a rotation that was before this one.
    if !ends(file, "jsonl") {
        return Some(file.to_owned());
    }
    let renamed = with(file, ending);
    // An empty file may have had the same name before it; a rotation would have renamed that once more.
    if renamed.exists() {
        return None;
    }
    fs::rename(file, &renamed).ok().map(|()| renamed)
}

/// Renames the present file and orders the next, and only then lets go of it.
async fn rotate(trail: &Trail, readers: &Readers) {
    let present = files(trail, |it| ends(it, "jsonl")).pop().unwrap();
    if renamed(&present, ".1").is_none() {
        return;
    }
    readers.record(trail).await;
    trail.audit.reopen();
    let is_newer = |file: &PathBuf| number(file) > number(&present);
    trail
        .until(|| files(trail, |_| true).last().is_some_and(is_newer))
        .await;
    readers.record(trail).await;
}

/// `.1.gz` becomes `.2.gz`, as at the next rotation.
fn shift(trail: &Trail) {
    for (old, new) in [(".2.gz", ".3.gz"), (".1.gz", ".2.gz"), (".1.zst", ".2.zst")] {
        for file in files(trail, |it| it.to_str().unwrap().ends_with(old)) {
            let stem = file.to_str().unwrap().strip_suffix(old).unwrap();
            fs::rename(&file, format!("{stem}{new}")).unwrap();
        }
    }
}

/// A trail, and the key that signs its heads.
struct Place {
    directory: PathBuf,
    key: PathBuf,
}

/// Reads all of a trail, up to this record at least.
type Read = fn(&Place, u64);

/// Those that read the trail, over and over.
struct Readers {
    stop: Arc<AtomicBool>,
    /// The number of the last record that was acknowledged.
    acknowledged: Arc<AtomicU64>,
    passes: [Arc<AtomicUsize>; 4],
    /// That one of them has been through the trail once more, or has ended.
    passed: Arc<Notify>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn of(trail: &Trail, key: &Key) -> Self {
        let mut readers = Self {
            stop: Arc::default(),
            // That it was started.
            acknowledged: Arc::new(AtomicU64::new(1)),
            passes: Default::default(),
            passed: Arc::default(),
            threads: Vec::new(),
        };
        let reads: [Read; 4] = [
            check_verification,
            |place, least| {
                let found = found(&place.directory, Order::OldestFirst, usize::MAX);
                assert_whole(&found, least, usize::MAX);
            },
            |place, least| {
                let mut found = found(&place.directory, Order::NewestFirst, usize::MAX);
                found.reverse();
                assert_whole(&found, least, usize::MAX);
            },
            |place, least| {
                let mut found = found(&place.directory, Order::NewestFirst, LIMIT);
                found.reverse();
                assert_whole(&found, least, LIMIT);
            },
        ];
        for (read, passes) in reads.into_iter().zip(&readers.passes) {
            let (stop, passes) = (Arc::clone(&readers.stop), Arc::clone(passes));
            let acknowledged = Arc::clone(&readers.acknowledged);
            let place = Place {
                directory: trail.config.directory.clone(),
                key: key.path(),
            };
            let signal = NotifiesAtEnd(Arc::clone(&readers.passed));
            readers.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    read(&place, acknowledged.load(Ordering::SeqCst));
                    passes.fetch_add(1, Ordering::SeqCst);
                    signal.0.notify_one();
                }
            }));
        }
        readers
    }

    async fn record(&self, trail: &Trail) {
        trail.record("ci").await.unwrap();
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    fn passes(&self) -> [usize; 4] {
        let failed = self.threads.iter().any(JoinHandle::is_finished);
        assert!(!failed, "a reader has found something");
        self.passes.each_ref().map(|it| it.load(Ordering::SeqCst))
    }

    fn end(self) -> [usize; 4] {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.passes.map(|it| it.load(Ordering::SeqCst))
    }
}

/// Of a thread that has found something, too, which ends by a panic.
struct NotifiesAtEnd(Arc<Notify>);

impl Drop for NotifiesAtEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn check_verification(place: &Place, least: u64) {
    let keys = [HeadVerifier::read(&place.key).unwrap()];
    let report = verify(&place.directory, 1, &keys).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!((report.first, report.records), (1, report.last));
    assert!(report.last >= least, "{} {least}", report.last);
    for file in &report.passed_over {
        assert_eq!(
            file.problem, "is a part of a copy of another file",
            "{file}"
        );
    }
}

/// The numbers of the records, in the order in which they are shown. Every file could be read, in one of
/// its copies.
///
/// `zstd` may open the gateway's fresh copy to write the same into it, when it has looked for one just before
/// that was there. Until it is done the copy is cut, and told as that: such a search is made again.
fn found(directory: &Path, order: Order, limit: usize) -> Vec<u64> {
    for _ in 0..1_000 {
        let (found, incomplete) = search_once(directory, order, limit);
        match incomplete.as_slice() {
            [] => return found,
            [cut] if cut.problem == "incomplete frame" => {}
            others => panic!("{order:?}: {others:?}"),
        }
    }
    panic!("a copy stays cut");
}

fn search_once(directory: &Path, order: Order, limit: usize) -> (Vec<u64>, Vec<Incomplete>) {
    let mut found = Vec::new();
    let search = Search {
        directories: &[directory.to_owned()],
        filter: &Filter::default(),
        order,
    };
    let incomplete = search::search(&search, &|_| (), |record| {
        found.push(record.seq);
        if found.len() == limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    (found, incomplete.unwrap())
}

/// The last of them was acknowledged at least as late as `least`, and there is every one before it.
fn assert_whole(found: &[u64], least: u64, limit: usize) {
    let newest = *found.last().unwrap();
    assert!(newest >= least, "{newest} {least}");
    let limit = u64::try_from(limit).unwrap();
    let whole: Vec<_> = (newest.saturating_sub(limit) + 1..=newest).collect();
    assert_eq!(found, whole);
}

/// Files that nobody has packed and the gateway no longer writes to, oldest first.
fn finished(trail: &Trail) -> Vec<PathBuf> {
    let mut finished = files(trail, |it| !ends(it, "gz") && !ends(it, "zst"));
    finished.pop();
    // No rotation has two files of one name at a time.
    finished.dedup_by_key(|file| stem(file));
    finished
}

/// The files of the journal whose names are so, oldest first.
fn files(trail: &Trail, is_wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut files = trail.files();
    files.retain(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("lookups-") && is_wanted(file)
    });
    files
}

fn ends(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|it| it == ending)
}

/// What the gateway has named it.
fn stem(file: &Path) -> String {
    let name = file.to_str().unwrap();
    name.split_once(".jsonl").unwrap().0.to_owned()
}

fn with(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", file.display()))
}

/// More than a file holds.
const LIMIT: usize = 250;
const ROUNDS: usize = 8;
const ROUNDS_OF_ONE: usize = 12;
