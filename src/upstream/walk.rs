//! One walk: a question goes in, page after page is asked for, and a list of one moment comes out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use http::StatusCode;

use super::answer::{FetchErrorKind, FetchStats};
use super::call::{Caller, Stop};
use super::config::Proof;
use super::page::Page;
use super::pages;
use super::pages::Plan;
use super::retry::Pause;
use crate::atlas::{CertificateList, Timestamp};
use crate::clock::Moment;
use crate::telemetry::metrics::upstream::CallCause;

/// What a walk is doing, as it goes; kept outside of it, so that it is known even if time runs out.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Entries>);

#[derive(Clone, Debug, Default)]
struct Entries {
    /// What the reading under way is made for, and the pages that were asked for in it.
    cause: CallCause,
    asked: Vec<u64>,
    calls: u32,
    retries: u32,
    pages: u32,
    began: Option<Duration>,
    ended: Option<Duration>,
    status: Option<StatusCode>,
}

/// A page, and when Atlas answered with it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) page: Page,
    pub(crate) at: Moment,
    /// Atlas's own clock, as the answer's `Date` has it.
    pub(crate) date: Option<Timestamp>,
}

/// A list of one moment.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) list: CertificateList,
    pub(crate) at: Moment,
}

/// All pages, each read once.
struct Reading {
    pages: Vec<Page>,
    at: Moment,
    date: Option<Timestamp>,
}

/// What a reading has shown.
enum Shown {
    /// The list of one moment.
    List(Reading),
    /// Pages that may be of several moments.
    Unproven(Reading),
}

/// Reads the list, as often as it takes to prove that it is of one moment; see [`pages`].
pub(crate) async fn whole(caller: &Caller<'_>) -> Result<Whole, FetchErrorKind> {
    let mut previous = None;
    let mut readings = 1;
    loop {
        let is_first_doubt = previous.is_none();
        let pause = match read(caller, previous.take()).await {
            Ok(Shown::List(reading)) => return accept(caller, &reading),
            Ok(Shown::Unproven(reading)) => {
                previous = Some(reading);
                if is_first_doubt {
                    caller.log.begin_reading(CallCause::Proof);
                    NO_PAUSE
                } else {
                    AFTER_CHANGE
                }
            }
            Err(Stop::Changed) => AFTER_CHANGE,
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::Torn(pause)) => {
                // A retry, which its own budget bounds.
                caller.pause(pause).await;
                continue;
            }
        };
        if readings == MOST_READINGS {
            return Err(FetchErrorKind::Inconsistent);
        }
        readings += 1;
        if pause == AFTER_CHANGE {
            caller.upstream.metrics.fetches_restarted.inc();
            caller.log.begin_reading(CallCause::Restart);
        }
        caller.pause(pause).await;
    }
}

/// Reads all pages, and looks whether they are of one moment: by themselves, or because they agree with
/// the reading before.
async fn read(caller: &Caller<'_>, previous: Option<Reading>) -> Result<Shown, Stop> {
    let reading = read_all(caller).await?;
    if let Some(before) = previous
        && pages::agree(&before.pages, &reading.pages)
    {
        return Ok(Shown::List(before));
    }
    // One answer is of one moment. An empty page behind it makes two answers.
    let is_proven = reading.pages.len() == 1
        || match caller.upstream.limits.proof {
            Proof::CreatedAt => pages::are_proven_by_creation(&reading.pages, reading.date),
            Proof::EveryPage => false,
            Proof::FirstPage => {
                caller.log.begin_reading(CallCause::Proof);
                let again = further(caller, 1..=1).await?;
                pages::agree(&again, reading.pages.get(..1).unwrap_or_default())
            }
        };
    Ok(if is_proven {
        Shown::List(reading)
    } else {
        Shown::Unproven(reading)
    })
}

async fn read_all(caller: &Caller<'_>) -> Result<Reading, Stop> {
    let first = caller.page(1).await?;
    let (at, date) = (first.at, first.date);
    let mut pages = vec![first.page];
    loop {
        match pages::plan(&pages, caller.upstream.limits.pages) {
            Plan::Changed => return Err(Stop::Changed),
            Plan::Complete(end) => {
                pages.truncate(end);
                break;
            }
            Plan::Further(numbers) => pages.extend(further(caller, numbers).await?),
            Plan::TooLong => {
                let why = "more pages than are ever read";
                return Err(Stop::Failed(FetchErrorKind::InvalidResponse(why)));
            }
        }
    }
    if !pages::are_distinct(&pages) {
        return Err(Stop::Changed);
    }
    // The last one may be empty.
    caller
        .log
        .pages(pages.iter().filter(|page| !page.items.is_empty()).count());
    Ok(Reading { pages, at, date })
}

fn accept(caller: &Caller<'_>, reading: &Reading) -> Result<Whole, FetchErrorKind> {
    let metrics = &caller.upstream.metrics;
    if !pages::are_as_counted(&reading.pages) {
        metrics.lists_miscounted.inc();
    }
    let endless = pages::items(&reading.pages).filter(|item| item.not_after.is_none());
    metrics
        .certificates_without_end
        .inc_by(u64::try_from(endless.count()).unwrap_or(u64::MAX));
    let too_large = FetchErrorKind::InvalidResponse("a list larger than can be kept");
    Ok(Whole {
        list: pages::join(&reading.pages).ok_or(too_large)?,
        at: reading.at,
    })
}

/// Reads several pages at once, in their order.
async fn further(
    caller: &Caller<'_>,
    numbers: impl IntoIterator<Item = u64> + Clone,
) -> Result<Vec<Page>, Stop> {
    let count = numbers.clone().into_iter().count();
    let grants = caller.take_further(u64::try_from(count).unwrap_or(u64::MAX))?;
    let reads = numbers
        .into_iter()
        .zip(grants)
        .map(|(number, grant)| caller.further_page(number, grant));
    let reads = try_join_all(reads).await?;
    Ok(reads.into_iter().map(|read| read.page).collect())
}

impl Log {
    /// Of a fetch that is made for this.
    pub(crate) fn new(cause: CallCause) -> Self {
        let log = Self::default();
        log.begin_reading(cause);
        log
    }

    /// All pages are read once more, for this.
    fn begin_reading(&self, cause: CallCause) {
        let mut entries = self.entries();
        entries.cause = cause;
        entries.asked.clear();
    }

    /// A page is asked for; says what this call is made for. A second one for the same page in one reading
    /// is a retry.
    pub(crate) fn called(&self, page: u64, now: Duration) -> CallCause {
        let mut entries = self.entries();
        entries.calls = entries.calls.saturating_add(1);
        entries.began.get_or_insert(now);
        if entries.asked.contains(&page) {
            return CallCause::Retry;
        }
        entries.asked.push(page);
        entries.cause
    }

    pub(crate) fn answered(&self, status: Option<StatusCode>, now: Duration) {
        let mut entries = self.entries();
        entries.status = status.or(entries.status);
        entries.ended = Some(now);
    }

    /// How many tries beyond the first there were.
    pub(crate) fn retries(&self) -> u32 {
        self.entries().retries
    }

    pub(crate) fn retried(&self) {
        let mut entries = self.entries();
        entries.retries = entries.retries.saturating_add(1);
    }

    fn pages(&self, count: usize) {
        // An empty list is one empty page.
        self.entries().pages = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    }

    pub(crate) fn stats(&self, credential: Arc<str>) -> FetchStats {
        let entries = self.entries();
        let ended = entries.ended.unwrap_or_default();
        FetchStats {
            credential,
            calls: entries.calls,
            pages: entries.pages,
            duration: ended.saturating_sub(entries.began.unwrap_or(ended)),
            status: entries.status,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MOST_READINGS: u32 = 3;
const NO_PAUSE: Pause = Pause {
    least: Duration::ZERO,
    most: Duration::ZERO,
    cost: 0,
};
const AFTER_CHANGE: Pause = Pause {
    least: Duration::ZERO,
    most: Duration::from_millis(150),
    cost: 0,
};
