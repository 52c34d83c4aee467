//! The document of an answer, with its `ETag`, plain or compressed.
//!
//! The first answer lies in memory around the list itself, so a small entry holds its certificates once. An
//! answer to another address or in another form, and every one after a certificate has expired, is made from
//! [`Unexpired`]: a head of its own, the one list in memory, a tail of its own.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::HeaderValue;

use super::compressed_forms::CompressedForms;
use super::encoding::{Encoding, Text};
use super::tag::Tag;
use crate::atlas::{CertQuery, CertificateList, Timestamp};

/// How the caller addressed this gateway; what stands before `/groups/` in `links`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host, with its port where the caller gave one.
    pub host: &'a str,
    /// The root of the API's version: `/api/atlas/v2` or `/api/atlas/v1.0`.
    pub root: &'a str,
}

/// The usual answer: every certificate, no page, no indentation.
#[derive(Clone, Debug)]
pub struct Usual {
    /// The JSON document.
    pub body: Text,
    /// Its strong validator.
    pub(crate) etag: HeaderValue,
    pub(crate) certificates: usize,
}

/// What of a list is unexpired for some time: the list that every form is made of, and its compressed forms.
#[derive(Debug)]
pub(crate) struct Unexpired {
    /// Shares the memory of the whole list while nothing has expired.
    list: CertificateList,
    tag: Tag,
    /// From when, and until before when, no other certificates are unexpired.
    valid: (Timestamp, Timestamp),
    /// The last small answer to another address than the leader's.
    small: ArcSwapOption<Usual>,
    indented: OnceLock<usize>,
    forms: OnceLock<Box<CompressedForms>>,
}

impl Address<'_> {
    /// Writes where a list is, without a query, as a part of a JSON text.
    pub(crate) fn push_list(self, json: &mut String, query: &CertQuery) {
        push_text(json, self.scheme);
        json.push_str("://");
        push_text(json, self.host);
        push_text(json, self.root);
        json.push_str("/groups/");
        json.push_str(query.project.as_str());
        json.push_str("/databaseUsers/");
        json.extend(query.username.to_path_segment());
        json.push_str("/certs");
    }
}

/// The list with the usual answer around it, and behind that the quoted tag; with the answer's length.
pub(super) fn enclose(
    list: &CertificateList,
    query: &CertQuery,
    address: Address<'_>,
) -> Option<(CertificateList, u32)> {
    let head = head(query, address);
    let mut tail = tail(list.len());
    let length = u32::try_from(head.len() + list.joined().len() + tail.len()).ok()?;
    let tag = Tag::of(list.iter());
    tail.push('"');
    tail.push_str(tag.as_str());
    tail.push('"');
    let list = list.enclosed(head.as_bytes(), tail.as_bytes())?;
    Some((list, length))
}

/// Takes apart what [`enclose`] made.
pub(super) fn enclosed(list: &CertificateList, length: u32) -> Option<Usual> {
    let length = usize::try_from(length).ok()?;
    let (body, quoted_tag) = list.enclosure_at(length)?;
    Some(Usual {
        body: Text::Whole(body),
        etag: HeaderValue::from_maybe_shared(quoted_tag).ok()?,
        certificates: list.len(),
    })
}

/// The tag that [`enclose`] wrote behind the answer.
pub(super) fn enclosed_tag(list: &CertificateList, length: u32) -> Option<Tag> {
    let length = usize::try_from(length).ok()?;
    let (_, quoted_tag) = list.enclosure().split_at_checked(length)?;
    let (tag, _) = quoted_tag.get(1..)?.split_first_chunk()?;
    Some(Tag::from_bytes(*tag))
}

/// Where the list that [`enclose`] has enclosed is, as a part of a JSON text; `None` where its answer is
/// one to another address.
pub(super) fn enclosed_url<'l>(
    list: &'l CertificateList,
    address: Address<'_>,
) -> Option<&'l [u8]> {
    let head = list.head();
    if !speaks_of(head, address) {
        return None;
    }
    let url = head.strip_prefix(HREF.as_bytes())?;
    url.strip_suffix(BEHIND_URL.as_bytes())
}

/// Whether the `links` of a document speak of `address`.
///
/// So what is kept need not remember which address it was made for.
pub(super) fn speaks_of(document: &[u8], address: Address<'_>) -> bool {
    let after_address = || {
        let rest = document.strip_prefix(HREF.as_bytes())?;
        let rest = rest.strip_prefix(address.scheme.as_bytes())?;
        let rest = rest.strip_prefix(b"://")?;
        let rest = rest.strip_prefix(address.host.as_bytes())?;
        rest.strip_prefix(address.root.as_bytes())
    };
    after_address().is_some_and(|rest| rest.starts_with(b"/groups/"))
}

impl Unexpired {
    /// The whole `list`, of which nothing expires before `until`.
    pub(super) fn whole(list: &CertificateList, tag: Tag, until: Timestamp) -> Self {
        Self::new(list.clone(), tag, (BEGINNING, until))
    }

    /// What of `list` is unexpired at `now`.
    pub(super) fn rest(list: &CertificateList, now: Timestamp) -> Self {
        let from = list
            .iter()
            .map(|certificate| certificate.not_after)
            .filter(|not_after| *not_after <= now)
            .max();
        let until = list.next_expiry(now).unwrap_or(END);
        let rest = match from {
            Some(_) => CertificateList::join(list.unexpired(now))
                .expect("a part of a list is no longer than the list"),
            None => list.clone(),
        };
        let tag = Tag::of(rest.iter());
        Self::new(rest, tag, (from.unwrap_or(BEGINNING), until))
    }

    fn new(list: CertificateList, tag: Tag, valid: (Timestamp, Timestamp)) -> Self {
        Self {
            list,
            tag,
            valid,
            small: ArcSwapOption::empty(),
            indented: OnceLock::new(),
            forms: OnceLock::new(),
        }
    }

    /// Whether no other certificates are unexpired at `now`.
    pub(super) fn fits(&self, now: Timestamp) -> bool {
        let (from, until) = self.valid;
        from <= now && now < until
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What `ETag`s are made of.
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Some of the certificates, joined by commas, in the memory of all.
    pub(crate) fn texts(&self, range: Range<usize>) -> Bytes {
        self.list.texts(range)
    }

    /// How long the list is when it is indented: as `measure` says, which is asked once.
    pub(crate) fn indented(&self, measure: impl FnOnce() -> usize) -> usize {
        *self.indented.get_or_init(measure)
    }

    pub(super) fn usual(&self, query: &CertQuery, address: Address<'_>) -> Usual {
        let list = self.list.joined();
        let (head, tail) = (|| head(query, address), || tail(self.len()));
        let usual = |body| Usual {
            body,
            etag: self.tag.header(&[]),
            certificates: self.len(),
        };
        if list.len() > WORTH_SPLICING {
            return usual(Text::spliced(head(), list, tail()));
        }
        if let Some(last) = &*self.small.load()
            && let Text::Whole(body) = &last.body
            && speaks_of(body, address)
        {
            return Usual::clone(last);
        }
        let body = [head().as_bytes(), &list, tail().as_bytes()].concat();
        let made = usual(Text::Whole(Bytes::from(body)));
        self.small.store(Some(Arc::new(made.clone())));
        made
    }

    /// The usual answer to `address`, compressed; `None` before [`Unexpired::compress`], and where
    /// compressing makes it no smaller.
    pub(super) fn compressed(
        &self,
        query: &CertQuery,
        address: Address<'_>,
        encoding: Encoding,
    ) -> Option<Text> {
        let form = self.forms().of(encoding);
        if let Some(last) = &*form.usual.load()
            && speaks_of(&last.head, address)
        {
            return Some(last.text.clone());
        }
        let (head, tail) = (head(query, address), tail(self.len()));
        let put = form.put(head.as_bytes(), tail.as_bytes())?;
        form.usual.store(Some(Arc::clone(&put)));
        Some(put.text.clone())
    }

    /// The compressed form of all certificates between `head` and `tail`, on the same terms.
    pub(crate) fn splice(&self, encoding: Encoding, head: &[u8], tail: &[u8]) -> Option<Text> {
        let put = self.forms().of(encoding).put(head, tail)?;
        Some(put.text.clone())
    }

    /// The compressed form of page `number` between `head` and `tail`, which no other document has: as it
    /// was made for the last who asked, or as `make` does it.
    pub(crate) fn page(
        &self,
        encoding: Encoding,
        number: u32,
        head_and_tail: (&[u8], &[u8]),
        make: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Text> {
        self.forms().page(encoding, number, head_and_tail, make)
    }

    /// Whether the list has not been compressed yet.
    pub(super) fn lacks(&self, encoding: Encoding) -> bool {
        !self.forms().of(encoding).is_made()
    }

    /// Compresses the list on a blocking thread, or waits for the call that does. Says whether this one has.
    pub(super) async fn compress(&self, encoding: Encoding) -> bool {
        let form = self.forms().of(encoding);
        form.make(encoding, self.list.joined()).await
    }

    fn forms(&self) -> &CompressedForms {
        self.forms.get_or_init(Box::default)
    }
}

// Both by hand: `format!` cost more than the list's own bytes.
fn head(query: &CertQuery, address: Address<'_>) -> String {
    let mut head = String::with_capacity(USUAL_HEAD);
    head.push_str(HREF);
    address.push_list(&mut head, query);
    head.push_str(BEHIND_URL);
    head
}

/// A caller may write anything for a host; as a JSON text it is harmless, and one with something to escape never
/// equals what is kept.
fn push_text(json: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        json.push_str(text);
    } else {
        let quoted = serde_json::to_string(text).expect("a text is always JSON");
        let escaped = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        json.push_str(escaped.expect("a JSON text is quoted"));
    }
}

fn tail(certificates: usize) -> String {
    let mut tail = String::with_capacity(USUAL_TAIL);
    tail.push_str("],\"totalCount\":");
    tail.push_str(itoa::Buffer::new().format(certificates));
    tail.push('}');
    tail
}

const BEGINNING: Timestamp = Timestamp::from_micros(i64::MIN);
const END: Timestamp = Timestamp::from_micros(i64::MAX);
/// Shorter lists are copied: that costs less than to write three pieces.
const WORTH_SPLICING: usize = 8 << 10;
const HREF: &str = "{\"links\":[{\"href\":\"";
const BEHIND_URL: &str = "\",\"rel\":\"self\"}],\"results\":[";
/// Most heads fit, and every tail with the quoted tag behind it.
const USUAL_HEAD: usize = 256;
const USUAL_TAIL: usize = 64;
