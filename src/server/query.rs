//! A query string goes in; the [`Form`] of the answer comes out.
//!
//! Atlas's five parameters are read strictly, everything else is ignored and never forwarded.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::head::greatest;

/// How an answer is to be written. Nothing of it reaches the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// `pageNum` and `itemsPerPage`, if either was given; else every certificate in one answer.
    pub page: Option<PageQuery>,
    /// `includeCount`: whether `totalCount` is wanted. `None` where the caller did not say.
    pub include_count: Option<bool>,
    /// `pretty`: indented JSON. `None` where the caller did not say.
    pub pretty: Option<bool>,
    /// `envelope`: the status inside of the body. `None` where the caller did not say.
    pub envelope: Option<bool>,
    /// Whether a token was put into the query, where it does not belong (RFC 6750, section 2.3).
    pub token_in_query: bool,
}

/// One page, as Atlas would cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// `pageNum`, from 1; `None` where the caller did not say.
    pub number: Option<u32>,
    /// `itemsPerPage`, from 1 to 500; `None` where the caller did not say.
    pub size: Option<u32>,
}

/// A parameter that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidQuery {
    /// The parameter, or `query` where not even that can be told.
    pub name: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl PageQuery {
    /// The page's number; Atlas's default is the first.
    pub fn number(self) -> u32 {
        self.number.unwrap_or(1)
    }

    /// How many certificates a page holds; Atlas's default is 100.
    pub fn size(self) -> u32 {
        self.size.unwrap_or(100)
    }
}

impl Form {
    /// Reads what stands behind the question mark.
    pub fn read(query: &str) -> Result<Self, InvalidQuery> {
        let mut form = Self::default();
        if query.is_empty() {
            return Ok(form);
        }
        let (mut number, mut size) = (None, None);
        // By bytes: to search in text cost more than all else that an answer from memory does for its query.
        let is_plain = greatest(query.as_bytes(), |byte| u8::from(matches!(byte, b'%' | 0))) == 0;
        let decode = |text| {
            if is_plain {
                Ok(Cow::Borrowed(text))
            } else {
                decode(text)
            }
        };
        let pairs = query.as_bytes().split(|byte| *byte == b'&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            let value = value.get(1..).unwrap_or_default();
            let (name, value) = (decode(name)?, decode(value)?);
            match &*name {
                b"pageNum" => once("pageNum", &mut number, page_number(&value)?)?,
                b"itemsPerPage" => once("itemsPerPage", &mut size, page_size(&value)?)?,
                b"includeCount" => {
                    once(
                        "includeCount",
                        &mut form.include_count,
                        flag("includeCount", &value)?,
                    )?;
                }
                b"pretty" => once("pretty", &mut form.pretty, flag("pretty", &value)?)?,
                b"envelope" => once("envelope", &mut form.envelope, flag("envelope", &value)?)?,
                b"access_token" => form.token_in_query = true,
                _ => {}
            }
        }
        if number.is_some() || size.is_some() {
            form.page = Some(PageQuery { number, size });
        }
        Ok(form)
    }

    /// Up to how many certificates such an answer shows all that there are.
    pub fn most(&self) -> usize {
        match self.page {
            None => usize::MAX,
            Some(page) if page.number() == 1 => usize::try_from(page.size()).unwrap_or(usize::MAX),
            Some(_) => 0,
        }
    }

    /// Whether indented JSON is wanted.
    pub fn is_pretty(&self) -> bool {
        self.pretty == Some(true)
    }

    /// Whether the status is wanted inside of the body.
    pub fn has_envelope(&self) -> bool {
        self.envelope == Some(true)
    }

    /// Whether this is what most callers ask for: the whole list, counted, compact, without envelope.
    pub fn is_usual(&self) -> bool {
        self.page.is_none()
            && self.include_count != Some(false)
            && !self.is_pretty()
            && !self.has_envelope()
    }
}

/// Whether a query that was refused says in so many words that errors are wanted in an envelope.
pub(super) fn asks_for_envelope(query: &str) -> bool {
    let mut wishes = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("envelope="));
    wishes.next() == Some("true") && wishes.next().is_none()
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), InvalidQuery> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(InvalidQuery {
            name,
            problem: "is given twice",
        }),
    }
}

fn page_number(value: &[u8]) -> Result<u32, InvalidQuery> {
    // Atlas's parameter is an int32.
    number(value)
        .filter(|number| (1..=i32::MAX.unsigned_abs()).contains(number))
        .ok_or(InvalidQuery {
            name: "pageNum",
            problem: "must be a whole number from 1 to 2147483647",
        })
}

fn page_size(value: &[u8]) -> Result<u32, InvalidQuery> {
    number(value)
        .filter(|number| (1..=500).contains(number))
        .ok_or(InvalidQuery {
            name: "itemsPerPage",
            problem: "must be a whole number from 1 to 500",
        })
}

fn number(value: &[u8]) -> Option<u32> {
    let (first, rest) = value.split_first()?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    rest.iter().try_fold(digit(*first)?, |number: u32, byte| {
        number.checked_mul(10)?.checked_add(digit(*byte)?)
    })
}

fn flag(name: &'static str, value: &[u8]) -> Result<bool, InvalidQuery> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(InvalidQuery {
            name,
            problem: "must be `true` or `false`",
        }),
    }
}

fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, InvalidQuery> {
    let wrong = InvalidQuery {
        name: "query",
        problem: "must be percent-encoded UTF-8 text",
    };
    let mut escapes = text.split(|byte| *byte == b'%').skip(1);
    let is_escape = |digits: &[u8]| {
        let two = digits.get(..2);
        two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(is_escape) {
        return Err(wrong);
    }
    let decoded = Cow::from(percent_decode(text));
    if str::from_utf8(&decoded).is_err() || decoded.contains(&0) {
        return Err(wrong);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atlas_parameters_are_read_and_all_others_ignored() {
        let form =
            Form::read("pageNum=%31&itemsPerPage=500&includeCount=false&pretty=true").unwrap();
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
                Form::read(ignored).unwrap(),
                Form::read("").unwrap(),
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
            assert_eq!(Form::read(query).unwrap_err().problem, problem);
        }
        assert!(Form::read("pageNum=2147483647").is_ok());
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
            assert_eq!(Form::read(query).unwrap_err().name, name, "{query}");
        }
    }
}
