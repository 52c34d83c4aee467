//! What expires as JSON.

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use serde::Serialize;
use uuid::Uuid;

use super::{AskedExpirations, which_word};
use crate::atlas::Timestamp;
use crate::gateway::FoundExpirations;
use crate::insight::Ending;
use crate::system::hex;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'d> {
    as_of: String,
    within: &'d str,
    which: &'static str,
    coverage: ToldCoverage,
    links: Vec<Link>,
    results: Vec<ToldEnding<'d>>,
    total_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldCoverage {
    scope: &'static str,
    users: usize,
    /// Whether something is known of every user that the caller may look up.
    complete: bool,
    oldest_answer: Option<String>,
    listed_at: Option<String>,
}

#[derive(Serialize)]
struct Link {
    href: String,
    rel: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldEnding<'d> {
    username: &'d str,
    #[serde(rename = "_id")]
    id: i64,
    subject: Option<&'d str>,
    not_after: String,
    seconds_left: i64,
    certificates: usize,
    answered_at: String,
    fill_id: Uuid,
}

pub(super) fn write(found: &FoundExpirations, asked: &AskedExpirations<'_>) -> Vec<u8> {
    let (expirations, coverage) = (&found.expirations, &found.expirations.coverage);
    let told = |ending| told(ending, expirations.as_of);
    let document = Document {
        as_of: expirations.as_of.in_seconds(),
        within: &asked.within_text,
        which: which_word(asked.which),
        coverage: ToldCoverage {
            scope: asked.scope.word(),
            users: coverage.users,
            complete: coverage.listed_at.is_some() && coverage.unknown == 0,
            oldest_answer: coverage.oldest_answer.map(Timestamp::in_seconds),
            listed_at: coverage.listed_at.map(Timestamp::in_seconds),
        },
        links: links(found.total, asked),
        results: expirations.endings.iter().map(told).collect(),
        total_count: found.total,
    };
    serde_json::to_vec(&document).expect("an answer is plain data")
}

/// Of what is told, without the time that passes meanwhile.
pub(super) fn etag(found: &FoundExpirations, format: &str) -> HeaderValue {
    let expirations = &found.expirations;
    let told = expirations.endings.iter().map(|ending| {
        let ending = told(ending, ending.not_after);
        serde_json::to_string(&ending).expect("an answer is plain data")
    });
    let told: String = told.collect();
    let hash = digest(
        &SHA256,
        format!("{format} {} {told}", found.total).as_bytes(),
    );
    HeaderValue::try_from(format!("\"{}\"", hex(hash.as_ref(), 16))).expect("visible ASCII")
}

fn told(ending: &Ending, now: Timestamp) -> ToldEnding<'_> {
    ToldEnding {
        username: ending.username.as_str(),
        id: ending.id,
        subject: ending.subject.as_deref(),
        not_after: ending.not_after.in_seconds(),
        seconds_left: ending.seconds_left(now),
        certificates: ending.certificates,
        answered_at: ending.answered_at.in_seconds(),
        fill_id: ending.fill_id,
    }
}

fn links(total: usize, asked: &AskedExpirations<'_>) -> Vec<Link> {
    let (number, size) = asked.page();
    let link = |number: u32, rel| Link {
        href: format!(
            "{}?within={}&which={}&scope={}&pageNum={number}&itemsPerPage={size}",
            asked.url,
            asked.within_text,
            which_word(asked.which),
            asked.scope.word()
        ),
        rel,
    };
    let seen = u64::from(number).saturating_mul(u64::from(size));
    let has_next = seen < u64::try_from(total).unwrap_or(u64::MAX);
    let mut links = vec![link(number, "self")];
    if number > 1 {
        links.push(link(number - 1, "previous"));
    }
    if has_next {
        links.push(link(number + 1, "next"));
    }
    links
}
