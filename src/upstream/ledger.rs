//! The ledger of minted tokens: a wish to mint goes in, leave or the time to wait comes out; and every
//! wish is written before it is sent.
//!
//! Atlas keeps at most 100 tokens of an account alive and mints at most 10 a minute; beyond that it
//! refuses for up to an hour. A process that is started and killed in a loop would get there. So what
//! was asked for survives the process (G25). A kill can tear the last line; such a wish was not sent.
//!
//! What is written survives the process at once, and the machine once the disk has it. Nobody waits for
//! the disk: to lose lines it takes a power cut for each, and between those a machine starts.
//!
//! There is no lock: one process uses one directory.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::atlas::Timestamp;
use crate::watched;

/// What was asked for in the last hour.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    wishes: Vec<Wish>,
    /// How long the file was before its last line, where that is the last wish.
    before: Option<u64>,
}

/// One line: a token was asked for, and maybe none came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    seconds: i64,
    in_vain: bool,
}

impl Ledger {
    /// Opens the ledger of one account, and leaves out what has expired.
    pub(crate) fn open(path: PathBuf, now: Timestamp) -> io::Result<Self> {
        let content = match watched::read_limited(&path, LARGEST) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                drop(private(&path)?);
                String::new()
            }
            Err(error) => return Err(error),
        };
        let mut wishes = read(&content);
        wishes.retain(|wish| wish.counts(now));
        let file = if lines(&wishes) == content {
            OpenOptions::new().append(true).open(&path)?
        } else {
            rewrite(&path, &wishes)?
        };
        Ok(Self {
            path,
            file,
            wishes,
            before: None,
        })
    }

    /// The file, to be brought to the disk while the token is asked for.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Whether a token may be asked for now; otherwise how long not.
    pub(crate) fn may_ask(&self, now: Timestamp) -> Result<(), Duration> {
        let live: Vec<&Wish> = self.wishes.iter().filter(|wish| wish.counts(now)).collect();
        let since = |wish: &Wish| now.since(Timestamp::from_seconds(wish.seconds));
        let recent = live.iter().filter(|wish| since(wish) < MINUTE);
        if recent.clone().count() >= MOST_A_MINUTE {
            let oldest = recent.map(|wish| since(wish)).max().unwrap_or_default();
            return Err(MINUTE.saturating_sub(oldest).max(Duration::from_secs(1)));
        }
        let alive = live.iter().filter(|wish| !wish.in_vain);
        if alive.clone().count() >= MOST_ALIVE {
            let oldest = alive.map(|wish| since(wish)).max().unwrap_or_default();
            return Err(LIFETIME.saturating_sub(oldest).max(Duration::from_secs(1)));
        }
        Ok(())
    }

    /// Writes down that a token is about to be asked for. Comes before the request.
    ///
    /// It counts in this process even if it cannot be written.
    pub(crate) fn ask(&mut self, now: Timestamp) -> io::Result<()> {
        self.wishes.retain(|wish| wish.counts(now));
        self.wishes.push(Wish {
            seconds: now.seconds(),
            in_vain: false,
        });
        if self.wishes.len() > MOST_LINES {
            self.before = None;
            self.file = rewrite(&self.path, &self.wishes)?;
            return Ok(());
        }
        let before = self.file.metadata()?.len();
        self.append(&format!("asked {}\n", now.seconds()))?;
        self.before = Some(before);
        Ok(())
    }

    /// Takes the last wish back: it was never sent. Nothing of it stays, or a long outage would fill the
    /// file.
    pub(crate) fn unsent(&mut self) -> io::Result<()> {
        let Some(before) = self.before.take() else {
            return self.in_vain();
        };
        self.wishes.pop();
        self.file.set_len(before)
    }

    /// Writes down that no living token came of the last wish: it was refused, or has been revoked.
    pub(crate) fn in_vain(&mut self) -> io::Result<()> {
        if let Some(wish) = self.wishes.iter_mut().rev().find(|wish| !wish.in_vain) {
            wish.in_vain = true;
            let line = format!("void {}\n", wish.seconds);
            self.append(&line)?;
        }
        Ok(())
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.before = None;
        self.file.write_all(line.as_bytes())
    }
}

impl Wish {
    /// Whether it can still matter. A wish far in the future is a clock's error, not a wish.
    fn counts(&self, now: Timestamp) -> bool {
        let at = Timestamp::from_seconds(self.seconds);
        now.since(at) < LIFETIME && at.since(now) < LIFETIME
    }
}

fn read(text: &str) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    // What follows the last line end was torn.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        let Some((word, seconds)) = line.split_once(' ') else {
            continue;
        };
        let Ok(seconds) = seconds.parse() else {
            continue;
        };
        match word {
            "asked" => wishes.push(Wish {
                seconds,
                in_vain: false,
            }),
            "void" => {
                let same = |wish: &&mut Wish| wish.seconds == seconds && !wish.in_vain;
                if let Some(wish) = wishes.iter_mut().rev().find(same) {
                    wish.in_vain = true;
                }
            }
            _ => {}
        }
    }
    wishes
}

fn lines(wishes: &[Wish]) -> String {
    wishes.iter().flat_map(Wish::lines).collect()
}

fn rewrite(path: &Path, wishes: &[Wish]) -> io::Result<File> {
    let beside = path.with_extension("new");
    let mut file = private(&beside)?;
    file.write_all(lines(wishes).as_bytes())?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    OpenOptions::new().append(true).open(path)
}

impl Wish {
    fn lines(&self) -> [String; 2] {
        let void = if self.in_vain {
            format!("void {}\n", self.seconds)
        } else {
            String::new()
        };
        [format!("asked {}\n", self.seconds), void]
    }
}

/// A new file that only its owner can read.
pub(crate) fn private(path: &Path) -> io::Result<File> {
    // An old file would keep its mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// As long as a token of Atlas lives.
const LIFETIME: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// Atlas: 100. The rest is left to other processes of the same account.
const MOST_ALIVE: usize = 80;
/// Atlas: 10.
const MOST_A_MINUTE: usize = 5;
const MOST_LINES: usize = 1_000;
const LARGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn five_a_minute_and_eighty_alive_are_the_most_also_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut asked = 0;
        for second in (0..3_600).step_by(6) {
            let mut ledger = Ledger::open(path.clone(), at(second)).unwrap();
            if ledger.may_ask(at(second)).is_ok() {
                ledger.ask(at(second)).unwrap();
                asked += 1;
            }
        }
        assert_eq!(asked, 80);
        let ledger = Ledger::open(path.clone(), at(3_599)).unwrap();
        assert_eq!(ledger.may_ask(at(3_599)), Err(Duration::from_secs(1)));
        assert!(ledger.may_ask(at(3_600)).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_wish_in_vain_counts_for_the_minute_and_not_for_the_hour() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut ledger = Ledger::open(path.clone(), at(0)).unwrap();
        for second in 0..200 {
            let now = at(second * 20);
            assert!(ledger.may_ask(now).is_ok());
            ledger.ask(now).unwrap();
            ledger.in_vain().unwrap();
            ledger = Ledger::open(path.clone(), now).unwrap();
        }
        for _ in 0..2 {
            ledger.ask(at(3_980)).unwrap();
        }
        assert_eq!(ledger.may_ask(at(3_980)), Err(Duration::from_secs(20)));
    }

    #[test]
    fn a_wish_that_was_never_sent_counts_for_nothing_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut ledger = Ledger::open(path.clone(), at(0)).unwrap();
        ledger.ask(at(0)).unwrap();
        for second in 0..1_000 {
            assert!(ledger.may_ask(at(second)).is_ok());
            ledger.ask(at(second)).unwrap();
            ledger.unsent().unwrap();
        }
        let sent = format!("asked {}\n", at(0).seconds());
        assert_eq!(fs::read_to_string(&path).unwrap(), sent);
        // Where something else was written behind it, it is only void.
        ledger.ask(at(1_000)).unwrap();
        ledger.in_vain().unwrap();
        ledger.unsent().unwrap();
        let wishes = read(&fs::read_to_string(&path).unwrap());
        assert_eq!(wishes.len(), 2);
        assert!(wishes.iter().all(|wish| wish.in_vain));
    }

    #[test]
    fn a_torn_or_foreign_line_is_passed_over() {
        let whole = "asked 10\nnonsense\nasked x\nvoid 99\nasked 20\nvoid 20\nasked 30\n";
        let wish = |seconds, in_vain| Wish { seconds, in_vain };
        let expected = [wish(10, false), wish(20, true), wish(30, false)];
        assert_eq!(read(whole), expected);
        assert_eq!(read("asked 10\nasked 1800"), [wish(10, false)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_locks_nobody_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut ledger = Ledger::open(path, at(100_000)).unwrap();
        for _ in 0..5 {
            ledger.ask(at(100_000)).unwrap();
        }
        assert!(ledger.may_ask(at(100_000)).is_err());
        assert!(ledger.may_ask(at(0)).is_ok());
    }
}
