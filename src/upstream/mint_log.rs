//! Mint log: which access tokens an account has asked for in the last hour; written before each request is
//! sent, and read by the next process.
//!
//! Atlas keeps at most 100 tokens of an account alive and mints at most 10 a minute; beyond that it refuses
//! for up to an hour. A process that is started and killed in a loop would get there. So what was asked for
//! survives the process (G25), and the machine once the disk has it.
//!
//! Where replicas share tokens, each request has an id as well, by which all of them count it once. It stands in a
//! line of its own.
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
use uuid::Uuid;

use crate::fleet::{MintLimits, OwnMint};
use crate::system::{Moment, private_files};

pub(super) struct MintLog {
    path: PathBuf,
    file: Option<File>,
    options: LogOptions,
    mints: Vec<Mint>,
}

/// What a process does with its mint log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogOptions {
    /// A check writes nothing.
    pub(super) writes: bool,
    /// Whether requests have ids.
    pub(super) is_shared: bool,
    /// How many are assumed where the log is damaged.
    pub(super) assumed: usize,
}

/// A token was asked for, and maybe none came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mint {
    seconds: i64,
    /// By [`Moment::elapsed`]: from then on no token of it lives.
    ends: Duration,
    in_vain: bool,
    id: Option<Uuid>,
}

/// A request that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogLine {
    seconds: i64,
    in_vain: bool,
    id: Option<Uuid>,
}

impl MintLog {
    pub(super) fn open(path: PathBuf, now: Moment, options: LogOptions) -> Self {
        let (content, fault) = match private_files::read(&path, LARGEST) {
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
            options,
            mints: read.collect(),
        };
        if let Some(why) = fault {
            let assumed = std::iter::repeat_n(Mint::new(now, true, None), options.assumed);
            log.mints.extend(assumed);
            log.set_aside(&why);
        }
        for mint in log.mints.iter_mut().filter(|_| options.is_shared) {
            mint.id.get_or_insert_with(Uuid::now_v7);
        }
        // So that the next process knows as much, whatever becomes of this one.
        if let Err(error) = log.write() {
            warn!(file = %log.path.display(), %error, "cannot write the mint log");
        }
        log
    }

    pub(super) fn may_mint(&self, now: Duration, limits: MintLimits) -> Result<(), Duration> {
        let age = |mint: &Mint| mint.age(now);
        let live = || self.mints.iter().filter(|mint| now < mint.ends);
        let bound = |mut ages: Vec<Duration>, most: usize, span: Duration| {
            ages.sort_unstable();
            // Once the youngest that is one too many has gone, another token may be asked for.
            let last_to_go = most.checked_sub(1).and_then(|at| ages.get(at));
            last_to_go.map_or(Ok(()), |age| {
                Err(span.saturating_sub(*age).max(Duration::from_secs(1)))
            })
        };
        let recent = live().map(age).filter(|age| *age < MINUTE).collect();
        bound(recent, limits.a_minute, MINUTE)?;
        let alive = live().filter(|mint| !mint.in_vain).map(age).collect();
        bound(alive, limits.alive, LIFETIME)
    }

    /// The requests of the last hour that have an id.
    pub(super) fn own(&self, now: Duration) -> Vec<OwnMint> {
        let live = self.mints.iter().filter(|mint| now < mint.ends);
        let own = live.filter_map(|mint| {
            Some(OwnMint {
                id: mint.id?,
                age: mint.age(now),
                in_vain: mint.in_vain,
            })
        });
        own.collect()
    }

    /// Writes down that a token is about to be asked for; comes before the request. Returns the file, to be
    /// brought to the disk while the token is asked for.
    ///
    /// It counts in this process even if it cannot be written.
    ///
    /// Where requests have ids, one that has none yet is given one.
    pub(super) fn record(&mut self, now: Moment, id: Option<Uuid>) -> io::Result<Option<File>> {
        let id = id.or_else(|| self.options.is_shared.then(Uuid::now_v7));
        let mint = Mint::new(now, false, id);
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
        if !self.options.writes {
            return Ok(());
        }
        let (mut file, beside) = private_files::beside(&self.path)?;
        let lines: String = self.mints.iter().map(Mint::lines).collect();
        file.write_all(lines.as_bytes())?;
        fs::rename(&beside, &self.path)?;
        self.file = Some(file);
        Ok(())
    }

    fn set_aside(&self, why: &str) {
        if !self.options.writes {
            return;
        }
        let file = self.path.display();
        match private_files::set_aside(&self.path) {
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
    fn new(now: Moment, in_vain: bool, id: Option<Uuid>) -> Self {
        Self {
            seconds: now.wall.seconds(),
            ends: now.elapsed.saturating_add(LIFETIME),
            in_vain,
            id,
        }
    }

    /// A line that is read at `now`, unless it is too old to matter.
    fn read(line: LogLine, now: Moment) -> Option<Self> {
        let age = u64::try_from(now.wall.seconds().saturating_sub(line.seconds)).ok()?;
        let left = LIFETIME.checked_sub(Duration::from_secs(age))?;
        (!left.is_zero()).then_some(Self {
            seconds: line.seconds,
            ends: now.elapsed.saturating_add(left),
            in_vain: line.in_vain,
            id: line.id,
        })
    }

    fn age(&self, now: Duration) -> Duration {
        LIFETIME.saturating_sub(self.ends.saturating_sub(now))
    }

    fn lines(&self) -> String {
        let seconds = self.seconds;
        let id = self.id.map(|id| format!("id {}\n", id.simple()));
        let void = self.in_vain.then(|| format!("void {seconds}\n"));
        let [id, void] = [id, void].map(Option::unwrap_or_default);
        format!("asked {seconds}\n{id}{void}")
    }
}

/// Dates lines of the future as late as they can be true; says whether there were any.
fn bring_back(lines: &mut [LogLine], now: Moment) -> bool {
    let present = now.wall.seconds();
    let latest = lines.iter().map(|line| line.seconds).max();
    let ahead = latest.map_or(0, |latest| latest.saturating_sub(present));
    for line in lines.iter_mut().filter(|line| line.seconds > present) {
        line.seconds = line.seconds.saturating_sub(ahead);
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
        let is_ours = match line {
            Some(("asked", seconds)) => seconds
                .parse()
                .map(|seconds| lines.push(LogLine::asked(seconds)))
                .is_ok(),
            Some(("id", id)) => Uuid::try_parse(id)
                .is_ok_and(|id| lines.last_mut().is_some_and(|line| line.identify(id))),
            Some(("void", seconds)) => seconds
                .parse()
                .map(|seconds| note_void(&mut lines, seconds))
                .is_ok(),
            Some(_) | None => false,
        };
        is_foreign |= !is_ours;
    }
    (lines, is_foreign)
}

fn note_void(lines: &mut [LogLine], seconds: i64) {
    let mut asked = lines.iter_mut().rev();
    if let Some(line) = asked.find(|line| !line.in_vain && line.seconds == seconds) {
        line.in_vain = true;
    }
}

impl LogLine {
    fn asked(seconds: i64) -> Self {
        Self {
            seconds,
            in_vain: false,
            id: None,
        }
    }

    /// Says whether it had no id yet.
    fn identify(&mut self, id: Uuid) -> bool {
        self.id.replace(id).is_none()
    }
}

const LIFETIME: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// Atlas: 10 a minute and 100 alive. The rest is left to other processes of the same account.
pub(super) const MOST_MINTS: MintLimits = MintLimits {
    a_minute: 5,
    alive: 80,
};
const MOST_LINES: usize = 1_000;
const LARGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests;
