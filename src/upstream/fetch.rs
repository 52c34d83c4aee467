//! One fetch: reads a list page after page, as often as it takes to prove that it is of one moment; see
//! [`super::pages`].

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::Upstream;
use super::call::{CallContext, list_path};
use super::config::Proof;
use super::credential::Credential;
use super::error::{CallError, FetchError, FetchErrorKind, Fetched, Urgency};
use super::page::AtlasPage;
use super::pages::{self, Plan};
use super::progress::FetchCounts;
use super::retry::Backoff;
use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::system::Moment;
use crate::telemetry::metrics::upstream::{CallCause, Endpoint};

/// How a list is fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// How much it matters.
    pub urgency: Urgency,
    /// Whether a caller forces it.
    pub forced: bool,
    /// Whether a call that fails is tried again; not of a list that could not be had lately.
    pub retries: bool,
}

struct ListReading {
    pages: Vec<AtlasPage>,
    at: Moment,
    date: Option<Timestamp>,
    /// Each page was asked for when the one before it had come.
    in_order: bool,
}

enum ReadOutcome {
    List(ListReading),
    Unproven(ListReading),
}

impl Upstream {
    pub(super) async fn fetch_by(
        &self,
        query: &CertQuery,
        options: FetchOptions,
        credential: &Credential,
    ) -> Result<Fetched, FetchError> {
        let clock = &self.0.env.clock;
        let progress = FetchCounts::new(options.cause());
        let Some(url) = self.0.env.client.url(&list_path(self.0.api, query)) else {
            let why = "the question cannot be put as a path";
            return Err(FetchError {
                reason: FetchErrorKind::InvalidResponse(why),
                stats: progress.stats(Arc::clone(&credential.name)),
            });
        };
        let context = CallContext {
            upstream: self,
            project: query.project,
            retries: options.retries,
            credential,
            limits: self.0.limiter.for_fetch(query.project, options.urgency),
            progress,
            deadline: clock.elapsed() + self.0.limits.fetch,
            url,
            endpoint: Endpoint::Certificates,
        };
        // Pinned here, and so never moved: a fetch is some kilobytes.
        let fetched = pin!(read_list(&context));
        let fetched = clock.timeout(self.0.limits.fetch, fetched);
        let fetched = tokio::select! {
            biased;
            fetched = fetched => fetched.unwrap_or(Err(FetchErrorKind::Timeout)),
            () = self.0.given_up.cancelled() => Err(FetchErrorKind::Timeout),
        };
        let stats = context.progress.stats(Arc::clone(&credential.name));
        match fetched {
            Ok((list, answered_at)) => Ok(Fetched {
                list,
                answered_at,
                stats,
                shared: None,
            }),
            Err(reason) => {
                let error = FetchError { reason, stats };
                if let Some(reason) = error.not_asked() {
                    let withheld = &self.0.env.metrics.fetches_withheld;
                    withheld.get_or_create(&[("reason", reason)]).inc();
                }
                Err(error)
            }
        }
    }
}

impl FetchOptions {
    fn cause(self) -> CallCause {
        match self.urgency {
            _ if self.forced => CallCause::Forced,
            Urgency::Inventory => CallCause::Inventory,
            Urgency::RefreshAhead => CallCause::Ahead,
            Urgency::Warm => CallCause::Warm,
            Urgency::Revalidate | Urgency::Miss => CallCause::Miss,
        }
    }
}

impl From<Urgency> for FetchOptions {
    fn from(urgency: Urgency) -> Self {
        Self {
            urgency,
            forced: false,
            retries: true,
        }
    }
}

async fn read_list(context: &CallContext<'_>) -> Result<(CertificateList, Moment), FetchErrorKind> {
    let mut previous = None;
    let mut readings = 1;
    loop {
        let is_first_doubt = previous.is_none();
        let is_proof = match read(context, previous.take()).await {
            Ok(ReadOutcome::List(reading)) => return accept(context, &reading),
            Ok(ReadOutcome::Unproven(reading)) => {
                previous = Some(reading);
                is_first_doubt
            }
            Err(CallError::Changed) => false,
            // A retry, which its own budget bounds.
            Err(error @ CallError::Torn(_)) if context.may_retry(&error).await => continue,
            Err(error) => return Err(error.into()),
        };
        if readings == MOST_READINGS {
            return Err(FetchErrorKind::Inconsistent);
        }
        readings += 1;
        if is_proof {
            context.progress.begin_reading(CallCause::Proof);
        } else {
            context.upstream.0.env.metrics.fetches_restarted.inc();
            context.progress.begin_reading(CallCause::Restart);
            context.pause(AFTER_CHANGE).await;
        }
    }
}

/// Reads all pages, and looks whether they are of one moment: by themselves, or because they agree with the
/// reading before.
async fn read(
    context: &CallContext<'_>,
    previous: Option<ListReading>,
) -> Result<ReadOutcome, CallError> {
    // Where the count cannot be trusted, the order in which the pages were read is what proves.
    let one_by_one = previous
        .as_ref()
        .is_some_and(|before| !pages::are_as_counted(&before.pages));
    let reading = read_all(context, one_by_one).await?;
    if let Some(before) = previous
        && pages::agree(&before.pages, &reading.pages)
        && (before.in_order || pages::are_as_counted(&reading.pages))
    {
        return Ok(ReadOutcome::List(before));
    }
    // One answer is of one moment. An empty page behind it makes two answers.
    let is_proven = match (&reading.pages[..], context.upstream.0.limits.proof) {
        ([_], _) => true,
        (_, Proof::CreatedAt) => pages::are_proven_by_creation(&reading.pages, reading.date),
        (_, Proof::EveryPage) => false,
        (first, Proof::FirstPage) => {
            context.progress.begin_reading(CallCause::Proof);
            let again = further_pages(context, 1..=1).await?;
            pages::agree(&again, first.get(..1).expect("a reading has pages"))
        }
    };
    Ok(if is_proven {
        ReadOutcome::List(reading)
    } else {
        ReadOutcome::Unproven(reading)
    })
}

async fn read_all(context: &CallContext<'_>, one_by_one: bool) -> Result<ListReading, CallError> {
    let first = context.first_page().await?;
    let (at, date) = (first.at, first.date);
    let mut pages = vec![first.page];
    let mut in_order = true;
    loop {
        match pages::plan(&pages, context.upstream.0.limits.pages) {
            Plan::Changed => return Err(CallError::Changed),
            Plan::Complete(end) => {
                pages.truncate(end);
                break;
            }
            Plan::Further(numbers) => {
                let (next, end) = numbers.into_inner();
                let last = if one_by_one { next } else { end };
                in_order &= next == last;
                pages.extend(further_pages(context, next..=last).await?);
            }
            Plan::TooLong => return Err(CallError::Unusable("more pages than are ever read")),
        }
    }
    if !pages::are_distinct(&pages) {
        return Err(CallError::Changed);
    }
    // The last one may be empty.
    let filled = pages.iter().filter(|page| !page.items.is_empty());
    context.progress.pages(filled.count());
    Ok(ListReading {
        pages,
        at,
        date,
        in_order,
    })
}

fn accept(
    context: &CallContext<'_>,
    reading: &ListReading,
) -> Result<(CertificateList, Moment), FetchErrorKind> {
    let metrics = &context.upstream.0.env.metrics;
    if !pages::are_as_counted(&reading.pages) {
        metrics.lists_miscounted.inc();
    }
    let endless = pages::items(&reading.pages).filter(|item| item.not_after.is_none());
    let endless = u64::try_from(endless.count()).expect("a list has half a million at most");
    metrics.certificates_without_end.inc_by(endless);
    let too_large = FetchErrorKind::InvalidResponse("a list larger than can be kept");
    Ok((pages::join(&reading.pages).ok_or(too_large)?, reading.at))
}

/// Reads pages at once; Atlas may answer them in any order.
async fn further_pages(
    context: &CallContext<'_>,
    numbers: RangeInclusive<u64>,
) -> Result<Vec<AtlasPage>, CallError> {
    let count = numbers.end().saturating_sub(*numbers.start()) + 1;
    let reserved = context.limits.reserve(count, false).await;
    let reserved = reserved.map_err(CallError::NotSent)?;
    let reads = numbers
        .zip(reserved)
        .map(|(number, reservation)| context.further_page(number, reservation));
    let replies = try_join_all(reads).await?;
    Ok(replies.into_iter().map(|reply| reply.page).collect())
}

const MOST_READINGS: u32 = 3;
const AFTER_CHANGE: Backoff = Backoff {
    least: Duration::ZERO,
    most: Duration::from_millis(150),
    cost: 0,
};
