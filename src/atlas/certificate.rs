//! Certificates as Atlas sent them: raw JSON goes in, a [`CertificateList`] that changes no byte of it
//! comes out.

use std::sync::Arc;

use bytes::Bytes;

use super::Timestamp;

/// Every certificate of one database user, in Atlas's order, each as the exact JSON text that Atlas
/// sent.
///
/// `_id` is a 63-bit integer, mostly above 2^53; by keeping the text no value is ever rewritten (G4).
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CertificateList {
    /// The items' texts, each followed by the next, separated by single commas.
    text: Bytes,
    /// Where each item stands in `text`, and when it expires.
    items: Arc<[Item]>,
}

/// One certificate within a list.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The JSON object as Atlas sent it.
    pub json: &'a str,
    /// When the certificate expires; the end of time where Atlas gave no `notAfter`.
    pub not_after: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    start: u32,
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
            .map(|certificate| certificate.json.len() + 1)
            .sum();
        let mut text = Vec::with_capacity(length.saturating_sub(1));
        let mut items = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            if !text.is_empty() {
                text.push(b',');
            }
            let start = u32::try_from(text.len()).ok()?;
            text.extend_from_slice(certificate.json.as_bytes());
            let end = u32::try_from(text.len()).ok()?;
            items.push(Item {
                start,
                end,
                not_after: certificate.not_after,
            });
        }
        Some(Self {
            text: Bytes::from(text),
            items: items.into(),
        })
    }

    /// How many certificates the list holds, expired ones included.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the list holds none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The certificates, in Atlas's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Certificate<'_>> + DoubleEndedIterator {
        self.items.iter().map(|item| Certificate {
            json: self.json(item),
            not_after: item.not_after,
        })
    }

    /// The certificates that are not past their `notAfter` at `now`, in Atlas's order (G1).
    pub fn unexpired(&self, now: Timestamp) -> impl Iterator<Item = Certificate<'_>> {
        self.iter()
            .filter(move |certificate| certificate.not_after > now)
    }

    /// The earliest `notAfter` after `now`; `None` if nothing will expire any more.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.items
            .iter()
            .map(|item| item.not_after)
            .filter(|not_after| *not_after > now)
            .min()
    }

    /// All texts joined by commas: what stands between the brackets of `results` while nothing has
    /// expired.
    pub fn joined(&self) -> &Bytes {
        &self.text
    }

    /// How many bytes of memory the list holds.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.items)
    }

    fn json(&self, item: &Item) -> &str {
        let span = usize::try_from(item.start)
            .ok()
            .zip(usize::try_from(item.end).ok());
        // The spans were made by `join` from whole texts.
        span.and_then(|(start, end)| self.text.get(start..end))
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or_default()
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
