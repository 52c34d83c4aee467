//! The body of a list, in the form that was asked for, and its `ETag`.
//!
//! The usual form is kept with the list. Every other one (a page, in an envelope, uncounted) is a head, the
//! list in memory or a part of it, and a tail; an indented one is made of these as it leaves. So none holds
//! a copy of the list. What shows the whole list shares its compressed forms, too.

mod indent;
mod links;
pub mod payload;

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

use self::indent::{Indented, Indenter};
use self::links::links;
use self::payload::{MADE_AT_A_TIME, ResponseBody};
use super::query::{ListForm, PageQuery};
use super::request::CertRequest;
use super::unsent_budget::UnsentAccount;
use crate::cache::{Encoding, Found, Text, Unexpired, WORTH_COMPRESSING};

pub(super) struct RenderedList {
    /// The JSON document, compressed if `encoding` says so.
    pub(super) body: ResponseBody,
    pub(super) etag: HeaderValue,
    pub(super) encoding: Option<&'static str>,
    pub(super) certificates: u64,
}

/// Writes a list as `asked`; `None` if the budget of unsent bytes is spent (load shedding).
pub(super) fn render(
    found: &Found,
    asked: &CertRequest<'_>,
    unsent: &UnsentAccount,
) -> Option<RenderedList> {
    if asked.form.is_usual() {
        return Some(usual(found, asked));
    }
    let all = found.entry.unexpired(found.as_of.wall);
    let url = found.entry.url(&asked.query, asked.address);
    let document = ListDocument::new(&all, asked.form, &url);
    let certificates = whole(document.shown.len());
    let variant = variant(asked.form);
    let length = document.length();
    if length > WORTH_COMPRESSING
        && let Some(encoding) = asked.encoding
        && let Some(body) = document.compress(encoding, length, unsent)
    {
        return Some(RenderedList {
            body,
            etag: all.tag().header(&[&variant, "-", encoding.name()]),
            encoding: Some(encoding.name()),
            certificates,
        });
    }
    let body = if asked.form.is_pretty() {
        let reserved = unsent.reserve(length.min(MADE_AT_A_TIME))?;
        ResponseBody::indented(document.into_text(), length, reserved)
    } else {
        ResponseBody::from(document.into_text())
    };
    Some(RenderedList {
        body,
        etag: all.tag().header(&[&variant]),
        encoding: None,
        certificates,
    })
}

fn usual(found: &Found, asked: &CertRequest<'_>) -> RenderedList {
    let (entry, now) = (&found.entry, found.as_of.wall);
    let usual = entry.usual(&asked.query, asked.address, now);
    let mut list = RenderedList {
        body: usual.body.into(),
        etag: usual.etag,
        encoding: None,
        certificates: whole(usual.certificates),
    };
    if let Some(encoding) = asked.encoding
        && let Some(text) = entry.compressed(&asked.query, asked.address, now, encoding)
    {
        list.body = text.into();
        list.etag = entry.tag(now).header(&["", "-", encoding.name()]);
        list.encoding = Some(encoding.name());
    }
    list
}

/// A document that is made of the list in memory.
struct ListDocument<'a> {
    all: &'a Unexpired,
    form: ListForm,
    shown: Range<usize>,
    head: Vec<u8>,
    list: Bytes,
    tail: Vec<u8>,
}

impl<'a> ListDocument<'a> {
    fn new(all: &'a Unexpired, form: ListForm, url: &[u8]) -> Self {
        let total = all.len();
        let shown = form.page.map_or(0..total, |page| of_page(total, page));
        let mut head = Vec::with_capacity(MOST_OF_A_HEAD);
        head.push(b'{');
        if form.has_envelope() {
            head.extend_from_slice(b"\"status\":200,");
        }
        head.extend_from_slice(b"\"links\":[");
        links(&mut head, url, form, total);
        head.extend_from_slice(b"],\"results\":[");
        let tail = match form.include_count {
            Some(false) => "]}".to_owned(),
            Some(true) | None => format!("],\"totalCount\":{total}}}"),
        };
        Self {
            all,
            form,
            head,
            list: all.texts(shown.clone()),
            tail: tail.into_bytes(),
            shown,
        }
    }

    fn parts(&self) -> [&[u8]; 3] {
        [&self.head, &self.list, &self.tail]
    }

    fn length(&self) -> usize {
        if !self.form.is_pretty() {
            return self.parts().iter().map(|part| part.len()).sum();
        }
        let (mut around, mut indenter) = (Indented::counted(), Indenter::default());
        indenter.feed(&mut &self.head[..], &mut around);
        let measure = || {
            let (mut counted, mut indenter) = (Indented::counted(), indenter);
            indenter.feed(&mut &self.list[..], &mut counted);
            counted.len()
        };
        let list = if self.shown.len() == self.all.len() {
            // The same whatever stands around it, so it is measured once.
            self.all.indented(measure)
        } else {
            measure()
        };
        if !self.list.is_empty() {
            indenter = Indenter::behind_result();
        }
        indenter.feed(&mut &self.tail[..], &mut around);
        around.len() + list
    }

    /// The document, compressed; `None` where that makes it no smaller, or the budget is short.
    fn compress(
        &self,
        encoding: Encoding,
        length: usize,
        unsent: &UnsentAccount,
    ) -> Option<ResponseBody> {
        let is_pretty = self.form.is_pretty();
        if !is_pretty && self.shown.len() == self.all.len() {
            let text = self.all.splice(encoding, &self.head, &self.tail)?;
            return Some(ResponseBody::from(text));
        }
        let compress = || {
            // It takes time to find out, so not where it is likely to be in vain.
            if !unsent.has_plenty(length / LIKELY_TO_SHRINK) {
                return None;
            }
            let made = encoding.compress(|out| self.write(out))?;
            unsent.compressed(encoding.name());
            (made.len() < length).then_some(made)
        };
        if let Some(page) = self.form.page
            && !is_pretty
        {
            let around = (&*self.head, &*self.tail);
            let page = self.all.page(encoding, page.number(), around, compress)?;
            return Some(ResponseBody::from(page));
        }
        let made = compress()?;
        let reserved = unsent.reserve(made.len())?;
        Some(ResponseBody::made(made, reserved))
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut indenter = Indenter::default();
        for mut part in self.parts() {
            if !self.form.is_pretty() {
                out.write_all(part)?;
                continue;
            }
            while !part.is_empty() {
                let mut made = Indented::with_capacity(WRITTEN_AT_A_TIME);
                indenter.feed(&mut part, &mut made);
                out.write_all(&made.into_bytes())?;
            }
        }
        Ok(())
    }

    fn into_text(self) -> Text {
        if self.list.len() > WORTH_SHARING {
            let (head, tail) = (self.head.into(), self.tail.into());
            return Text::Spliced(Box::new([head, self.list, tail]));
        }
        Text::Whole(self.parts().concat().into())
    }
}

/// The certificates of one page; none for a page past the end, as Atlas has it.
fn of_page(total: usize, page: PageQuery) -> Range<usize> {
    let size = usize::try_from(page.size()).expect("at most 500");
    let before = usize::try_from(page.number() - 1).expect("64 bits");
    let end = before.saturating_mul(size).saturating_add(size).min(total);
    before.saturating_mul(size).min(end)..end
}

/// What tells one form's validator from another's.
fn variant(form: ListForm) -> String {
    let page = form.page;
    let mut variant = page.map_or_else(String::new, |page| {
        format!("-{}x{}", page.number(), page.size())
    });
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

fn whole(count: usize) -> u64 {
    u64::try_from(count).expect("64 bits")
}

/// Longer lists are shared; to copy one that is shorter costs less than to write three pieces.
const WORTH_SHARING: usize = 8 << 10;
const MOST_OF_A_HEAD: usize = 1 << 10;
/// Compressed, a list is less than that part of what it was.
const LIKELY_TO_SHRINK: usize = 8;
const WRITTEN_AT_A_TIME: usize = 8 << 10;
