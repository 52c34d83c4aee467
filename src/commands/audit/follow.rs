//! `audit search --follow`: shows the newest records, and each second those that were written since.

use std::io::{BufWriter, Stdout};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use std::{io, slice};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::search;
use crate::audit::search::{Filter, Found, LineFilter, Order, Search};
use crate::commands::ExitStatus;
use crate::system::{Clock, may_wait};

use super::records::{OutputFormat, Records};

pub(super) struct FollowRequest {
    pub(super) directories: Vec<PathBuf>,
    pub(super) filter: Filter,
    /// How many of the records that are there already.
    pub(super) limit: usize,
    pub(super) format: OutputFormat,
}

/// Follows until it is interrupted, or what it writes is not read any more.
pub(super) fn run(request: FollowRequest, clock: &Clock) -> io::Result<ExitStatus> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupted.recv() => Ok(()),
            _ = terminated.recv() => Ok(()),
            ended = follow(request, clock) => ended,
        }
    });
    // A long search, or a reader that is slow, must not delay the end.
    runtime.shutdown_background();
    ended.map(|()| ExitStatus::Well)
}

async fn follow(request: FollowRequest, clock: &Clock) -> io::Result<()> {
    let mut following = may_wait(move || Following::begin(request)).await?;
    while !is_reader_gone() {
        following = may_wait(move || following.go_on()).await?;
        clock.sleep(PAUSE).await;
    }
    Ok(())
}

struct Following {
    request: FollowRequest,
    trails: Vec<Trail>,
    records: Records,
    out: BufWriter<Stdout>,
}

impl Following {
    fn begin(request: FollowRequest) -> io::Result<Self> {
        let directories = request.directories.iter().cloned();
        let mut trails: Vec<_> = directories
            .map(|directory| Trail { directory, last: 0 })
            .collect();
        let mut lines = in_order(&mut trails, |trail| {
            trail.known(&request.filter, request.limit)
        })?;
        lines.drain(..lines.len().saturating_sub(request.limit));
        let mut out = BufWriter::new(io::stdout());
        let records = Records::begin(request.format, &mut out)?;
        let mut following = Self {
            request,
            trails,
            records,
            out,
        };
        following.show(&lines)?;
        Ok(following)
    }

    fn go_on(mut self) -> io::Result<Self> {
        let filter = &self.request.filter;
        let lines = in_order(&mut self.trails, |trail| trail.new_lines(filter))?;
        self.show(&lines)?;
        Ok(self)
    }

    fn show(&mut self, lines: &[FollowedLine]) -> io::Result<()> {
        for FollowedLine { text, seq } in lines {
            let found = Found {
                line: text,
                seq: *seq,
            };
            self.records.show(&mut self.out, &found)?;
        }
        self.records.flush(&mut self.out)
    }
}

/// The trail of one directory, as far as it was read.
struct Trail {
    directory: PathBuf,
    last: u64,
}

struct FollowedLine {
    text: String,
    seq: u64,
}

/// What is read of each trail, by time.
fn in_order(
    trails: &mut [Trail],
    read: impl Fn(&mut Trail) -> io::Result<Vec<FollowedLine>>,
) -> io::Result<Vec<FollowedLine>> {
    let mut lines = Vec::new();
    for trail in trails {
        lines.extend(read(trail)?);
    }
    lines.sort_by(|one, other| one.time().cmp(&other.time()));
    Ok(lines)
}

impl Trail {
    /// Up to `limit` of the newest records that pass, oldest first. All that are there count as read.
    fn known(&mut self, filter: &Filter, limit: usize) -> io::Result<Vec<FollowedLine>> {
        let everything = Filter::default();
        search_newest(&self.directory, &everything, |found| {
            self.last = found.seq;
            ControlFlow::Break(())
        })?;
        let filter = Filter {
            before: Some(self.last.saturating_add(1)),
            ..filter.clone()
        };
        let mut lines = Vec::new();
        if limit > 0 {
            search_newest(&self.directory, &filter, |found| {
                lines.push(FollowedLine::from(found));
                if lines.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        lines.reverse();
        Ok(lines)
    }

    /// Those that pass of the records that were written since, oldest first.
    ///
    /// They are read from the end, so that it does not matter how large the file is, or whether another one
    /// was begun.
    fn new_lines(&mut self, filter: &Filter) -> io::Result<Vec<FollowedLine>> {
        let passing = LineFilter::new(filter);
        let (mut lines, mut newest) = (Vec::new(), self.last);
        let everything = Filter::default();
        search_newest(&self.directory, &everything, |found| {
            if found.seq <= self.last {
                return ControlFlow::Break(());
            }
            newest = newest.max(found.seq);
            if passing.passes(found.line) {
                lines.push(FollowedLine::from(found));
            }
            ControlFlow::Continue(())
        })?;
        self.last = newest;
        lines.reverse();
        Ok(lines)
    }
}

/// Shows what passes in one directory, newest first. A file that was packed or moved while it was looked
/// for is read the next time.
fn search_newest(
    directory: &PathBuf,
    filter: &Filter,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let wanted = Search {
        directories: slice::from_ref(directory),
        filter,
        order: Order::NewestFirst,
    };
    search::search(&wanted, &|_| (), see).map(drop)
}

impl FollowedLine {
    /// As text; it stands at the same place in every line.
    fn time(&self) -> Option<&str> {
        self.text.get(..TIME_END)
    }
}

impl From<&Found<'_>> for FollowedLine {
    fn from(found: &Found<'_>) -> Self {
        Self {
            text: found.line.to_owned(),
            seq: found.seq,
        }
    }
}

/// Whether standard output is a pipe that is not read any more. Without new records no write would tell.
fn is_reader_gone() -> bool {
    let out = io::stdout();
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let polled = poll(&mut watched, Some(&at_once));
    let [watched] = watched;
    polled.is_ok() && watched.revents().contains(PollFlags::ERR)
}

const PAUSE: Duration = Duration::from_secs(1);
/// Where the time ends in a line.
const TIME_END: usize = 36;
