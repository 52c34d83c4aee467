//! The log of minted tokens: a request to mint goes in, leave or the time to wait comes out; and every
//! request is written before it is sent.
//!
//! Atlas keeps at most 100 tokens of an account alive and mints at most 10 a minute; beyond that it
//! refuses for up to an hour. A process that is started and killed in a loop would get there. So what
//! was asked for survives the process (G25). A kill can tear the last line; such a request was not sent.
//!
//! What is written survives the process at once, and the machine once the disk has it. Nobody waits for
//! the disk: to lose lines it takes a power cut for each, and between those a machine starts.
//!
//! A request is dated by the calendar, for the next process; in this one it ages by the time that passes,
//! whatever the calendar says. The file is believed as far as it can be true: a request from the future was
//! made before the calendar was set back, so it was made now at the latest, and the others as much before
//! it as they say. What is damaged is set aside, and then less is minted at first than would be allowed.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use tracing::warn;

use super::state;
use super::state::FileContent;
use crate::system::Moment;
use crate::telemetry::say;

/// What was asked for in the last hour.
#[derive(Debug)]
pub(crate) struct MintLog {
    path: PathBuf,
    /// Where it is written; nowhere for a check, and where there could be no file yet.
    file: Option<File>,
    writes: bool,
    requests: Vec<MintRequest>,
    /// How long the file was before its last line, where that is the last request.
    before: Option<u64>,
}

/// One line: a token was asked for, and maybe none came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MintRequest {
    /// The date in the file.
    seconds: i64,
    /// By [`Moment::elapsed`]: from then on no token of it lives.
    ends: Duration,
    in_vain: bool,
}

/// One line as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    seconds: i64,
    in_vain: bool,
}

impl MintLog {
    /// Opens the ledger of one account, and leaves out what has expired. It is not changed unless it
    /// `writes`.
    pub(crate) fn open(path: PathBuf, now: Moment, writes: bool) -> Self {
        let (content, trouble) = match state::read(&path, LARGEST) {
            FileContent::Nothing => (Vec::new(), None),
            FileContent::Whole(content) => (content, None),
            FileContent::End(end) => (end, Some("it is too large".to_owned())),
            FileContent::Unfit(why) => (Vec::new(), Some(why.to_string())),
        };
        let (mut lines, foreign) = read(&content, trouble.is_some());
        let trouble = trouble.or_else(|| foreign.then(|| "it has lines of others".to_owned()));
        let untrue = bring_back(&mut lines, now);
        let mut requests: Vec<MintRequest> = lines
            .iter()
            .filter_map(|line| MintRequest::read(*line, now))
            .collect();
        if trouble.is_some() {
            requests.extend([MintRequest::now(now, true); ASSUMED]);
        }
        if untrue {
            say(
                || warn!(file = %path.display(), "the ledger of tokens is dated ahead of the clock"),
            );
        }
        let mut ledger = Self {
            path,
            file: None,
            writes,
            requests,
            before: None,
        };
        if let Some(why) = trouble {
            ledger.set_aside(&why);
        }
        // So that the next process knows as much, whatever becomes of this one.
        if let Err(error) = ledger.write_anew() {
            let path = &ledger.path;
            say(|| warn!(file = %path.display(), %error, "cannot write the ledger of tokens"));
        }
        ledger
    }

    /// Puts a file with what is known in the place of the present one.
    fn write_anew(&mut self) -> io::Result<()> {
        self.before = None;
        if !self.writes {
            return Ok(());
        }
        let (mut file, beside) = state::beside(&self.path)?;
        let lines: String = self.requests.iter().flat_map(MintRequest::lines).collect();
        file.write_all(lines.as_bytes())?;
        fs::rename(&beside, &self.path)?;
        self.file = Some(file);
        Ok(())
    }

    fn set_aside(&self, why: &str) {
        let path = &self.path;
        if !self.writes {
            return;
        }
        match state::set_aside(path) {
            Ok(aside) => say(|| {
                warn!(
                    file = %path.display(),
                    "the ledger of tokens is damaged ({why}); it is now {}, and a new one is begun",
                    aside.display()
                );
            }),
            Err(error) => say(|| {
                warn!(
                    file = %path.display(),
                    %error,
                    "the ledger of tokens is damaged ({why}), and cannot be set aside",
                );
            }),
        }
    }

    /// The file, to be brought to the disk while the token is asked for.
    pub(crate) fn file(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }

    /// Whether a token may be asked for now; otherwise how long not.
    pub(crate) fn may_ask(&self, now: Duration) -> Result<(), Duration> {
        let live: Vec<&MintRequest> = self
            .requests
            .iter()
            .filter(|request| request.counts(now))
            .collect();
        let since =
            |request: &MintRequest| LIFETIME.saturating_sub(request.ends.saturating_sub(now));
        let recent = live.iter().filter(|request| since(request) < MINUTE);
        if recent.clone().count() >= MOST_A_MINUTE {
            let oldest = recent
                .map(|request| since(request))
                .max()
                .unwrap_or_default();
            return Err(MINUTE.saturating_sub(oldest).max(Duration::from_secs(1)));
        }
        let alive = live.iter().filter(|request| !request.in_vain);
        if alive.clone().count() >= MOST_ALIVE {
            let oldest = alive
                .map(|request| since(request))
                .max()
                .unwrap_or_default();
            return Err(LIFETIME.saturating_sub(oldest).max(Duration::from_secs(1)));
        }
        Ok(())
    }

    /// Writes down that a token is about to be asked for. Comes before the request.
    ///
    /// It counts in this process even if it cannot be written.
    pub(crate) fn ask(&mut self, now: Moment) -> io::Result<()> {
        let request = MintRequest::now(now, false);
        self.requests.retain(|request| request.counts(now.elapsed));
        self.requests.push(request);
        match &self.file {
            Some(file) if self.requests.len() <= MOST_LINES => {
                let before = file.metadata()?.len();
                self.append(&format!("asked {}\n", request.seconds))?;
                self.before = Some(before);
                Ok(())
            }
            Some(_) | None => self.write_anew(),
        }
    }

    /// Takes the last request back: it was never sent. Nothing of it stays, or a long outage would fill the
    /// file.
    pub(crate) fn unsent(&mut self) -> io::Result<()> {
        match (self.before.take(), &self.file) {
            (Some(before), Some(file)) => {
                self.requests.pop();
                file.set_len(before)
            }
            (_, _) => self.in_vain(),
        }
    }

    /// Writes down that no living token came of the last request: it was refused, or has been revoked.
    pub(crate) fn in_vain(&mut self) -> io::Result<()> {
        if let Some(request) = self
            .requests
            .iter_mut()
            .rev()
            .find(|request| !request.in_vain)
        {
            request.in_vain = true;
            let line = format!("void {}\n", request.seconds);
            self.append(&line)?;
        }
        Ok(())
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.before = None;
        match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

impl MintRequest {
    fn now(now: Moment, in_vain: bool) -> Self {
        Self {
            seconds: now.wall.seconds(),
            ends: now.elapsed.saturating_add(LIFETIME),
            in_vain,
        }
    }

    /// A line that is read at `now`, unless it is too old to matter.
    fn read(line: Line, now: Moment) -> Option<Self> {
        let age =
            u64::try_from(now.wall.seconds().saturating_sub(line.seconds)).unwrap_or_default();
        let left = LIFETIME.checked_sub(Duration::from_secs(age))?;
        (!left.is_zero()).then_some(Self {
            seconds: line.seconds,
            ends: now.elapsed.saturating_add(left),
            in_vain: line.in_vain,
        })
    }

    /// Whether it can still matter.
    fn counts(&self, now: Duration) -> bool {
        now < self.ends
    }

    fn lines(&self) -> [String; 2] {
        let void = if self.in_vain {
            format!("void {}\n", self.seconds)
        } else {
            String::new()
        };
        [format!("asked {}\n", self.seconds), void]
    }
}

/// Dates lines of the future as late as they can be true; says whether there were any.
fn bring_back(lines: &mut [Line], now: Moment) -> bool {
    let present = now.wall.seconds();
    let latest = lines.iter().map(|line| line.seconds).max();
    let ahead = latest.unwrap_or(present).saturating_sub(present);
    if ahead <= 0 {
        return false;
    }
    for line in lines.iter_mut().filter(|line| line.seconds > present) {
        line.seconds = line.seconds.saturating_sub(ahead);
    }
    true
}

/// The requests in a file, and whether there is anything else in it. Of one that is `cut` the first line may
/// be half of one.
fn read(content: &[u8], cut: bool) -> (Vec<Line>, bool) {
    let mut lines: Vec<Line> = Vec::new();
    let mut foreign = false;
    // What follows the last line end was torn.
    let end = content.iter().rposition(|byte| *byte == b'\n');
    let whole = end.and_then(|end| content.get(..end)).unwrap_or_default();
    let whole = whole.split(|byte| *byte == b'\n');
    for line in whole.skip(cut.into()).filter(|line| !line.is_empty()) {
        let line = str::from_utf8(line).ok().and_then(|it| it.split_once(' '));
        let line = line.and_then(|(word, seconds)| Some((word, seconds.parse().ok()?)));
        match line {
            Some(("asked", seconds)) => lines.push(Line {
                seconds,
                in_vain: false,
            }),
            Some(("void", seconds)) => {
                let same = |line: &&mut Line| line.seconds == seconds && !line.in_vain;
                if let Some(line) = lines.iter_mut().rev().find(same) {
                    line.in_vain = true;
                }
            }
            Some(_) | None => foreign = true,
        }
    }
    (lines, foreign)
}

/// As long as a token of Atlas lives.
const LIFETIME: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// Atlas: 100. The rest is left to other processes of the same account.
const MOST_ALIVE: usize = 80;
/// Atlas: 10.
const MOST_A_MINUTE: usize = 5;
/// How many were asked for just now where nobody knows: one may be, so that callers are served.
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
            let mut ledger = open(&path, at(second));
            if ledger.may_ask(at(second).elapsed).is_ok() {
                ledger.ask(at(second)).unwrap();
                asked += 1;
            }
        }
        assert_eq!(asked, 80);
        let ledger = open(&path, at(3_599));
        let wait = Duration::from_secs(1);
        assert_eq!(ledger.may_ask(at(3_599).elapsed), Err(wait));
        assert!(ledger.may_ask(at(3_600).elapsed).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_request_in_vain_counts_for_the_minute_and_not_for_the_hour() {
        let (_directory, path) = place();
        let mut ledger = open(&path, at(0));
        for second in 0..200 {
            let now = at(second * 20);
            assert!(ledger.may_ask(now.elapsed).is_ok());
            ledger.ask(now).unwrap();
            ledger.in_vain().unwrap();
            ledger = open(&path, now);
        }
        for _ in 0..2 {
            ledger.ask(at(3_980)).unwrap();
        }
        let wait = Duration::from_secs(20);
        assert_eq!(ledger.may_ask(at(3_980).elapsed), Err(wait));
    }

    #[test]
    fn a_request_that_was_never_sent_counts_for_nothing_and_leaves_nothing_behind() {
        let (_directory, path) = place();
        let mut ledger = open(&path, at(0));
        ledger.ask(at(0)).unwrap();
        for second in 0..1_000 {
            assert!(ledger.may_ask(at(second).elapsed).is_ok());
            ledger.ask(at(second)).unwrap();
            ledger.unsent().unwrap();
        }
        let sent = format!("asked {START}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), sent);
        // Where something else was written behind it, it is only void.
        ledger.ask(at(1_000)).unwrap();
        ledger.in_vain().unwrap();
        ledger.unsent().unwrap();
        let (lines, _) = read(&fs::read(&path).unwrap(), false);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.in_vain));
    }

    #[test]
    fn a_torn_line_is_passed_over_and_a_foreign_one_is_told() {
        let line = |seconds, in_vain| Line { seconds, in_vain };
        let whole = b"asked 10\nasked 20\nvoid 20\nvoid 99\nasked 30\n";
        let expected = vec![line(10, false), line(20, true), line(30, false)];
        assert_eq!(read(whole, false), (expected.clone(), false));
        let foreign = b"asked 10\nnonsense\nasked x\nasked 20\nvoid 20\n\xff\nasked 30\n";
        assert_eq!(read(foreign, false), (expected, true));
        let torn = (vec![line(10, false)], false);
        assert_eq!(read(b"asked 10\nasked 1800", false), torn);
        assert_eq!(read(b"ed 5\nasked 10\n", true), torn);
        assert_eq!(read(b"", false), (Vec::new(), false));
    }

    #[test]
    fn r9_requests_from_the_future_were_made_now_at_the_latest() {
        let (_directory, path) = place();
        let minute = Duration::from_mins(1);
        for ahead in [1, 59 * 60, 3_599, 90_000, 10_000_000] {
            write(&path, [ahead; 5]);
            let ledger = open(&path, at(0));
            assert_eq!(ledger.may_ask(at(0).elapsed), Err(minute), "{ahead}");
            assert!(ledger.may_ask(at(60).elapsed).is_ok(), "{ahead}");
        }
        // What was made in the course of an hour was made in the course of one.
        write(&path, [0, 600, 1_200, 1_800, 2_400, 3_540]);
        assert!(open(&path, at(0)).may_ask(at(0).elapsed).is_ok());
        // Eighty may all live, for an hour and no longer.
        write(&path, [3_000; 80]);
        let ledger = open(&path, at(0));
        assert!(ledger.may_ask(at(3_599).elapsed).is_err());
        assert!(ledger.may_ask(at(3_600).elapsed).is_ok());
    }

    #[test]
    fn r9_a_request_from_the_future_is_no_younger_at_the_next_start() {
        let (_directory, path) = place();
        write(&path, [3_000; 5]);
        let mut ledger = open(&path, at(0));
        assert!(ledger.may_ask(at(0).elapsed).is_err());
        for second in [30, 61] {
            ledger = open(&path, at(second));
        }
        assert!(ledger.may_ask(at(61).elapsed).is_ok());
    }

    #[test]
    fn g24_the_calendar_ends_no_wait_of_this_process() {
        let (_directory, path) = place();
        let mut ledger = open(&path, at(0));
        for _ in 0..5 {
            ledger.ask(at(0)).unwrap();
        }
        let ahead = Moment {
            wall: Timestamp::from_seconds(START + 7_200),
            ..at(59)
        };
        assert!(ledger.may_ask(ahead.elapsed).is_err());
        assert!(ledger.may_ask(at(60).elapsed).is_ok());
    }

    #[test]
    fn r9_a_damaged_ledger_is_set_aside_and_one_token_may_be_asked_for_at_once() {
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
            let mut ledger = open(&path, at(0));
            assert_eq!(fs::read(&aside).unwrap(), content);
            assert!(ledger.may_ask(at(0).elapsed).is_ok());
            ledger.ask(at(0)).unwrap();
            assert!(ledger.may_ask(at(0).elapsed).is_err());
            // The next process knows as much.
            assert!(open(&path, at(30)).may_ask(at(30).elapsed).is_err());
            assert!(open(&path, at(60)).may_ask(at(60).elapsed).is_ok());
            fs::remove_file(&aside).unwrap();
        }
    }

    #[test]
    fn r9_the_end_of_a_ledger_that_is_too_large_still_counts() {
        let (_directory, path) = place();
        write(&path, (0..100_000).map(|_| -10));
        let ledger = open(&path, at(0));
        assert!(ledger.may_ask(at(3_589).elapsed).is_err());
        assert!(ledger.may_ask(at(3_590).elapsed).is_ok());
    }

    #[test]
    fn a_check_leaves_the_ledger_as_it_is_and_goes_by_it() {
        let (directory, path) = place();
        write(&path, [-5; 5]);
        let before = fs::read(&path).unwrap();
        let mut ledger = MintLog::open(path.clone(), at(0), false);
        assert!(ledger.may_ask(at(0).elapsed).is_err());
        ledger.ask(at(0)).unwrap();
        ledger.unsent().unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        put(&path, b"nonsense\n");
        MintLog::open(path, at(0), false).ask(at(0)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
