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
mod tests;
