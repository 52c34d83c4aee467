//! What replicas share of a fetch, as text: a list, the absence of one, or why it could not be had.
//!
//! It begins with a line of JSON, and what Atlas sent follows. Whoever reads it checks the list as it checks a page
//! of Atlas's; a text that an older or a newer version has written is no list.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atlas::{CertQuery, CertificateList, ProjectId, Timestamp};
use crate::system::Moment;
use crate::upstream::{
    AtlasAnswer, FetchError, FetchErrorKind, FetchStats, Fetched, LONGEST_PAGE, SharedFetch, merge,
};

/// What another replica has left.
#[derive(Debug)]
pub(super) struct SharedOutcome {
    pub(super) result: Result<Fetched, FetchError>,
    /// How long ago Atlas answered.
    pub(super) age: Duration,
}

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
struct Head<'h> {
    /// The version of this format.
    v: u8,
    /// When Atlas answered, in microseconds; for a failure, when the fetch ended.
    on: i64,
    /// How many milliseconds before it was shared that was.
    age: u64,
    /// The fetch.
    id: Uuid,
    /// The replica.
    by: &'h str,
    /// The credential.
    cr: &'h str,
    pages: u32,
    #[serde(flatten)]
    body: Body,
}

/// What follows.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    /// A list.
    List(ListForm),
    /// An error document of Atlas's.
    Atlas { status: u16, wait: Option<u64> },
    /// A failure that is not Atlas's word.
    Failed(Failure),
}

/// How a list is written: as pages of so many bytes; compressed, if that was worth it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ListForm {
    parts: Vec<u32>,
    zstd: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Failure {
    Inconsistent,
    NoDocument(u16),
    Timeout,
    Tls,
    Unreachable,
}

type WrittenBody = (Body, Vec<u8>);

/// Of a list.
pub(super) type WrittenList = (ListForm, Vec<u8>);

/// Writes down what a fetch has brought until `now`; `None` for what is only this replica's, as for a call that its
/// own limits have held back.
pub(super) fn write(
    result: &Result<Fetched, FetchError>,
    fill_id: Uuid,
    replica: &str,
    now: Moment,
) -> Option<Vec<u8>> {
    let (stats, at) = match result {
        Ok(fetched) => (&fetched.stats, fetched.answered_at),
        Err(error) => (&error.stats, now),
    };
    let (body, content) = match result {
        Ok(fetched) => {
            let (form, pages) = write_list(&fetched.list)?;
            (Body::List(form), pages)
        }
        Err(error) => write_error(&error.reason)?,
    };
    let head = Head {
        v: VERSION,
        on: at.wall.micros(),
        age: u64::try_from(now.since(at).as_millis()).ok()?,
        id: fill_id,
        by: replica,
        cr: &stats.credential,
        pages: stats.pages,
        body,
    };
    let mut text = serde_json::to_vec(&head).expect("a head is plain data");
    text.push(b'\n');
    text.extend_from_slice(&content);
    Some(text)
}

/// What another replica has written, which was stored for `stored`. `None` if it is no outcome of this query's
/// fetch, or is dated ahead of our clock.
pub(super) fn read(
    text: &[u8],
    query: &CertQuery,
    stored: Duration,
    now: Moment,
) -> Option<SharedOutcome> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let head: Head<'_> = serde_json::from_slice(text.get(..end)?).ok()?;
    let content = text.get(end + 1..)?;
    let on = Timestamp::from_micros(head.on);
    if head.v != VERSION || on > now.wall.plus(AHEAD) {
        return None;
    }
    // Two clocks, and the larger age: one that is wrong makes a list look older, never younger.
    let age = stored.saturating_add(Duration::from_millis(head.age));
    let age = age.max(now.wall.since(on));
    let stats = FetchStats {
        credential: Arc::from(head.cr),
        calls: 0,
        pages: head.pages,
        duration: Duration::ZERO,
        status: None,
    };
    let result = match read_body(&head.body, content, query)? {
        Ok(list) => Ok(Fetched {
            list,
            answered_at: Moment {
                elapsed: now.before(age).elapsed,
                wall: on.min(now.wall),
            },
            stats,
            shared: Some(SharedFetch {
                fill_id: head.id,
                replica: Arc::from(head.by),
            }),
        }),
        Err(reason) => Err(FetchError { reason, stats }),
    };
    Some(SharedOutcome { result, age })
}

/// Writes a list down as pages like Atlas's.
pub(super) fn write_list(list: &CertificateList) -> Option<WrittenList> {
    let (mut parts, mut pages) = (Vec::new(), Vec::new());
    let mut next: Range<usize> = 0..LONGEST_PAGE;
    loop {
        let before = pages.len();
        pages.extend_from_slice(b"{\"results\":[");
        pages.extend_from_slice(&list.texts(next.clone()));
        pages.extend_from_slice(format!("],\"totalCount\":{}}}", list.len()).as_bytes());
        parts.push(u32::try_from(pages.len() - before).ok()?);
        next = next.end..next.end + LONGEST_PAGE;
        if next.start >= list.len() {
            break;
        }
    }
    let zstd = pages.len() > WORTH_COMPRESSING;
    if zstd {
        pages = zstd::bulk::compress(&pages, FASTEST).ok()?;
    }
    Some((ListForm { parts, zstd }, pages))
}

/// What [`write_list`] has written; `None` for anything that is not a list of this project.
pub(super) fn read_list(
    form: &ListForm,
    content: &[u8],
    project: &ProjectId,
) -> Option<CertificateList> {
    let mut rest = if form.zstd {
        Bytes::from(zstd::bulk::decompress(content, LONGEST_LIST).ok()?)
    } else {
        Bytes::copy_from_slice(content)
    };
    let mut bodies = Vec::new();
    for length in &form.parts {
        let length = usize::try_from(*length).ok()?;
        if length > rest.len() {
            return None;
        }
        bodies.push(rest.split_to(length));
    }
    merge(&bodies, project).filter(|_| rest.is_empty())
}

fn write_error(reason: &FetchErrorKind) -> Option<WrittenBody> {
    let failure = match reason {
        FetchErrorKind::Atlas(answer) => {
            let wait = answer.retry_after.map(|wait| wait.as_secs());
            let status = answer.status.as_u16();
            return Some((Body::Atlas { status, wait }, answer.body.to_vec()));
        }
        FetchErrorKind::Inconsistent => Failure::Inconsistent,
        FetchErrorKind::NoDocument { status, .. } => Failure::NoDocument(status.as_u16()),
        FetchErrorKind::Timeout => Failure::Timeout,
        FetchErrorKind::Tls => Failure::Tls,
        FetchErrorKind::Unreachable => Failure::Unreachable,
        FetchErrorKind::BreakerOpen { .. }
        | FetchErrorKind::Credential(_)
        | FetchErrorKind::HeldBack { .. }
        | FetchErrorKind::InvalidResponse(_)
        | FetchErrorKind::NoCredential => return None,
    };
    Some((Body::Failed(failure), Vec::new()))
}

fn read_body(
    body: &Body,
    content: &[u8],
    query: &CertQuery,
) -> Option<Result<CertificateList, FetchErrorKind>> {
    let failure = match body {
        Body::List(form) => return read_list(form, content, &query.project).map(Ok),
        Body::Atlas { status, wait } => {
            let status = StatusCode::from_u16(*status).ok()?;
            let content = Bytes::copy_from_slice(content);
            let answer = AtlasAnswer::read(status, content, wait.map(Duration::from_secs));
            return Some(Err(FetchErrorKind::Atlas(answer?)));
        }
        Body::Failed(failure) => failure,
    };
    Some(Err(match failure {
        Failure::Inconsistent => FetchErrorKind::Inconsistent,
        Failure::NoDocument(status) => FetchErrorKind::NoDocument {
            status: StatusCode::from_u16(*status).ok()?,
            retry_after: None,
        },
        Failure::Timeout => FetchErrorKind::Timeout,
        Failure::Tls => FetchErrorKind::Tls,
        Failure::Unreachable => FetchErrorKind::Unreachable,
    }))
}

const VERSION: u8 = 1;
/// By how much another replica's clock may be ahead of ours.
const AHEAD: Duration = Duration::from_secs(2);
/// A smaller text costs more to compress than it saves.
const WORTH_COMPRESSING: usize = 2 << 10;
const FASTEST: i32 = 1;
/// Of 10,000 certificates, the most that Atlas's pages can have here, and then some.
pub(super) const LONGEST_LIST: usize = 32 << 20;
