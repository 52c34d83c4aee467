//! A list and the form that was asked for go in; the bytes of the answer and their `ETag` come out.
//!
//! The usual form is kept with the list. Every other one (a page, indented, in an envelope, uncounted)
//! is cut from the same list here and not kept.

use bytes::Bytes;
use http::HeaderValue;

use super::links;
use super::links::PageLinks;
use super::pretty;
use super::query::PageWish;
use super::request::Asked;
use crate::atlas::Certificate;
use crate::atlas::Timestamp;
use crate::cache::Encoding;
use crate::cache::Entry;
use crate::gateway::Answer;

/// A list, written.
#[derive(Debug)]
pub struct List {
    /// The JSON document, compressed if `encoding` says so.
    pub body: Bytes,
    /// Its strong validator.
    pub etag: HeaderValue,
    /// `Content-Encoding`.
    pub encoding: Option<&'static str>,
    /// How many certificates are in it.
    pub certificates: u64,
}

/// Writes an answer's list as `asked`.
pub fn render(answer: &Answer, asked: &Asked<'_>) -> List {
    if asked.form.is_usual() {
        usual(answer, asked)
    } else {
        unusual(answer, asked)
    }
}

fn usual(answer: &Answer, asked: &Asked<'_>) -> List {
    let (entry, now) = (&answer.found.entry, answer.now.wall);
    let usual = entry.usual(&asked.question, asked.address, now);
    let certificates = u64::try_from(usual.certificates).unwrap_or(u64::MAX);
    if entry.is_worth_compressing()
        && let Some((body, name)) = compressed(entry, asked, now)
    {
        return List {
            body,
            etag: entry.tag(now).header(format_args!("-{name}")),
            encoding: Some(name),
            certificates,
        };
    }
    List {
        body: usual.body,
        etag: usual.etag,
        encoding: None,
        certificates,
    }
}

/// The form that is wanted most of those that are there, and its name.
fn compressed(entry: &Entry, asked: &Asked<'_>, now: Timestamp) -> Option<(Bytes, &'static str)> {
    let mut wanted = [
        (asked.encodings.zstd, Encoding::Zstd, "zstd"),
        (asked.encodings.gzip, Encoding::Gzip, "gzip"),
        (asked.encodings.brotli, Encoding::Brotli, "br"),
    ];
    // Of those that are equally welcome the first is the cheapest to make and to undo.
    wanted.sort_by_key(|(quality, _, _)| std::cmp::Reverse(*quality));
    let mut wanted = wanted.into_iter().filter(|(quality, _, _)| *quality > 0);
    wanted.find_map(|(_, encoding, name)| {
        let body = entry.compressed(&asked.question, asked.address, now, encoding)?;
        Some((body, name))
    })
}

fn unusual(answer: &Answer, asked: &Asked<'_>) -> List {
    let (list, now) = (answer.found.entry.list(), answer.now.wall);
    let all: Vec<Certificate<'_>> = list.unexpired(now).collect();
    let total = all.len();
    let form = asked.form;
    let shown = match form.page {
        None => all.as_slice(),
        Some(page) => cut(&all, page),
    };
    let mut body = String::from("{");
    if form.has_envelope() {
        body.push_str("\"status\":200,");
    }
    body.push_str("\"links\":[");
    match form.page {
        None => links::self_link(&mut body, asked.address, &asked.question),
        Some(page) => {
            let (address, question) = (asked.address, &asked.question);
            PageLinks {
                address,
                question,
                form,
                page,
                total,
            }
            .write(&mut body);
        }
    }
    body.push_str("],\"results\":[");
    for (at, certificate) in shown.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(certificate.json);
    }
    body.push(']');
    if form.include_count != Some(false) {
        body.push_str(",\"totalCount\":");
        body.push_str(&total.to_string());
    }
    body.push('}');
    let body = if form.is_pretty() {
        pretty::indented(body.as_bytes())
    } else {
        body.into_bytes()
    };
    List {
        body: Bytes::from(body),
        etag: answer.found.entry.tag(now).header(Variant(asked)),
        encoding: None,
        certificates: u64::try_from(shown.len()).unwrap_or(u64::MAX),
    }
}

/// The certificates of one page; none for a page past the end, as Atlas has it.
fn cut<'a, 'c>(all: &'a [Certificate<'c>], page: PageWish) -> &'a [Certificate<'c>] {
    let size = usize::try_from(page.size()).unwrap_or(usize::MAX);
    let before = usize::try_from(page.number() - 1)
        .unwrap_or(usize::MAX)
        .saturating_mul(size);
    let end = before.saturating_add(size).min(all.len());
    all.get(before.min(end)..end).unwrap_or_default()
}

/// What tells one form's validator from another's.
struct Variant<'a>(&'a Asked<'a>);

impl std::fmt::Display for Variant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let form = self.0.form;
        if let Some(page) = form.page {
            write!(f, "-{}x{}", page.number(), page.size())?;
        }
        for (flag, is_set) in [
            ("-e", form.has_envelope()),
            ("-p", form.is_pretty()),
            ("-u", form.include_count == Some(false)),
        ] {
            if is_set {
                f.write_str(flag)?;
            }
        }
        Ok(())
    }
}
