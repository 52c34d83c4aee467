//! The list of one user's certificates, no byte of which differs from what Atlas sent.

use std::ops::Range;

use bytes::Bytes;

use super::Timestamp;

/// Every certificate of one database user, in Atlas's order, each as the exact JSON text that Atlas
/// sent.
///
/// `_id` is a 63-bit integer, mostly above 2^53; by keeping the text no value is ever rewritten (G4).
/// Cheap to clone: text and index lie in one piece of memory, which a cache of many small lists would
/// otherwise pay for twice.
#[derive(Clone, Debug, Default)]
pub struct CertificateList {
    /// What [`CertificateList::enclosed`] put before the text, the text, what it put behind it, and
    /// [`IndexItem::SIZE`] bytes for each certificate.
    buffer: Bytes,
    /// Where the items' texts stand, each followed by the next, separated by single commas.
    text: Span,
    /// Where the index begins; it ends with the buffer.
    index: u32,
}

/// One certificate within a list.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The JSON object as Atlas sent it.
    pub json: &'a str,
    /// When the certificate expires; the end of time where Atlas gave no `notAfter`.
    pub not_after: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// Where one certificate ends, counted from the beginning of the text, and when it expires. It begins
/// after the comma behind the one before.
#[derive(Clone, Copy, Debug)]
struct IndexItem {
    end: u32,
    not_after: Timestamp,
}

impl CertificateList {
    /// Joins certificates into one list, in the order given.
    ///
    /// `None` if the joined text would pass 4 GiB, which the limits on pages exclude long before.
    pub fn join<'a>(certificates: impl IntoIterator<Item = Certificate<'a>>) -> Option<Self> {
        let certificates: Vec<Certificate<'a>> = certificates.into_iter().collect();
        let length: usize = certificates
            .iter()
            .map(|certificate| certificate.json.len() + 1 + IndexItem::SIZE)
            .sum();
        let mut buffer = Vec::with_capacity(length.saturating_sub(1));
        let mut index = Vec::with_capacity(certificates.len() * IndexItem::SIZE);
        for certificate in certificates {
            if !index.is_empty() {
                buffer.push(b',');
            }
            buffer.extend_from_slice(certificate.json.as_bytes());
            let item = IndexItem {
                end: u32::try_from(buffer.len()).ok()?,
                not_after: certificate.not_after,
            };
            index.extend_from_slice(&item.encode());
        }
        let end = u32::try_from(buffer.len()).ok()?;
        buffer.extend_from_slice(&index);
        Some(Self {
            buffer: Bytes::from(buffer),
            text: Span { start: 0, end },
            index: end,
        })
    }

    /// The same list in one piece of memory with `head` before its text and `tail` behind it, so that
    /// a document made of them needs no second copy of the text; see [`CertificateList::enclosure`].
    ///
    /// `None` past 4 GiB.
    pub(crate) fn enclosed(&self, head: &[u8], tail: &[u8]) -> Option<Self> {
        let (text, index) = (self.text(), self.index());
        let mut buffer = Vec::with_capacity(head.len() + text.len() + tail.len() + index.len());
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(text);
        buffer.extend_from_slice(tail);
        let end_of_tail = u32::try_from(buffer.len()).ok()?;
        buffer.extend_from_slice(index);
        let start = u32::try_from(head.len()).ok()?;
        let end = u32::try_from(head.len() + text.len()).ok()?;
        Some(Self {
            buffer: Bytes::from(buffer),
            text: Span { start, end },
            index: end_of_tail,
        })
    }

    /// Head, text and tail as [`CertificateList::enclosed`] joined them; the text alone if it did not.
    pub(crate) fn enclosure(&self) -> &[u8] {
        self.buffer
            .get(..wide(self.index))
            .expect("the index is within the buffer")
    }

    /// What of [`CertificateList::enclosure`] stands before the list's text.
    pub fn head(&self) -> &[u8] {
        self.buffer
            .get(..wide(self.text.start))
            .expect("the text is within the buffer")
    }

    /// What of [`CertificateList::enclosure`] stands before `at`, and what from there on, in the memory
    /// that holds both; `None` past its end.
    pub(crate) fn enclosure_at(&self, at: usize) -> Option<(Bytes, Bytes)> {
        let end = wide(self.index);
        (at <= end).then(|| (self.buffer.slice(..at), self.buffer.slice(at..end)))
    }

    /// A part of the memory that holds `part`, which must lie in [`CertificateList::enclosure`].
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.buffer.slice_ref(part)
    }

    /// How many certificates the list holds, expired ones included.
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether the list holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The certificates, in Atlas's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Certificate<'_>> {
        let text = self.text();
        let mut start = 0;
        self.items().map(move |item| {
            let span = Span {
                start,
                end: item.end,
            };
            start = item.end.saturating_add(1);
            Certificate {
                json: str::from_utf8(span.of(text)).expect("`join` ends items behind whole texts"),
                not_after: item.not_after,
            }
        })
    }

    /// The certificates that are not past their `notAfter` at `now`, in Atlas's order (G1).
    pub fn unexpired(&self, now: Timestamp) -> impl Iterator<Item = Certificate<'_>> {
        self.iter()
            .filter(move |certificate| certificate.not_after > now)
    }

    /// The earliest `notAfter` after `now`; `None` if nothing will expire any more.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.items()
            .map(|item| item.not_after)
            .filter(|not_after| *not_after > now)
            .min()
    }

    /// All texts joined by commas: what stands between the brackets of `results` while nothing has
    /// expired.
    pub fn joined(&self) -> Bytes {
        self.share(self.text())
    }

    /// Some of the texts, joined by commas, in the memory that holds all of them; a range beyond the end
    /// ends there.
    pub fn texts(&self, range: Range<usize>) -> Bytes {
        let items = self.items();
        let end = range.end.min(items.len());
        let end_of = |at: usize| items.clone().nth(at).map(|item| item.end);
        let (Some(last), true) = (end.checked_sub(1), range.start < end) else {
            return Bytes::new();
        };
        let start = range.start.checked_sub(1).and_then(end_of);
        let span = Span {
            // Behind the comma.
            start: start.map_or(0, |end| end.saturating_add(1)),
            end: end_of(last).expect("the last item is one of the list"),
        };
        self.share(span.of(self.text()))
    }

    /// How many bytes of memory the list holds.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.buffer.len()
    }

    fn text(&self) -> &[u8] {
        self.text.of(&self.buffer)
    }

    fn index(&self) -> &[u8] {
        self.buffer
            .get(wide(self.index)..)
            .expect("the index is within the buffer")
    }

    fn items(&self) -> impl ExactSizeIterator<Item = IndexItem> + Clone {
        let (items, _) = self.index().as_chunks::<{ IndexItem::SIZE }>();
        items.iter().map(IndexItem::decode)
    }
}

impl Span {
    fn of(self, text: &[u8]) -> &[u8] {
        let span = wide(self.start)..wide(self.end);
        text.get(span).expect("a span is within its text")
    }
}

fn wide(offset: u32) -> usize {
    usize::try_from(offset).expect("a pointer has at least 32 bits")
}

impl IndexItem {
    const SIZE: usize = 12;

    fn encode(self) -> [u8; Self::SIZE] {
        let [e0, e1, e2, e3] = self.end.to_le_bytes();
        let [n0, n1, n2, n3, n4, n5, n6, n7] = self.not_after.micros().to_le_bytes();
        [e0, e1, e2, e3, n0, n1, n2, n3, n4, n5, n6, n7]
    }

    fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let [e0, e1, e2, e3, not_after @ ..] = *bytes;
        Self {
            end: u32::from_le_bytes([e0, e1, e2, e3]),
            not_after: Timestamp::from_micros(i64::from_le_bytes(not_after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[(&str, i64)]) -> CertificateList {
        CertificateList::join(items.iter().map(|(json, seconds)| Certificate {
            json,
            not_after: Timestamp::from_seconds(*seconds),
        }))
        .unwrap()
    }

    #[test]
    fn no_byte_of_a_certificate_changes() {
        let list = list(&[
            (r#"{"_id":2558523591213958694, "x" : 1e3}"#, 10),
            ("{}", 20),
        ]);
        assert_eq!(
            &list.joined()[..],
            br#"{"_id":2558523591213958694, "x" : 1e3},{}"#
        );
        let texts: Vec<&str> = list.iter().map(|certificate| certificate.json).collect();
        assert_eq!(texts, [r#"{"_id":2558523591213958694, "x" : 1e3}"#, "{}"]);
    }

    #[test]
    fn a_list_reads_the_same_between_a_head_and_a_tail() {
        let plain = list(&[("[1]", 10), ("{\"x\":2}", 20)]);
        for list in [
            plain.enclosed(b"<", b">>").unwrap(),
            plain
                .enclosed(b"-", b"")
                .unwrap()
                .enclosed(b"<", b">>")
                .unwrap(),
        ] {
            assert_eq!(list.enclosure(), b"<[1],{\"x\":2}>>");
            assert_eq!(list.joined(), plain.joined());
            let read = |list: &CertificateList| -> Vec<(String, Timestamp)> {
                list.iter()
                    .map(|certificate| (certificate.json.to_owned(), certificate.not_after))
                    .collect()
            };
            assert_eq!(read(&list), read(&plain));
        }
        let empty = CertificateList::default().enclosed(b"<", b">").unwrap();
        assert!(empty.is_empty() && empty.enclosure() == b"<>");
    }

    #[test]
    fn some_texts_are_a_piece_of_all() {
        let list = list(&[("[1]", 10), ("2", 20), ("{}", 30)]);
        let list = list.enclosed(b"<", b">").unwrap();
        for (range, texts) in [
            (0..3, "[1],2,{}"),
            (0..1, "[1]"),
            (1..2, "2"),
            (1..9, "2,{}"),
            (2..2, ""),
            (3..5, ""),
            (usize::MAX..usize::MAX, ""),
        ] {
            assert_eq!(list.texts(range.clone()), texts, "{range:?}");
        }
        assert_eq!(CertificateList::default().texts(0..1), "");
    }

    #[test]
    fn a_certificate_leaves_at_the_very_moment_of_its_not_after() {
        let list = list(&[("1", 10), ("2", 20)]);
        let at = |seconds| list.unexpired(Timestamp::from_seconds(seconds)).count();
        assert_eq!((at(9), at(10), at(19), at(20)), (2, 1, 1, 0));
        assert_eq!(
            list.next_expiry(Timestamp::from_seconds(10)),
            Some(Timestamp::from_seconds(20))
        );
        assert_eq!(list.next_expiry(Timestamp::from_seconds(20)), None);
    }
}
