//! Query strings: the one reading of them, and the [`ListForm`] of an answer.
//!
//! Atlas's five parameters are read strictly, everything else is ignored and never forwarded.

use std::borrow::Cow;

use memchr::memchr2;
use percent_encoding::percent_decode_str;

/// How an answer is to be written. Nothing of it reaches the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListForm {
    /// `pageNum` and `itemsPerPage`, if either was given; else every certificate in one answer.
    pub(crate) page: Option<PageQuery>,
    /// `includeCount`: whether `totalCount` is wanted. `None` where the caller did not say.
    pub(crate) include_count: Option<bool>,
    /// `pretty`: indented JSON. `None` where the caller did not say.
    pub(crate) pretty: Option<bool>,
    /// `envelope`: the status inside of the body. `None` where the caller did not say.
    pub(crate) envelope: Option<bool>,
    /// Whether a token was put into the query, where it does not belong (RFC 6750, section 2.3).
    pub(crate) token_in_query: bool,
}

/// One page, as Atlas would cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// `pageNum`, from 1; `None` where the caller did not say.
    pub(crate) number: Option<u32>,
    /// `itemsPerPage`, from 1 to 500; `None` where the caller did not say.
    pub(crate) size: Option<u32>,
}

/// A parameter that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidQuery {
    /// The parameter, or `query` where not even that can be told.
    pub(crate) name: &'static str,
    /// What is wrong with it.
    pub(crate) problem: &'static str,
}

impl PageQuery {
    /// The page's number; Atlas's default is the first.
    pub(crate) fn number(self) -> u32 {
        self.number.unwrap_or(1)
    }

    /// How many certificates a page holds; Atlas's default is 100.
    pub(crate) fn size(self) -> u32 {
        self.size.unwrap_or(100)
    }
}

impl ListForm {
    /// Reads what stands behind the question mark.
    pub(crate) fn read(query: &str) -> Result<Self, InvalidQuery> {
        let mut form = Self::default();
        let (mut number, mut size) = (None, None);
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match &*name {
                "pageNum" => {
                    // Atlas's parameter is an int32.
                    let problem = "must be a whole number from 1 to 2147483647";
                    let value = whole(&value, i32::MAX.unsigned_abs());
                    set("pageNum", &mut number, value, problem)?;
                }
                "itemsPerPage" => {
                    let problem = "must be a whole number from 1 to 500";
                    set("itemsPerPage", &mut size, whole(&value, 500), problem)?;
                }
                "includeCount" => flag("includeCount", &mut form.include_count, &value)?,
                "pretty" => flag("pretty", &mut form.pretty, &value)?,
                "envelope" => flag("envelope", &mut form.envelope, &value)?,
                "access_token" => form.token_in_query = true,
                _ => {}
            }
        }
        if number.is_some() || size.is_some() {
            form.page = Some(PageQuery { number, size });
        }
        Ok(form)
    }

    /// Up to how many certificates such an answer shows all that there are.
    pub(crate) fn most(&self) -> usize {
        match self.page {
            None => usize::MAX,
            Some(page) if page.number() == 1 => usize::try_from(page.size()).expect("at most 500"),
            Some(_) => 0,
        }
    }

    /// Whether indented JSON is wanted.
    pub(crate) fn is_pretty(&self) -> bool {
        self.pretty == Some(true)
    }

    /// Whether the status is wanted inside of the body.
    pub(crate) fn has_envelope(&self) -> bool {
        self.envelope == Some(true)
    }

    /// Whether this is what most callers ask for: the whole list, counted, compact, without envelope.
    pub(crate) fn is_usual(&self) -> bool {
        self.page.is_none()
            && self.include_count != Some(false)
            && !self.is_pretty()
            && !self.has_envelope()
    }
}

/// Whether a query that was refused says in so many words that errors are wanted in an envelope.
pub(super) fn asks_for_envelope(query: &str) -> bool {
    let pairs = query.split('&');
    let mut values = pairs.filter_map(|pair| pair.strip_prefix("envelope="));
    values.next() == Some("true") && values.next().is_none()
}

/// Name and value.
type Parameter<'q> = (Cow<'q, str>, Cow<'q, str>);

/// The parameters of a query, percent-decoded; one without a value has an empty one.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Result<Parameter<'_>, InvalidQuery>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

pub(super) fn set<T>(
    name: &'static str,
    place: &mut Option<T>,
    value: Option<T>,
    problem: &'static str,
) -> Result<(), InvalidQuery> {
    let value = value.ok_or(InvalidQuery { name, problem })?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(InvalidQuery {
            name,
            problem: "is given twice",
        }),
    }
}

fn flag(name: &'static str, place: &mut Option<bool>, value: &str) -> Result<(), InvalidQuery> {
    set(name, place, value.parse().ok(), "must be `true` or `false`")
}

pub(super) fn whole(value: &str, most: u32) -> Option<u32> {
    // Rust's parser takes a sign, too.
    let is_unsigned = value.starts_with(|first: char| first.is_ascii_digit());
    let number = value.parse().ok().filter(|_| is_unsigned)?;
    (1..=most).contains(&number).then_some(number)
}

fn decode(text: &str) -> Result<Cow<'_, str>, InvalidQuery> {
    if memchr2(b'%', 0, text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut escapes = text.split('%').skip(1).map(str::as_bytes);
    let is_escaped = escapes.all(|escape| {
        let two = escape.first_chunk::<2>();
        two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = percent_decode_str(text).decode_utf8().ok();
    let decoded = decoded.filter(|text| is_escaped && !text.contains('\0'));
    decoded.ok_or(InvalidQuery {
        name: "query",
        problem: "must be percent-encoded UTF-8 text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atlas_parameters_are_read_and_all_others_ignored() {
        let form =
            ListForm::read("pageNum=%31&itemsPerPage=500&includeCount=false&pretty=true").unwrap();
        assert_eq!(
            form.page,
            Some(PageQuery {
                number: Some(1),
                size: Some(500)
            })
        );
        assert_eq!(
            (form.include_count, form.pretty, form.envelope),
            (Some(false), Some(true), None)
        );
        for ignored in [
            "",
            "x=1",
            "=",
            "&&&",
            "a[]=1",
            "username=other&groupId=other",
            "x=1&x=2",
        ] {
            assert_eq!(
                ListForm::read(ignored).unwrap(),
                ListForm::read("").unwrap(),
                "{ignored}"
            );
        }
    }

    #[test]
    fn both_bounds_of_a_number_are_named() {
        for (query, problem) in [
            (
                "pageNum=2147483648",
                "must be a whole number from 1 to 2147483647",
            ),
            ("itemsPerPage=501", "must be a whole number from 1 to 500"),
        ] {
            assert_eq!(ListForm::read(query).unwrap_err().problem, problem);
        }
        assert!(ListForm::read("pageNum=2147483647").is_ok());
    }

    #[test]
    fn what_cannot_be_meant_names_its_parameter() {
        for (query, name) in [
            ("pageNum=1&pageNum=2", "pageNum"),
            ("pageNum=0", "pageNum"),
            ("pageNum=-1", "pageNum"),
            ("pageNum=+1", "pageNum"),
            ("pageNum=1e9", "pageNum"),
            ("pageNum=99999999999999999999", "pageNum"),
            ("pageNum=2147483648", "pageNum"),
            ("pageNum=", "pageNum"),
            ("pageNum", "pageNum"),
            ("pageNum=1;itemsPerPage=2", "pageNum"),
            ("itemsPerPage=501", "itemsPerPage"),
            ("itemsPerPage=1.5", "itemsPerPage"),
            ("includeCount=TRUE", "includeCount"),
            ("pretty=1", "pretty"),
            ("envelope=maybe", "envelope"),
            ("x=%ff", "query"),
            ("x=%00", "query"),
            ("x=%zz", "query"),
            ("x=%4", "query"),
        ] {
            assert_eq!(ListForm::read(query).unwrap_err().name, name, "{query}");
        }
    }
}
