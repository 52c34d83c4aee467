//! A list and the form that was asked for go in; the bytes of the answer and their `ETag` come out.
//!
//! The usual form is kept with the list. Every other one (a page, indented, in an envelope, uncounted)
//! is cut from the same list here, compressed quickly where it is large, and not kept.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

use super::links;
use super::links::PageLinks;
use super::pretty;
use super::query::PageWish;
use super::request::Asked;
use crate::atlas::Certificate;
use crate::cache::Encoding;
use crate::cache::Tag;
use crate::cache::Usage;
use crate::cache::WORTH_COMPRESSING;
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
    if let Some(encoding) = asked.encoding
        && let Some(body) = entry.compressed(&asked.question, asked.address, now, encoding)
    {
        return compressed(body, encoding, (entry.tag(now), ""), certificates);
    }
    List {
        body: usual.body,
        etag: usual.etag,
        encoding: None,
        certificates,
    }
}

fn unusual(answer: &Answer, asked: &Asked<'_>) -> List {
    let (entry, now) = (&answer.found.entry, answer.now.wall);
    let all: Vec<Certificate<'_>> = entry.list().unexpired(now).collect();
    let shown = match asked.form.page {
        None => all.as_slice(),
        Some(page) => cut(&all, page),
    };
    let certificates = u64::try_from(shown.len()).unwrap_or(u64::MAX);
    let body = document(shown, all.len(), asked);
    let (tag, variant) = (entry.tag(now), Variant(asked));
    if body.len() > WORTH_COMPRESSING
        && let Some(encoding) = asked.encoding
        && let Some(body) = encoding.compress(&body, Usage::Once)
    {
        return compressed(body, encoding, (tag, variant), certificates);
    }
    List {
        body: Bytes::from(body),
        etag: tag.header(variant),
        encoding: None,
        certificates,
    }
}

fn compressed(
    body: Bytes,
    encoding: Encoding,
    (tag, variant): (Tag, impl fmt::Display),
    certificates: u64,
) -> List {
    let name = encoding.name();
    List {
        body,
        etag: tag.header(format_args!("{variant}-{name}")),
        encoding: Some(name),
        certificates,
    }
}

/// The JSON document that shows `shown` of `total` certificates.
fn document(shown: &[Certificate<'_>], total: usize, asked: &Asked<'_>) -> Vec<u8> {
    let form = asked.form;
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
    if form.is_pretty() {
        pretty::indented(body.as_bytes())
    } else {
        body.into_bytes()
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

impl fmt::Display for Variant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
