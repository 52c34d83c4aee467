//! The body of an answer, in the form that was asked for, and its `ETag`.
//!
//! The usual form is kept with the list. Every other one (a page, in an envelope, uncounted) is a head, the
//! list in memory or a part of it, and a tail; an indented one is made of these as it leaves. So none holds
//! a copy of the list. What shows the whole list shares its compressed forms, too. Pages are compressed
//! quickly, and the last few are kept; indented answers are compressed quickly, and not kept.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

use super::links;
use super::links::PageLinks;
use super::payload::{Body, MADE_AT_A_TIME};
use super::pretty::{Chunk, Indenter, Length};
use super::query::{Form, PageQuery};
use super::request::CertRequest;
use super::unsent_budget::UnsentAccount;
use crate::cache::{Encoding, Found, Tag, Text, Unexpired, WORTH_COMPRESSING};

/// A list, written.
#[derive(Debug)]
pub struct RenderedList {
    /// The JSON document, compressed if `encoding` says so.
    pub body: Body,
    /// Its strong validator.
    pub etag: HeaderValue,
    /// `Content-Encoding`.
    pub encoding: Option<&'static str>,
    /// How many certificates are in it.
    pub certificates: u64,
}

/// Writes a list as `asked`; `None` if too much waits to be sent for what has to be made.
pub fn render(
    found: &Found,
    asked: &CertRequest<'_>,
    unsent: &UnsentAccount,
) -> Option<RenderedList> {
    if asked.form.is_usual() {
        Some(usual(found, asked))
    } else {
        unusual(found, asked, unsent)
    }
}

fn usual(found: &Found, asked: &CertRequest<'_>) -> RenderedList {
    let (entry, now) = (&found.entry, found.as_of.wall);
    let usual = entry.usual(&asked.query, asked.address, now);
    let certificates = u64::try_from(usual.certificates).unwrap_or(u64::MAX);
    if let Some(encoding) = asked.encoding
        && let Some(body) = entry.compressed(&asked.query, asked.address, now, encoding)
    {
        let tag = (entry.tag(now), "");
        return compressed(body.into(), encoding, tag, certificates);
    }
    RenderedList {
        body: usual.body.into(),
        etag: usual.etag,
        encoding: None,
        certificates,
    }
}

/// A form that is made of the list in memory.
struct ListForm<'a> {
    all: &'a Unexpired,
    /// What is shown.
    shown: Range<usize>,
    /// Which page it is.
    page: Option<u32>,
    head: Vec<u8>,
    list: Bytes,
    tail: Vec<u8>,
}

fn unusual(found: &Found, asked: &CertRequest<'_>, unsent: &UnsentAccount) -> Option<RenderedList> {
    let entry = &found.entry;
    let all = entry.unexpired(found.as_of.wall);
    let url = entry.url(&asked.query, asked.address);
    let cut = ListForm::new(&all, asked, &url);
    let certificates = u64::try_from(cut.shown.len()).unwrap_or(u64::MAX);
    let (tag, variant) = (all.tag(), variant(asked.form));
    let length = cut.length(asked.form.is_pretty());
    if length > WORTH_COMPRESSING
        && let Some(encoding) = asked.encoding
        && let Some(body) = cut.compress(asked.form.is_pretty(), encoding, length, unsent)
    {
        return Some(compressed(body, encoding, (tag, &variant), certificates));
    }
    let body = if asked.form.is_pretty() {
        let reserved = unsent.reserve(length.min(MADE_AT_A_TIME))?;
        Body::indented(cut.into_text(), length, reserved)
    } else {
        Body::from(cut.into_text())
    };
    Some(RenderedList {
        body,
        etag: tag.header(&[&variant]),
        encoding: None,
        certificates,
    })
}

fn compressed(
    body: Body,
    encoding: Encoding,
    (tag, variant): (Tag, &str),
    certificates: u64,
) -> RenderedList {
    let name = encoding.name();
    RenderedList {
        body,
        etag: tag.header(&[variant, "-", name]),
        encoding: Some(name),
        certificates,
    }
}

impl<'a> ListForm<'a> {
    fn new(all: &'a Unexpired, asked: &CertRequest<'_>, url: &[u8]) -> Self {
        let total = all.len();
        let shown = match asked.form.page {
            None => 0..total,
            Some(page) => of_page(total, page),
        };
        Self {
            all,
            head: head(asked.form, url, total),
            list: all.texts(shown.clone()),
            tail: tail(asked, total),
            shown,
            page: asked.form.page.map(PageQuery::number),
        }
    }

    /// Whether nothing is left out.
    fn is_whole(&self) -> bool {
        self.shown.len() == self.all.len()
    }

    /// How long the document is.
    fn length(&self, is_pretty: bool) -> usize {
        if !is_pretty {
            return self.head.len() + self.list.len() + self.tail.len();
        }
        let (mut length, mut indenter) = (Length::default(), Indenter::default());
        indenter.feed(&mut &self.head[..], &mut length);
        let measure = || {
            let (mut length, mut indenter) = (Length::default(), indenter);
            indenter.feed(&mut &self.list[..], &mut length);
            length.0
        };
        if self.is_whole() {
            // Whatever stands before and behind it.
            length.0 += self.all.indented(measure);
        } else {
            length.0 += measure();
        }
        if !self.list.is_empty() {
            indenter = Indenter::behind_result();
        }
        indenter.feed(&mut &self.tail[..], &mut length);
        length.0
    }

    /// The document, compressed; `None` where that makes it no smaller, or there is no room for it.
    fn compress(
        &self,
        is_pretty: bool,
        encoding: Encoding,
        length: usize,
        unsent: &UnsentAccount,
    ) -> Option<Body> {
        if !is_pretty && self.is_whole() {
            let text = self.all.splice(encoding, &self.head, &self.tail)?;
            return Some(Body::from(text));
        }
        let compress = || {
            // It takes time to find out, so not where it is likely to be in vain.
            if !unsent.has_plenty(length / LIKELY_TO_SHRINK) {
                return None;
            }
            let made = encoding.compress(|out| self.write(is_pretty, out))?;
            unsent.compressed(encoding.name());
            (made.len() < length).then_some(made)
        };
        if let Some(number) = self.page
            && !is_pretty
        {
            let page = self
                .all
                .page(encoding, number, (&self.head, &self.tail), compress)?;
            return Some(Body::from(page));
        }
        let made = compress()?;
        let reserved = unsent.reserve(made.len())?;
        Some(Body::made(made, reserved))
    }

    fn write(&self, is_pretty: bool, out: &mut dyn Write) -> std::io::Result<()> {
        let mut indenter = Indenter::default();
        for mut part in [&self.head[..], &self.list[..], &self.tail[..]] {
            if !is_pretty {
                out.write_all(part)?;
                continue;
            }
            while !part.is_empty() {
                let mut chunk = Chunk::new(WRITTEN_AT_A_TIME);
                indenter.feed(&mut part, &mut chunk);
                out.write_all(&chunk.into_bytes())?;
            }
        }
        Ok(())
    }

    fn into_text(self) -> Text {
        if self.list.len() > WORTH_SHARING {
            return Text::Spliced(Box::new([
                Bytes::from(self.head),
                self.list,
                Bytes::from(self.tail),
            ]));
        }
        let mut whole = self.head;
        whole.extend_from_slice(&self.list);
        whole.extend_from_slice(&self.tail);
        Text::Whole(Bytes::from(whole))
    }
}

/// What stands before the list in a document about `total` certificates, which are at `url`.
fn head(form: Form, url: &[u8], total: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(ROOM_FOR_A_HEAD);
    head.push(b'{');
    if form.has_envelope() {
        head.extend_from_slice(b"\"status\":200,");
    }
    head.extend_from_slice(b"\"links\":[");
    match form.page {
        None => links::self_link(&mut head, url),
        Some(page) => PageLinks {
            url,
            form,
            page,
            total,
        }
        .write(&mut head),
    }
    head.extend_from_slice(b"],\"results\":[");
    head
}

fn tail(asked: &CertRequest<'_>, total: usize) -> Vec<u8> {
    let mut tail = Vec::with_capacity(ROOM_FOR_A_TAIL);
    tail.push(b']');
    if asked.form.include_count != Some(false) {
        tail.extend_from_slice(b",\"totalCount\":");
        tail.extend_from_slice(itoa::Buffer::new().format(total).as_bytes());
    }
    tail.push(b'}');
    tail
}

/// The certificates of one page; none for a page past the end, as Atlas has it.
fn of_page(total: usize, page: PageQuery) -> Range<usize> {
    let size = usize::try_from(page.size()).unwrap_or(usize::MAX);
    let before = usize::try_from(page.number() - 1)
        .unwrap_or(usize::MAX)
        .saturating_mul(size);
    let end = before.saturating_add(size).min(total);
    before.min(end)..end
}

/// What tells one form's validator from another's.
fn variant(form: Form) -> String {
    let mut variant = String::new();
    if let Some(page) = form.page {
        let mut digits = itoa::Buffer::new();
        variant.push('-');
        variant.push_str(digits.format(page.number()));
        variant.push('x');
        variant.push_str(digits.format(page.size()));
    }
    for (flag, is_set) in [
        ("-e", form.has_envelope()),
        ("-p", form.is_pretty()),
        ("-u", form.include_count == Some(false)),
    ] {
        if is_set {
            variant.push_str(flag);
        }
    }
    variant
}

/// Longer lists are shared; to copy one that is shorter costs less than to write three pieces.
const WORTH_SHARING: usize = 8 << 10;
/// Most heads fit, and small lists behind them.
const ROOM_FOR_A_HEAD: usize = 1 << 10;
const ROOM_FOR_A_TAIL: usize = 64;
/// Compressed, a list is less than that part of what it was.
const LIKELY_TO_SHRINK: usize = 8;
const WRITTEN_AT_A_TIME: usize = 8 << 10;
