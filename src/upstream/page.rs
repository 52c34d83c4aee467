//! One page of Atlas's answer: its certificates as they were sent.
//!
//! Nothing is rewritten: a certificate stays the text that Atlas sent (G4). What is used is read strictly; what
//! is not used is not judged, except for its nesting, which costs the reader of it.

mod strict;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::atlas::{ProjectId, Timestamp};
use strict::{JsonText, read_object, set_once, shallow};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AtlasPage {
    pub(crate) items: Vec<PageItem>,
    /// How many certificates Atlas says there are on all pages. Atlas: "an estimate".
    pub(crate) total: u64,
    /// Whether Atlas says that another page follows; `None` if it gives no links.
    pub(crate) has_next: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageItem {
    pub(crate) id: i128,
    /// When its validity begins, one hour before it was made; `None` if Atlas does not say.
    pub(crate) created_at: Option<Timestamp>,
    /// When it expires; `None` if Atlas does not say, which its schema allows.
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) text: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageError {
    /// JSON, but not what the API answers. Asking again would not help.
    Refused(&'static str),
    /// Not JSON to its end: the body may have been torn on its way.
    Torn,
}

impl AtlasPage {
    pub(crate) fn read(body: &Bytes, project: &ProjectId) -> Result<Self, PageError> {
        let text = str::from_utf8(body).map_err(|_| PageError::Torn)?;
        let (mut links, mut results, mut total) = (None, None, None);
        let page = read_object(text, |name, value| match name {
            b"links" => set_once(&mut links, shallow(value, DEEPEST - 1)?),
            b"results" => set_once(&mut results, value),
            b"totalCount" => set_once(&mut total, value),
            _ => shallow(value, DEEPEST - 1).map(drop),
        });
        page.map_err(|error| reason(&error))?;
        // We ask for `totalCount` with `includeCount=true`; a page without it is not what we asked for.
        let (results, total) = results.zip(total).ok_or(NO_PAGE)?;
        let items: Items<'_> = serde_json::from_str(results.get()).map_err(|_| NO_PAGE)?;
        let items = items.0.into_iter();
        let items: Result<_, _> = items
            .map(|raw| PageItem::read(raw, body, project))
            .collect();
        Ok(Self {
            items: items?,
            total: total.get().parse().map_err(|_| NO_PAGE)?,
            has_next: links.and_then(has_next),
        })
    }
}

impl PageItem {
    fn read(raw: &RawValue, body: &Bytes, project: &ProjectId) -> Result<Self, PageError> {
        let (mut id, mut created_at, mut group_id, mut not_after) = (None, None, None, None);
        let item = read_object(raw.get(), |name, value| match name {
            b"_id" => set_once(&mut id, value),
            b"createdAt" => set_once(&mut created_at, shallow(value, DEEPEST - 3)?),
            b"groupId" => set_once(&mut group_id, value),
            b"notAfter" => set_once(&mut not_after, value),
            _ => shallow(value, DEEPEST - 3).map(drop),
        });
        item.map_err(|error| reason(&error))?;
        let text = |value: &RawValue| {
            let text: Result<JsonText<'_>, _> = serde_json::from_str(value.get());
            text.map(|text| text.0.into_owned()).map_err(|_| NO_PAGE)
        };
        // A fraction, an exponent or a text is no serial number.
        let id = id.and_then(|id: &RawValue| id.get().parse().ok());
        let id = id.ok_or(NO_PAGE)?;
        if group_id
            .map(text)
            .transpose()?
            .is_some_and(|it| it != project.as_str())
        {
            return Err(PageError::Refused("a certificate of another project"));
        }
        let unreadable = PageError::Refused("notAfter is no instant");
        let not_after = not_after.map(text).transpose()?;
        let not_after = not_after.map(|text| Timestamp::parse(&text).ok_or(unreadable));
        Ok(Self {
            id,
            // Only spares a second reading, so what cannot be read is not there.
            created_at: created_at.and_then(|it| Timestamp::parse(&text(it).ok()?)),
            not_after: not_after.transpose()?,
            text: body.slice_ref(raw.get().as_bytes()),
        })
    }
}

fn reason(error: &serde_json::Error) -> PageError {
    match error.classify() {
        Category::Data => NO_PAGE,
        Category::Eof | Category::Io | Category::Syntax => PageError::Torn,
    }
}

/// Whether one of the links is to the next page; `None` if these are no links. No link is followed.
fn has_next(links: &RawValue) -> Option<bool> {
    #[derive(Deserialize)]
    struct PageLink<'a> {
        #[serde(borrow)]
        rel: Cow<'a, str>,
    }
    let links: Vec<PageLink<'_>> = serde_json::from_str(links.get()).ok()?;
    Some(links.iter().any(|link| link.rel == "next"))
}

/// The texts of `results`, no more than a page can hold, so that eight megabytes of commas do not
/// become eight million entries.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of certificates")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == LONGEST_PAGE {
                return Err(A::Error::custom("more items than a page can have"));
            }
            items.push(item);
        }
        Ok(Items(items))
    }
}

/// The most that Atlas puts on one page, and what we ask for.
pub(crate) const LONGEST_PAGE: usize = 500;
/// How deep a body may be nested, itself included.
const DEEPEST: usize = 32;
const NO_PAGE: PageError = PageError::Refused("not a page of certificates");

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "32b6e34b3d91647abb20e7b8";

    fn read(body: &str) -> Result<AtlasPage, PageError> {
        let project: ProjectId = PROJECT.parse().unwrap();
        AtlasPage::read(&Bytes::copy_from_slice(body.as_bytes()), &project)
    }

    fn item(members: &str) -> String {
        format!(r#"{{"results":[{{{members}}}],"totalCount":1}}"#)
    }

    fn valid() -> String {
        item(&format!(
            r#""_id":2558523591213958694,"createdAt":"2026-06-02T13:56:22Z","groupId":"{PROJECT}","notAfter":"2026-09-02T14:56:22Z","subject":"CN=user389""#
        ))
    }

    #[test]
    fn a_certificate_is_kept_as_the_text_that_atlas_sent() {
        let spaced = r#"{ "_id" : 2558523591213958694, "new" : [1e3, {"a":null}], "notAfter":"9999-12-31T23:59:59Z" }"#;
        let page = read(&format!(r#"{{"results":[{spaced}] , "totalCount":1}}"#)).unwrap();
        assert_eq!(&page.items[0].text[..], spaced.as_bytes());
        assert_eq!(page.items[0].id, 2_558_523_591_213_958_694);
        assert_eq!(page.total, 1);
    }

    #[test]
    fn a_page_cut_at_any_byte_is_never_a_page() {
        let whole = valid();
        assert!(read(&whole).is_ok());
        for at in 0..whole.len() {
            let torn = whole.get(..at).unwrap();
            assert!(read(torn).is_err(), "{torn}");
        }
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for body in [
            "null",
            "[]",
            "\"x\"",
            "{}",
            r#"{"results":null,"totalCount":0}"#,
            r#"{"results":{},"totalCount":0}"#,
            r#"{"results":[]}"#,
            r#"{"results":[],"totalCount":-1}"#,
            r#"{"results":[],"totalCount":1.0}"#,
            r#"{"results":[],"totalCount":"0"}"#,
            r#"{"results":[],"results":[],"totalCount":0}"#,
            r#"{"results":[],"totalCount":0,"totalCount":0}"#,
            r#"{"results":[1],"totalCount":1}"#,
        ] {
            assert!(matches!(read(body), Err(PageError::Refused(_))), "{body}");
        }
        for body in ["", "\u{feff}{}", r#"{"results":[],"totalCount":0}x"#] {
            assert_eq!(read(body), Err(PageError::Torn), "{body}");
        }
        let not_utf8 = Bytes::from_static(b"{\"results\":[],\"totalCount\":0,\"x\":\"\xff\"}");
        assert!(AtlasPage::read(&not_utf8, &PROJECT.parse().unwrap()).is_err());
    }

    #[test]
    fn a_serial_number_is_an_integer_of_any_size() {
        let with = |id: &str| {
            read(&item(&format!(
                r#""_id":{id},"notAfter":"2030-01-01T00:00:00Z""#
            )))
        };
        for id in [
            "9007199254740993",
            "-9223372036854775808",
            "9223372036854775807",
            "18446744073709551616",
        ] {
            assert_eq!(with(id).unwrap().items[0].id.to_string(), id);
        }
        for id in ["1e3", "\"123\"", "1.0", "null", "true", "[1]"] {
            assert!(matches!(with(id), Err(PageError::Refused(_))), "{id}");
        }
    }

    #[test]
    fn an_expiry_that_cannot_be_read_is_never_guessed() {
        let with = |text: &str| read(&item(&format!(r#""_id":1,"notAfter":{text}"#))).is_ok();
        for text in [
            "\"9999-12-31T23:59:59Z\"",
            "\"2020-01-01T00:00:00Z\"",
            "\"2026-08-10T16:06:35+14:00\"",
            "\"2026-08-10T16:06:35.0123456789012345678901234567890123456789Z\"",
        ] {
            assert!(with(text), "{text}");
        }
        for text in [
            "null",
            "1786327595",
            "\"\"",
            "\"2026-02-30T00:00:00Z\"",
            "\"2026-08-10T02:06:35\"",
        ] {
            assert!(!with(text), "{text}");
        }
        let page = read(&item(r#""_id":1"#)).unwrap();
        assert_eq!(page.items[0].not_after, None, "Atlas's schema lets it out");
    }

    #[test]
    fn what_is_not_used_is_not_judged_and_kept_as_it_came() {
        for odd in [
            "1e400",
            "-1E-999999",
            r#""\ud800""#,
            r#"{"a":1,"a":2}"#,
            "null",
            "99999999999999999999999999999999999999999999",
        ] {
            let inside = item(&format!(
                r#""_id":1,"x":{odd},"x":{odd},"createdAt":{odd},"subject":{odd}"#
            ));
            // `createdAt` twice would be something else: it is read.
            let inside = inside.replace(r#""createdAt":"#, r#""y":"#);
            let page = read(&inside).unwrap();
            let text = str::from_utf8(&page.items[0].text).unwrap();
            assert!(text.contains(odd), "{odd}");
            let outside = format!(r#"{{"x":{odd},"results":[],"totalCount":0,"links":{odd}}}"#);
            assert_eq!(read(&outside).map(|page| page.has_next), Ok(None), "{odd}");
            let created = read(&item(&format!(r#""_id":1,"createdAt":{odd}"#))).unwrap();
            assert_eq!(created.items[0].created_at, None, "{odd}");
        }
        let named = r#"{"results":[],"totalCount":0,"\ud800":1,"":[]}"#;
        assert!(read(named).is_ok());
    }

    #[test]
    fn the_links_say_whether_another_page_follows() {
        for (links, expected) in [
            (r#","links":[]"#, Some(false)),
            (r#","links":[{"rel":"self","href":"x"}]"#, Some(false)),
            (
                r#","links":[{"href":7,"rel":"self"},{"rel":"next"}]"#,
                Some(true),
            ),
            (r#","links":null"#, None),
            (r#","links":[{"href":"x"}]"#, None),
            ("", None),
        ] {
            let page = read(&format!(r#"{{"results":[],"totalCount":0{links}}}"#)).unwrap();
            assert_eq!(page.has_next, expected, "{links}");
        }
        assert!(read(r#"{"results":[],"totalCount":0,"links":[],"links":[]}"#).is_err());
    }

    #[test]
    fn a_certificate_of_another_project_or_with_doubled_members_is_refused() {
        let rest = r#""_id":1,"notAfter":"2030-01-01T00:00:00Z""#;
        assert!(read(&item(rest)).is_ok());
        for more in [
            r#""groupId":"32b6e34b3d91647abb20e7b9""#,
            r#""groupId":null"#,
            r#""groupId":1"#,
            r#""_id":1"#,
            r#""\u005fid":1"#,
            r#""notAfter":"2031-01-01T00:00:00Z""#,
        ] {
            assert!(read(&item(&format!("{rest},{more}"))).is_err(), "{more}");
        }
    }

    #[test]
    fn nesting_and_numbers_of_members_are_bounded_before_they_cost_anything() {
        let nested = |depth: usize| {
            item(&format!(
                r#""_id":1,"notAfter":"2030-01-01T00:00:00Z","x":{}{}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            ))
        };
        assert!(read(&nested(29)).is_ok());
        for depth in [30, 100_000] {
            assert!(read(&nested(depth)).is_err(), "{depth}");
            let outside = format!(
                r#"{{"x":{}{},"results":[],"totalCount":0}}"#,
                "[".repeat(depth + 2),
                "]".repeat(depth + 2)
            );
            assert!(read(&outside).is_err(), "{depth}");
        }
        let many = format!(
            r#"{{"results":[{}{{}}],"totalCount":1}}"#,
            "{},".repeat(1_000_000)
        );
        assert!(read(&many).is_err());
    }
}
