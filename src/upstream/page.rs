//! One page of Atlas's answer: the bytes of a body go in, the certificates as they were sent come out,
//! or the reason why they cannot be used.
//!
//! Nothing is rewritten: a certificate stays the text that Atlas sent (G4). But everything is looked
//! at: what a strict reader would not understand in one way only must never be stored (G39).

mod strict;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::Deserializer;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::atlas::ProjectId;
use crate::atlas::Timestamp;
use strict::Bounded;
use strict::Names;
use strict::Text;

/// The certificates of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// In Atlas's order.
    pub(crate) items: Vec<Item>,
    /// How many certificates Atlas says there are on all pages.
    pub(crate) total: u64,
}

/// One certificate of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The serial number, `_id`.
    pub(crate) id: i128,
    /// When it expires.
    pub(crate) not_after: Timestamp,
    /// The JSON object as Atlas sent it.
    pub(crate) text: Bytes,
}

/// Why a body is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// JSON, but not what the API answers. Asking again would not help.
    Refused(&'static str),
    /// Not JSON to its end: the body may have been torn on its way.
    Torn,
}

impl Page {
    /// Reads the body of a 200.
    pub(crate) fn read(body: &Bytes, project: &ProjectId) -> Result<Self, Unusable> {
        let text = str::from_utf8(body).map_err(|_| Unusable::Torn)?;
        let read: PageText<'_> = serde_json::from_str(text).map_err(|error| reason(&error))?;
        let items = read.results.into_iter();
        let items: Result<_, _> = items.map(|raw| Item::read(raw, body, project)).collect();
        Ok(Self {
            items: items?,
            total: read.total,
        })
    }
}

impl Item {
    fn read(raw: &RawValue, body: &Bytes, project: &ProjectId) -> Result<Self, Unusable> {
        let read: ItemText<'_> = serde_json::from_str(raw.get()).map_err(|error| reason(&error))?;
        if read.group_id.is_some_and(|group| group != project.as_str()) {
            return Err(Unusable::Refused("a certificate of another project"));
        }
        let not_after =
            Timestamp::parse(&read.not_after).ok_or(Unusable::Refused("notAfter is no instant"))?;
        Ok(Self {
            id: read.id,
            not_after,
            text: body.slice_ref(raw.get().as_bytes()),
        })
    }
}

fn reason(error: &serde_json::Error) -> Unusable {
    match error.classify() {
        Category::Data => Unusable::Refused("not a page of certificates"),
        Category::Eof | Category::Io | Category::Syntax => Unusable::Torn,
    }
}

/// The page's members; unknown ones are checked and left.
struct PageText<'a> {
    results: Vec<&'a RawValue>,
    total: u64,
}

impl<'de> Deserialize<'de> for PageText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PageVisitor)
    }
}

struct PageVisitor;

impl<'de> Visitor<'de> for PageVisitor {
    type Value = PageText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of certificates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PageText<'de>, A::Error> {
        let (mut results, mut total) = (None, None);
        let mut names = Names::default();
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "results" => results = Some(map.next_value::<Items<'de>>()?.0),
                "totalCount" => total = Some(map.next_value()?),
                _ => map.next_value_seed(Bounded(DEEPEST - 1))?,
            }
            names.add(name)?;
        }
        Ok(PageText {
            results: results.ok_or_else(|| A::Error::missing_field("results"))?,
            // We ask for it with `includeCount=true`; without it nothing proves a list complete.
            total: total.ok_or_else(|| A::Error::missing_field("totalCount"))?,
        })
    }
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

/// A certificate's members that we judge; the others are checked and left.
struct ItemText<'a> {
    id: i128,
    group_id: Option<Cow<'a, str>>,
    not_after: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for ItemText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = ItemText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a certificate")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ItemText<'de>, A::Error> {
        let (mut id, mut group_id, mut not_after) = (None, None, None);
        let mut names = Names::default();
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "_id" => {
                    let number = map.next_value::<&RawValue>()?.get();
                    // A fraction, an exponent or a text is no serial number.
                    id = Some(number.parse().map_err(|_| A::Error::custom("_id"))?);
                }
                "groupId" => group_id = Some(map.next_value::<Text<'de>>()?.0),
                "notAfter" => not_after = Some(map.next_value::<Text<'de>>()?.0),
                _ => map.next_value_seed(Bounded(DEEPEST - 3))?,
            }
            names.add(name)?;
        }
        Ok(ItemText {
            id: id.ok_or_else(|| A::Error::missing_field("_id"))?,
            group_id,
            not_after: not_after.ok_or_else(|| A::Error::missing_field("notAfter"))?,
        })
    }
}

/// The most that Atlas puts on one page, and what we ask for.
pub(crate) const LONGEST_PAGE: usize = 500;
/// How deep a body may be nested, itself included.
const DEEPEST: u8 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "32b6e34b3d91647abb20e7b8";

    fn read(body: &str) -> Result<Page, Unusable> {
        let project: ProjectId = PROJECT.parse().unwrap();
        Page::read(&Bytes::copy_from_slice(body.as_bytes()), &project)
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
            r#"{"results":[],"totalCount":0,"x":1,"x":1}"#,
            r#"{"results":[1],"totalCount":1}"#,
        ] {
            assert!(matches!(read(body), Err(Unusable::Refused(_))), "{body}");
        }
        for body in [
            "",
            "\u{feff}{}",
            r#"{"results":[],"totalCount":0}x"#,
            r#"{"results":[],"totalCount":0,"x":"\ud800"}"#,
        ] {
            assert_eq!(read(body), Err(Unusable::Torn), "{body}");
        }
        let not_utf8 = Bytes::from_static(b"{\"results\":[],\"totalCount\":0,\"x\":\"\xff\"}");
        assert!(Page::read(&not_utf8, &PROJECT.parse().unwrap()).is_err());
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
            assert!(matches!(with(id), Err(Unusable::Refused(_))), "{id}");
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
        assert!(read(&item(r#""_id":1"#)).is_err());
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
            r#""x":1,"x":1"#,
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
        let members: Vec<String> = (0..65).map(|n| format!(r#""m{n}":1"#)).collect();
        assert!(
            read(&format!(
                r#"{{"results":[],"totalCount":0,{}}}"#,
                members.join(",")
            ))
            .is_err()
        );
    }
}
