//! One page of a list in Atlas's form: the items, the links, the count.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::answer::Answer;
use crate::pretty;
use crate::query::ListQuery;
use crate::target::Api;

/// Where a list is found, as its links name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) api: Api,
    /// Scheme and host.
    pub(crate) host: &'a str,
    /// The path as the caller wrote it.
    pub(crate) path: &'a str,
}

/// How long a list is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// How many items there are: what `next` goes by.
    pub(crate) held: usize,
    /// What `totalCount` says.
    pub(crate) counted: usize,
}

impl Length {
    pub(crate) fn exact(count: usize) -> Self {
        Self {
            held: count,
            counted: count,
        }
    }
}

/// The answer that shows one page of a list, of which `results` are on this page.
pub(crate) fn page<T: Serialize>(
    place: Place<'_>,
    query: &ListQuery,
    results: Vec<T>,
    length: Length,
) -> Answer {
    let list = List {
        links: links(place, query, length.held),
        results,
        status: query.envelope.then_some(200),
        total_count: query.include_count.then_some(length.counted),
    };
    document(place.api, query.pretty, StatusCode::OK, &list)
}

/// A success with the content type that this form of the API uses.
pub(crate) fn document(
    api: Api,
    indented: bool,
    status: StatusCode,
    body: &impl Serialize,
) -> Answer {
    let mut answer = if indented {
        Answer::bytes(status, pretty::to_vec(body))
    } else {
        Answer::json(status, body)
    };
    answer.headers.insert(CONTENT_TYPE, content_type(api));
    answer
}

pub(crate) fn content_type(api: Api) -> HeaderValue {
    HeaderValue::from_static(match api {
        Api::V1 => "application/json",
        Api::V2 => "application/vnd.atlas.2023-01-01+json;charset=utf-8",
    })
}

/// A link of a list or of an item.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Link {
    pub(crate) href: String,
    pub(crate) rel: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    links: Vec<Link>,
    results: Vec<T>,
    // Atlas: "envelope=true" adds the status to a list, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<usize>,
}

/// `self` always, `previous` unless this is the first page, `next` unless it is the last. The order
/// of the two paging parameters differs between `self` and the others; that was observed.
fn links(place: Place<'_>, query: &ListQuery, total: usize) -> Vec<Link> {
    let Place { host, path, api: _ } = place;
    let ListQuery {
        page, size, echo, ..
    } = query;
    let own = format!("{host}{path}?{echo}pageNum={page}&itemsPerPage={size}");
    let other = |page: u32| format!("{host}{path}?{echo}itemsPerPage={size}&pageNum={page}");
    let mut links = vec![Link {
        href: own,
        rel: "self",
    }];
    if *page > 1 {
        links.push(Link {
            href: other(page - 1),
            rel: "previous",
        });
    }
    if query.skipped().saturating_add(query.taken()) < total {
        links.push(Link {
            href: other(page + 1),
            rel: "next",
        });
    }
    links
}
