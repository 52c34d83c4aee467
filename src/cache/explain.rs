//! The explanation of a key, for an operator.

use std::time::Duration;

use serde::Serialize;

use super::entry::{CacheEntry, EntryMark};
use super::{Freshness, Inner};
use crate::atlas::CertQuery;
use crate::system::Moment;
use crate::upstream::HeldBack;

/// Everything that is known of a key. Serialised, it is the answer to `/cache/explain`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    pub(crate) state: KeyState,
    /// Why, in one sentence.
    pub(crate) why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) list: Option<ListFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) absence: Option<AbsenceFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fetch: Option<FetchFacts>,
}

/// What a lookup would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyState {
    /// Nothing, or nothing that may still be served.
    Absent,
    /// A list that will be fetched anew when it is asked for.
    Due,
    /// That the list could not be had.
    Failed,
    /// A list that is served.
    Fresh,
    /// That there is no such user or project.
    Negative,
    /// A list that is served only while Atlas cannot answer.
    Stale,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListFacts {
    /// Seconds since Atlas answered with its oldest page.
    pub(crate) age_seconds: u64,
    /// As `Cache-Status` would say.
    pub(crate) ttl_seconds: i64,
    /// When Atlas answered.
    pub(crate) answered_at: String,
    /// Until what age the list is fresh: `ttl` and its share of chance.
    pub(crate) fresh_for_seconds: f64,
    /// In how many seconds a hit causes a fetch ahead of time; 0 if the next one does.
    pub(crate) refresh_in_seconds: u64,
    /// In how many seconds the list may not even be served in an outage.
    pub(crate) dead_in_seconds: u64,
    /// When the next certificate leaves the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_expiry_in_seconds: Option<u64>,
    /// Certificates that are served, and all that Atlas listed.
    pub(crate) certificates: usize,
    pub(crate) listed: usize,
    pub(crate) fill_id: String,
    /// The replica whose fetch that was, if it was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fill_replica: Option<String>,
    pub(crate) pages: u32,
    pub(crate) calls: u32,
    pub(crate) credential: String,
    /// The validator of the usual answer.
    pub(crate) etag: String,
    /// Bytes of memory.
    pub(crate) bytes: usize,
    pub(crate) refreshed_ahead: bool,
    /// Whether an earlier process has fetched it, and the snapshot has kept it.
    pub(crate) restored: bool,
    /// Whether a soft purge, or a clock that ran ahead, has ended its fresh life.
    pub(crate) softly_purged: bool,
    /// Seconds since Atlas last failed to replace it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_seconds_ago: Option<u64>,
    /// Seconds since a rule of ours last held back the call that would have replaced it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_back_seconds_ago: Option<u64>,
    /// Which rule that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_back_by: Option<&'static str>,
    /// Where it stands: `main`, among the lists that are asked for often, `probation`, among the last fetched, or both.
    pub(crate) segments: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AbsenceFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<String>,
    /// For how many more seconds Atlas is not asked.
    pub(crate) ttl_seconds: u64,
    pub(crate) fill_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FetchFacts {
    /// Which fetch of its task it is.
    pub(crate) number: u32,
    /// Since how many milliseconds it is under way.
    pub(crate) since_milliseconds: u64,
    pub(crate) waiters: usize,
}

impl Inner {
    pub(super) fn explain(&self, query: &CertQuery, now: Moment) -> Explanation {
        let fetch = self.in_flight.under_way(query);
        let fetch = fetch.map(|(number, began, waiters)| FetchFacts {
            number,
            since_milliseconds: millis(now.elapsed.saturating_sub(began)),
            waiters,
        });
        let nothing = Explanation {
            state: KeyState::Absent,
            why: "Nothing is known; Atlas will be asked.".to_owned(),
            list: None,
            absence: None,
            fetch,
        };
        if let Some(entry) = self.store.get(query) {
            return self.explain_list(query, &entry, now, nothing);
        }
        let Some(absence) = self.store.absence(query) else {
            return nothing;
        };
        let left = self.left(&absence, now);
        if left.is_zero() {
            return nothing;
        }
        let (state, why) = match absence.failures {
            0 => (
                KeyState::Negative,
                "Atlas has said that there is no such user or project.".to_owned(),
            ),
            failures => (
                KeyState::Failed,
                format!(
                    "The list could not be had {failures} times in a row; it is too early to ask again."
                ),
            ),
        };
        Explanation {
            state,
            why,
            absence: Some(AbsenceFacts {
                error_code: absence.error_code().map(str::to_owned),
                ttl_seconds: left.as_secs(),
                fill_id: absence.fill_id.to_string(),
            }),
            ..nothing
        }
    }

    fn explain_list(
        &self,
        query: &CertQuery,
        entry: &CacheEntry,
        now: Moment,
        nothing: Explanation,
    ) -> Explanation {
        let stale_if_error = self.config.load().stale_if_error;
        let freshness = entry.freshness(now, stale_if_error);
        let (state, why) = match freshness {
            Freshness::Fresh => (
                KeyState::Fresh,
                "The list is younger than its share of `ttl`.",
            ),
            Freshness::Due => (
                KeyState::Due,
                "The list is near its end; if it is in use, the next hit fetches it anew.",
            ),
            Freshness::Stale if entry.has(EntryMark::SoftlyPurged) => (
                KeyState::Stale,
                "A soft purge, or a clock that ran ahead, has ended its fresh life; it is served only while \
                 Atlas cannot answer or is not asked.",
            ),
            Freshness::Stale => (
                KeyState::Stale,
                "The list is past its share of `ttl`; it is served only while Atlas cannot answer or is not asked.",
            ),
            Freshness::Dead => (
                KeyState::Absent,
                "The list is past `stale_if_error`; Atlas will be asked.",
            ),
        };
        Explanation {
            state,
            why: why.to_owned(),
            list: Some(self.facts(query, entry, now)),
            ..nothing
        }
    }

    fn facts(&self, query: &CertQuery, entry: &CacheEntry, now: Moment) -> ListFacts {
        let age = entry.age(now);
        let lifetime = entry.lifetime();
        let held_back = entry.held_back();
        let in_vain = entry.failed_since(now).map(|span| span.as_secs());
        let dead = lifetime
            .fresh()
            .saturating_add(self.config.load().stale_if_error);
        ListFacts {
            age_seconds: age.as_secs(),
            ttl_seconds: entry.ttl(now),
            answered_at: entry.answered_at().wall.to_string(),
            fresh_for_seconds: lifetime.fresh().as_secs_f64(),
            refresh_in_seconds: lifetime.due().saturating_sub(age).as_secs(),
            dead_in_seconds: dead.saturating_sub(age).as_secs(),
            next_expiry_in_seconds: entry.list_expiry(now.wall).map(|span| span.as_secs()),
            certificates: entry.list().unexpired(now.wall).count(),
            listed: entry.list().len(),
            fill_id: entry.fill_id().to_string(),
            fill_replica: entry.cost().replica.as_deref().map(str::to_owned),
            pages: entry.cost().pages,
            calls: entry.cost().calls,
            credential: entry.cost().credential.to_string(),
            etag: format!("\"{}\"", entry.tag(now.wall)),
            bytes: entry.weight(),
            refreshed_ahead: entry.has(EntryMark::Ahead),
            restored: entry.is_restored(),
            softly_purged: entry.has(EntryMark::SoftlyPurged),
            failed_seconds_ago: in_vain.filter(|_| held_back.is_none()),
            held_back_seconds_ago: in_vain.filter(|_| held_back.is_some()),
            held_back_by: held_back.map(HeldBack::word),
            segments: self.store.segments(query),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("no process runs for so long")
}
