//! One walk: a question goes in, page after page is asked for, and a list of one moment comes out.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::try_join_all;
use http::StatusCode;

use super::answer::FetchFailure;
use super::answer::Walk;
use super::call::Caller;
use super::call::Stop;
use super::config::Proof;
use super::page::Page;
use super::pages;
use super::pages::Plan;
use super::retry::Pause;
use crate::atlas::CertificateList;
use crate::clock::Moment;

/// What a walk is doing, as it goes; kept outside of it, so that it is known even if time runs out.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Entries>);

#[derive(Clone, Copy, Debug, Default)]
struct Entries {
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
}

/// A list of one moment.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) list: CertificateList,
    pub(crate) at: Moment,
}

/// Reads the list, from the beginning again if it changes meanwhile.
pub(crate) async fn whole(caller: &Caller<'_>) -> Result<Whole, FetchFailure> {
    let mut restarts = 0;
    loop {
        let pause = match once(caller).await {
            Ok(whole) => return Ok(whole),
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::Changed) if restarts < MOST_RESTARTS => {
                restarts += 1;
                caller.upstream.metrics.walks_restarted.inc();
                AFTER_CHANGE
            }
            Err(Stop::Changed) => return Err(FetchFailure::Inconsistent),
            Err(Stop::Torn(pause)) => pause,
        };
        caller.pause(pause).await;
    }
}

async fn once(caller: &Caller<'_>) -> Result<Whole, Stop> {
    let first = caller.page(1).await?;
    let at = first.at;
    let mut pages = vec![first.page];
    let limits = &caller.upstream.limits;
    let plan = pages.first().map(|page| pages::plan(page, limits.pages));
    match plan {
        Some(Plan::Complete) => {}
        Some(Plan::Changed) | None => return Err(Stop::Changed),
        Some(Plan::TooLong) => {
            let why = "more pages than are ever read";
            return Err(Stop::Failed(FetchFailure::InvalidResponse(why)));
        }
        Some(Plan::Rest { last, doubtful }) => {
            let mut next = 2;
            if doubtful && last > 2 {
                // One look before many: if the count is wrong, the second page is empty.
                let second = further(caller, [2]).await?;
                if second.iter().all(|page| page.items.is_empty()) {
                    return Err(Stop::Changed);
                }
                pages.extend(second);
                next = 3;
            }
            pages.extend(further(caller, next..=last).await?);
        }
    }
    if !pages::fit_together(&pages) {
        return Err(Stop::Changed);
    }
    pages.retain(|page| !page.items.is_empty());
    caller.log.pages(pages.len());
    if pages.len() > 1 {
        prove(caller, &pages, limits.proof).await?;
    }
    let list = pages::join(&pages).ok_or(Stop::Failed(FetchFailure::InvalidResponse(
        "a list larger than can be kept",
    )))?;
    Ok(Whole { list, at })
}

/// Reads again what was read, once all of it was; see [`pages`].
async fn prove(caller: &Caller<'_>, pages: &[Page], proof: Proof) -> Result<(), Stop> {
    let again = match proof {
        Proof::EveryPage => pages,
        Proof::FirstPage => pages.get(..1).unwrap_or_default(),
    };
    let last = u64::try_from(again.len()).unwrap_or(u64::MAX);
    if further(caller, 1..=last).await? == again {
        Ok(())
    } else {
        Err(Stop::Changed)
    }
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
    pub(crate) fn called(&self, now: Duration) {
        let mut entries = self.entries();
        entries.calls = entries.calls.saturating_add(1);
        entries.began.get_or_insert(now);
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

    pub(crate) fn walk(&self, credential: Arc<str>) -> Walk {
        let entries = *self.entries();
        let ended = entries.ended.unwrap_or_default();
        Walk {
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

const MOST_RESTARTS: u32 = 2;
const AFTER_CHANGE: Pause = Pause {
    least: Duration::ZERO,
    most: Duration::from_millis(150),
    cost: 0,
};
