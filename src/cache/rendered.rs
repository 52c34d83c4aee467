//! The bytes of the usual answer: a list and the address it was asked at go in, the document, its
//! `ETag` and its compressed forms come out, each made once.
//!
//! The first answer lies in memory around the list itself, so a small entry holds its certificates
//! once. Whoever asks at another address, and everybody after a certificate has expired, gets a
//! [`Variant`], of which an entry keeps the last.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::atlas::Certificate;
use crate::atlas::CertificateList;
use crate::atlas::Question;
use crate::atlas::Timestamp;

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

/// A form that large answers can take on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 7932. Level 4: about as small as gzip's 6 for twice the time, so it is nobody's first choice
    /// but the caller's. Once: level 1.
    Brotli,
    /// RFC 1952. Level 6; once: level 1.
    Gzip,
    /// RFC 8878. Level 1, which is smaller here than gzip's 6 and six times as fast.
    Zstd,
}

/// For how many answers something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It is kept.
    Many,
    /// It leaves, and is gone.
    Once,
}

/// The usual answer: every certificate, no page, no indentation.
#[derive(Clone, Debug)]
pub struct Usual {
    /// The JSON document.
    pub body: Bytes,
    /// Its strong validator.
    pub etag: HeaderValue,
    /// How many certificates are in it.
    pub certificates: usize,
}

/// What a strong `ETag` is made of: the first 96 bits of the SHA-256 of the certificates' bytes, in
/// Atlas's order, as Base64.
///
/// It is made of what Atlas said, not of `links`, so fetching the same certificates again keeps it.
/// Its URL belongs to a validator (RFC 9110, section 8.8), and so the address need not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; Self::LENGTH]);

/// The usual answer at another address, or after a certificate has expired, with its compressed forms.
#[derive(Debug)]
pub(super) struct Variant {
    usual: Usual,
    /// The wall clock's times at which no other certificates would be in it: from, and until before.
    valid: (Timestamp, Timestamp),
    brotli: Form,
    gzip: Form,
    zstd: Form,
}

/// Made for the first who wants it, while others wait; `None` where compressing made it no smaller.
type Form = OnceCell<Option<Bytes>>;

impl Encoding {
    /// As it stands in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// `body` in this form; `None` where that is no smaller.
    pub fn compress(self, body: &[u8], usage: Usage) -> Option<Bytes> {
        let compressed = match (self, usage) {
            (Self::Brotli, Usage::Many) => brotli(body, 4),
            (Self::Brotli, Usage::Once) => brotli(body, 1),
            (Self::Gzip, Usage::Many) => gzip(body, 6),
            (Self::Gzip, Usage::Once) => gzip(body, 1),
            (Self::Zstd, _) => zstd::bulk::compress(body, 1).ok(),
        };
        compressed
            .filter(|bytes| bytes.len() < body.len())
            .map(Bytes::from)
    }
}

impl Tag {
    const LENGTH: usize = 16;

    /// The tag of `certificates`.
    pub fn of<'a>(certificates: impl Iterator<Item = Certificate<'a>>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in certificates {
            context.update(certificate.json.as_bytes());
            context.update(b",");
        }
        let mut tag = [b'0'; Self::LENGTH];
        if let Some((hash, _)) = context.finish().as_ref().split_first_chunk::<12>() {
            // Twelve bytes are sixteen characters of Base64; should they not be, all tags would be
            // equal, which the tests would notice.
            let _ = URL_SAFE_NO_PAD.encode_slice(hash, &mut tag);
        }
        Self(tag)
    }

    /// The header for one form of the list: `variant` is `""` for the usual one, and differs for each
    /// other (a page, an indented one, a compressed one).
    pub fn header(self, variant: impl fmt::Display) -> HeaderValue {
        HeaderValue::try_from(format!("\"{self}{variant}\""))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// The list with the usual answer around it, and behind that the quoted tag; with the answer's length.
pub(super) fn enclose(
    list: &CertificateList,
    question: &Question,
    address: Address<'_>,
) -> Option<(CertificateList, u32)> {
    let head = head(question, address);
    let mut tail = tail(list.len());
    let length = u32::try_from(head.len() + list.joined().len() + tail.len()).ok()?;
    let tag = Tag::of(list.iter());
    tail.push('"');
    tail.push_str(str::from_utf8(&tag.0).unwrap_or_default());
    tail.push('"');
    let list = list.enclosed(head.as_bytes(), tail.as_bytes())?;
    Some((list, length))
}

/// Takes apart what [`enclose`] made.
pub(super) fn enclosed(list: &CertificateList, length: u32) -> Option<Usual> {
    let length = usize::try_from(length).ok()?;
    let (body, quoted_tag) = list.enclosure_at(length)?;
    Some(Usual {
        body,
        etag: HeaderValue::from_maybe_shared(quoted_tag).ok()?,
        certificates: list.len(),
    })
}

/// The tag that [`enclose`] wrote behind the answer.
pub(super) fn enclosed_tag(list: &CertificateList, length: u32) -> Option<Tag> {
    let length = usize::try_from(length).ok()?;
    let (_, quoted_tag) = list.enclosure().split_at_checked(length)?;
    let (tag, _) = quoted_tag.get(1..)?.split_first_chunk()?;
    Some(Tag(*tag))
}

/// Whether the `links` of a document speak of `address`.
///
/// So neither an entry nor a variant needs to remember whom it was made for.
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

impl Variant {
    /// Renders what is unexpired at `now` anew.
    pub(super) fn render(
        list: &CertificateList,
        question: &Question,
        address: Address<'_>,
        now: Timestamp,
    ) -> Self {
        let mut body = head(question, address);
        let mut certificates = 0;
        for certificate in list.unexpired(now) {
            if certificates > 0 {
                body.push(',');
            }
            body.push_str(certificate.json);
            certificates += 1;
        }
        body.push_str(&tail(certificates));
        let usual = Usual {
            body: Bytes::from(body),
            etag: Tag::of(list.unexpired(now)).header(""),
            certificates,
        };
        Self::new(usual, list, now)
    }

    /// `usual`, which holds what of `list` is unexpired at `now`.
    pub(super) fn new(usual: Usual, list: &CertificateList, now: Timestamp) -> Self {
        let from = list
            .iter()
            .map(|certificate| certificate.not_after)
            .filter(|not_after| *not_after <= now)
            .max();
        let until = list.next_expiry(now);
        Self {
            usual,
            valid: (
                from.unwrap_or(Timestamp::from_micros(i64::MIN)),
                until.unwrap_or(Timestamp::from_micros(i64::MAX)),
            ),
            brotli: Form::new(),
            gzip: Form::new(),
            zstd: Form::new(),
        }
    }

    /// Whether this is what `address` is to be answered at `now`.
    pub(super) fn fits(&self, address: Address<'_>, now: Timestamp) -> bool {
        let (from, until) = self.valid;
        from <= now && now < until && speaks_of(&self.usual.body, address)
    }

    pub(super) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// The compressed body, if it was made and is smaller.
    pub(super) fn compressed(&self, encoding: Encoding) -> Option<Bytes> {
        self.form(encoding).get().cloned().flatten()
    }

    /// Whether nobody has made the compressed body yet.
    pub(super) fn lacks(&self, encoding: Encoding) -> bool {
        !self.form(encoding).initialized()
    }

    /// Makes the compressed body, or waits for whoever makes it: on a thread that may take its time.
    pub(super) async fn compress(self: Arc<Self>, encoding: Encoding) {
        let making = || async {
            let body = self.usual.body.clone();
            let made = spawn_blocking(move || encoding.compress(&body, Usage::Many));
            // Nobody can be told of a panic in there, but everybody can be answered.
            made.await.ok().flatten()
        };
        self.form(encoding).get_or_init(making).await;
    }

    fn form(&self, encoding: Encoding) -> &Form {
        match encoding {
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
            Encoding::Zstd => &self.zstd,
        }
    }
}

// Both by hand: `format!` cost more than the list's own bytes.
fn head(question: &Question, address: Address<'_>) -> String {
    let mut head = String::with_capacity(ROOM_FOR_A_HEAD);
    head.push_str(HREF);
    push_text(&mut head, address.scheme);
    head.push_str("://");
    push_text(&mut head, address.host);
    push_text(&mut head, address.root);
    head.push_str("/groups/");
    head.push_str(question.project.as_str());
    head.push_str("/databaseUsers/");
    head.extend(question.username.to_path_segment());
    head.push_str("/certs\",\"rel\":\"self\"}],\"results\":[");
    head
}

/// A host may hold anything that its caller likes; as a JSON text it is harmless, and one with
/// something to escape never equals what is kept.
fn push_text(json: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        json.push_str(text);
    } else {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        let escaped = quoted.strip_prefix('"');
        json.push_str(
            escaped
                .and_then(|text| text.strip_suffix('"'))
                .unwrap_or_default(),
        );
    }
}

fn tail(certificates: usize) -> String {
    let mut tail = String::with_capacity(ROOM_FOR_A_TAIL);
    tail.push_str("],\"totalCount\":");
    tail.push_str(itoa::Buffer::new().format(certificates));
    tail.push('}');
    tail
}

fn brotli(body: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut encoder =
        brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, level, BROTLI_WINDOW);
    encoder.write_all(body).ok()?;
    encoder.flush().ok()?;
    Some(encoder.into_inner())
}

fn gzip(body: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

const BROTLI_BUFFER: usize = 4_096;
/// A window of 4 MiB, the largest list's size.
const BROTLI_WINDOW: u32 = 22;
const HREF: &str = "{\"links\":[{\"href\":\"";
/// Most heads fit, and every tail with the quoted tag behind it.
const ROOM_FOR_A_HEAD: usize = 256;
const ROOM_FOR_A_TAIL: usize = 64;
