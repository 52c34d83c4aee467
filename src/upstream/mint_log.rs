//! Mint log: which access tokens an account has asked for in the last hour; written before each request is
//! sent, and read by the next process.
//!
//! Atlas keeps at most 100 tokens of an account alive and mints at most 10 a minute; beyond that it refuses
//! for up to an hour. A process that is started and killed in a loop would get there. So what was asked for
//! survives the process (G25), and the machine once the disk has it.
//!
//! A request is dated by the calendar, for the next process; in this one it ages by the time that passes,
//! whatever the calendar says. The file is believed as far as it can be true: a request from the future was
//! made before the calendar was set back, so it was made now at the latest, and the others as much before it
//! as they say. What is damaged is set aside, and then less is minted at first than would be allowed.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use tracing::warn;

use super::state;
use crate::system::Moment;

pub(super) struct MintLog {
    path: PathBuf,
    /// The file as it was last replaced, at its end.
    file: Option<File>,
    /// A check writes nothing.
    writes: bool,
    mints: Vec<Mint>,
}

/// A token was asked for, and maybe none came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mint {
    seconds: i64,
    /// By [`Moment::elapsed`]: from then on no token of it lives.
    ends: Duration,
    in_vain: bool,
}

type LogLine = (i64, bool);

impl MintLog {
    /// Opens the log of one account, and leaves out what has expired.
    pub(super) fn open(path: PathBuf, now: Moment, writes: bool) -> Self {
        let (content, fault) = match state::read(&path, LARGEST) {
            Ok(None) => (Vec::new(), None),
            Ok(Some(content)) if content.is_cut => {
                (content.bytes, Some("it is too large".to_owned()))
            }
            Ok(Some(content)) => (content.bytes, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        let (mut lines, is_foreign) = parse(&content, fault.is_some());
        let fault = fault.or_else(|| is_foreign.then(|| "it has lines of others".to_owned()));
        if bring_back(&mut lines, now) {
            warn!(file = %path.display(), "the mint log is dated ahead of the clock");
        }
        let read = lines.into_iter().filter_map(|line| Mint::read(line, now));
        let mut log = Self {
            path,
            file: None,
            writes,
            mints: read.collect(),
        };
        if let Some(why) = fault {
            log.mints.extend([Mint::new(now, true); ASSUMED]);
            log.set_aside(&why);
        }
        // So that the next process knows as much, whatever becomes of this one.
        if let Err(error) = log.write() {
            warn!(file = %log.path.display(), %error, "cannot write the mint log");
        }
        log
    }

    /// Whether a token may be asked for now; otherwise how long not.
    pub(super) fn may_mint(&self, now: Duration) -> Result<(), Duration> {
        let age = |mint: &Mint| LIFETIME.saturating_sub(mint.ends.saturating_sub(now));
        let live = || self.mints.iter().filter(|mint| now < mint.ends);
        let bound = |ages: Vec<Duration>, most: usize, span: Duration| {
            let oldest = ages.iter().max().filter(|_| ages.len() >= most);
            oldest.map_or(Ok(()), |oldest| {
                Err(span.saturating_sub(*oldest).max(Duration::from_secs(1)))
            })
        };
        let recent = live().map(age).filter(|age| *age < MINUTE).collect();
        bound(recent, MOST_A_MINUTE, MINUTE)?;
        let alive = live().filter(|mint| !mint.in_vain).map(age).collect();
        bound(alive, MOST_ALIVE, LIFETIME)
    }

    /// Writes down that a token is about to be asked for; comes before the request. Returns the file, to be
    /// brought to the disk while the token is asked for.
    ///
    /// It counts in this process even if it cannot be written.
    pub(super) fn record(&mut self, now: Moment) -> io::Result<Option<File>> {
        let mint = Mint::new(now, false);
        self.mints.retain(|mint| now.elapsed < mint.ends);
        self.mints.push(mint);
        match &mut self.file {
            // Who needs the token waits for this, so the file is not replaced each time.
            Some(file) if self.mints.len() <= MOST_LINES => {
                file.write_all(mint.lines().as_bytes())?;
            }
            Some(_) | None => self.write()?,
        }
        self.file.as_ref().map(File::try_clone).transpose()
    }

    /// Takes the last request back: it was never sent. Nothing of it stays, or a long outage would fill the
    /// log.
    pub(super) fn unsent(&mut self) -> io::Result<()> {
        if self.mints.pop_if(|mint| !mint.in_vain).is_none() {
            return self.in_vain();
        }
        self.write()
    }

    /// Writes down that no living token came of the last request: it was refused, or has been revoked.
    pub(super) fn in_vain(&mut self) -> io::Result<()> {
        let mut mints = self.mints.iter_mut().rev();
        if let Some(mint) = mints.find(|mint| !mint.in_vain) {
            mint.in_vain = true;
            self.write()?;
        }
        Ok(())
    }

    /// Puts a file with what is known in the place of the present one.
    fn write(&mut self) -> io::Result<()> {
        if !self.writes {
            return Ok(());
        }
        let (mut file, beside) = state::beside(&self.path)?;
        let lines: String = self.mints.iter().map(Mint::lines).collect();
        file.write_all(lines.as_bytes())?;
        fs::rename(&beside, &self.path)?;
        self.file = Some(file);
        Ok(())
    }

    fn set_aside(&self, why: &str) {
        if !self.writes {
            return;
        }
        let file = self.path.display();
        match state::set_aside(&self.path) {
            Ok(aside) => warn!(
                %file,
                "the mint log is damaged ({why}); it is now {}, and a new one is begun",
                aside.display()
            ),
            Err(error) => warn!(
                %file,
                %error,
                "the mint log is damaged ({why}), and cannot be set aside",
            ),
        }
    }
}

impl Mint {
    fn new(now: Moment, in_vain: bool) -> Self {
        Self {
            seconds: now.wall.seconds(),
            ends: now.elapsed.saturating_add(LIFETIME),
            in_vain,
        }
    }

    /// A line that is read at `now`, unless it is too old to matter.
    fn read((seconds, in_vain): LogLine, now: Moment) -> Option<Self> {
        let age = u64::try_from(now.wall.seconds().saturating_sub(seconds)).ok()?;
        let left = LIFETIME.checked_sub(Duration::from_secs(age))?;
        (!left.is_zero()).then_some(Self {
            seconds,
            ends: now.elapsed.saturating_add(left),
            in_vain,
        })
    }

    fn lines(&self) -> String {
        let seconds = self.seconds;
        if self.in_vain {
            format!("asked {seconds}\nvoid {seconds}\n")
        } else {
            format!("asked {seconds}\n")
        }
    }
}

/// Dates lines of the future as late as they can be true; says whether there were any.
fn bring_back(lines: &mut [LogLine], now: Moment) -> bool {
    let present = now.wall.seconds();
    let latest = lines.iter().map(|(seconds, _)| *seconds).max();
    let ahead = latest.map_or(0, |latest| latest.saturating_sub(present));
    for (seconds, _) in lines.iter_mut().filter(|(seconds, _)| *seconds > present) {
        *seconds = seconds.saturating_sub(ahead);
    }
    ahead > 0
}

/// The requests in a file, and whether there is anything else in it. Of one that is `cut` the first line may
/// be half of one.
fn parse(content: &[u8], cut: bool) -> (Vec<LogLine>, bool) {
    let mut lines: Vec<LogLine> = Vec::new();
    let mut is_foreign = false;
    // What follows the last line end was torn: such a request was not sent.
    let whole = content.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.and_then(|end| content.get(..end)).unwrap_or(&[]);
    let whole = whole.split(|byte| *byte == b'\n');
    for line in whole.skip(cut.into()).filter(|line| !line.is_empty()) {
        let line = str::from_utf8(line).ok().and_then(|it| it.split_once(' '));
        let line = line.and_then(|(word, seconds)| Some((word, seconds.parse().ok()?)));
        match line {
            Some(("asked", seconds)) => lines.push((seconds, false)),
            Some(("void", seconds)) => {
                let mut asked = lines.iter_mut().rev();
                if let Some(line) = asked.find(|line| **line == (seconds, false)) {
                    line.1 = true;
                }
            }
            Some(_) | None => is_foreign = true,
        }
    }
    (lines, is_foreign)
}

/// As long as a token of Atlas lives.
const LIFETIME: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// Atlas: 100. The rest is left to other processes of the same account.
const MOST_ALIVE: usize = 80;
/// Atlas: 10.
const MOST_A_MINUTE: usize = 5;
/// How many were asked for just now where nothing is known: one may be, so that callers are served.
const ASSUMED: usize = MOST_A_MINUTE - 1;
const MOST_LINES: usize = 1_000;
const LARGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::atlas::Timestamp;

    /// So many seconds after the beginning; a process of which it is the first moment is as old as it.
    fn at(seconds: i64) -> Moment {
        let elapsed = u64::try_from(seconds.max(0)).unwrap();
        Moment {
            elapsed: Duration::from_secs(elapsed),
            wall: Timestamp::from_seconds(START + seconds),
        }
    }

    const START: i64 = 1_800_000_000;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        (directory, path)
    }

    fn open(path: &Path, now: Moment) -> MintLog {
        MintLog::open(path.to_owned(), now, true)
    }

    fn write(path: &Path, seconds: impl IntoIterator<Item = i64>) {
        let lines = seconds
            .into_iter()
            .map(|it| format!("asked {}\n", START + it));
        put(path, lines.collect::<String>().as_bytes());
    }

    fn put(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn five_a_minute_and_eighty_alive_are_the_most_also_across_restarts() {
        let (_directory, path) = place();
        let mut asked = 0;
        for second in (0..3_600).step_by(6) {
            let mut log = open(&path, at(second));
            if log.may_mint(at(second).elapsed).is_ok() {
                log.record(at(second)).unwrap();
                asked += 1;
            }
        }
        assert_eq!(asked, 80);
        let log = open(&path, at(3_599));
        let wait = Duration::from_secs(1);
        assert_eq!(log.may_mint(at(3_599).elapsed), Err(wait));
        assert!(log.may_mint(at(3_600).elapsed).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_request_in_vain_counts_for_the_minute_and_not_for_the_hour() {
        let (_directory, path) = place();
        let mut log = open(&path, at(0));
        for second in 0..200 {
            let now = at(second * 20);
            assert!(log.may_mint(now.elapsed).is_ok());
            log.record(now).unwrap();
            log.in_vain().unwrap();
            log = open(&path, now);
        }
        for _ in 0..2 {
            log.record(at(3_980)).unwrap();
        }
        let wait = Duration::from_secs(20);
        assert_eq!(log.may_mint(at(3_980).elapsed), Err(wait));
    }

    #[test]
    fn a_request_that_was_never_sent_counts_for_nothing_and_leaves_nothing_behind() {
        let (_directory, path) = place();
        let mut log = open(&path, at(0));
        log.record(at(0)).unwrap();
        for second in 0..1_000 {
            assert!(log.may_mint(at(second).elapsed).is_ok());
            log.record(at(second)).unwrap();
            log.unsent().unwrap();
        }
        let sent = format!("asked {START}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), sent);
        // Where something else was written behind it, it is only void.
        log.record(at(1_000)).unwrap();
        log.in_vain().unwrap();
        log.unsent().unwrap();
        let (lines, _) = parse(&fs::read(&path).unwrap(), false);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|(_, in_vain)| *in_vain));
    }

    #[test]
    fn a_torn_line_is_passed_over_and_a_foreign_one_is_told() {
        let whole = b"asked 10\nasked 20\nvoid 20\nvoid 99\nasked 30\n";
        let expected = vec![(10, false), (20, true), (30, false)];
        assert_eq!(parse(whole, false), (expected.clone(), false));
        let foreign = b"asked 10\nnonsense\nasked x\nasked 20\nvoid 20\n\xff\nasked 30\n";
        assert_eq!(parse(foreign, false), (expected, true));
        let torn = (vec![(10, false)], false);
        assert_eq!(parse(b"asked 10\nasked 1800", false), torn);
        assert_eq!(parse(b"ed 5\nasked 10\n", true), torn);
        assert_eq!(parse(b"", false), (Vec::new(), false));
    }

    #[test]
    fn r9_requests_from_the_future_were_made_now_at_the_latest() {
        let (_directory, path) = place();
        let minute = Duration::from_mins(1);
        for ahead in [1, 59 * 60, 3_599, 90_000, 10_000_000] {
            write(&path, [ahead; 5]);
            let log = open(&path, at(0));
            assert_eq!(log.may_mint(at(0).elapsed), Err(minute), "{ahead}");
            assert!(log.may_mint(at(60).elapsed).is_ok(), "{ahead}");
        }
        // What was made in the course of an hour was made in the course of one.
        write(&path, [0, 600, 1_200, 1_800, 2_400, 3_540]);
        assert!(open(&path, at(0)).may_mint(at(0).elapsed).is_ok());
        // Eighty may all live, for an hour and no longer.
        write(&path, [3_000; 80]);
        let log = open(&path, at(0));
        assert!(log.may_mint(at(3_599).elapsed).is_err());
        assert!(log.may_mint(at(3_600).elapsed).is_ok());
    }

    #[test]
    fn r9_a_request_from_the_future_is_no_younger_at_the_next_start() {
        let (_directory, path) = place();
        write(&path, [3_000; 5]);
        let mut log = open(&path, at(0));
        assert!(log.may_mint(at(0).elapsed).is_err());
        for second in [30, 61] {
            log = open(&path, at(second));
        }
        assert!(log.may_mint(at(61).elapsed).is_ok());
    }

    #[test]
    fn g24_the_calendar_ends_no_wait_of_this_process() {
        let (_directory, path) = place();
        let mut log = open(&path, at(0));
        for _ in 0..5 {
            log.record(at(0)).unwrap();
        }
        let ahead = Moment {
            wall: Timestamp::from_seconds(START + 7_200),
            ..at(59)
        };
        assert!(log.may_mint(ahead.elapsed).is_err());
        assert!(log.may_mint(at(60).elapsed).is_ok());
    }

    #[test]
    fn r9_a_damaged_mint_log_is_set_aside_and_one_token_may_be_asked_for_at_once() {
        let (_directory, path) = place();
        let aside = path.with_extension("damaged");
        let huge = "asked 1\n".repeat(200_000);
        for content in [
            huge.as_bytes(),
            b"nonsense\n",
            b"\xff\x00\n",
            b"{\"a\":1}\n",
        ] {
            put(&path, content);
            let mut log = open(&path, at(0));
            assert_eq!(fs::read(&aside).unwrap(), content);
            assert!(log.may_mint(at(0).elapsed).is_ok());
            log.record(at(0)).unwrap();
            assert!(log.may_mint(at(0).elapsed).is_err());
            // The next process knows as much.
            assert!(open(&path, at(30)).may_mint(at(30).elapsed).is_err());
            assert!(open(&path, at(60)).may_mint(at(60).elapsed).is_ok());
            fs::remove_file(&aside).unwrap();
        }
    }

    #[test]
    fn r9_the_end_of_a_mint_log_that_is_too_large_still_counts() {
        let (_directory, path) = place();
        write(&path, (0..100_000).map(|_| -10));
        let log = open(&path, at(0));
        assert!(log.may_mint(at(3_589).elapsed).is_err());
        assert!(log.may_mint(at(3_590).elapsed).is_ok());
    }

    #[test]
    fn a_check_leaves_the_mint_log_as_it_is_and_goes_by_it() {
        let (directory, path) = place();
        write(&path, [-5; 5]);
        let before = fs::read(&path).unwrap();
        let mut log = MintLog::open(path.clone(), at(0), false);
        assert!(log.may_mint(at(0).elapsed).is_err());
        log.record(at(0)).unwrap();
        log.unsent().unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        put(&path, b"nonsense\n");
        MintLog::open(path, at(0), false).record(at(0)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
