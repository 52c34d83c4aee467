//! The query of a list call: read strictly, and remembered for the links.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The five parameters that every list of Atlas takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListQuery {
    pub(crate) page: u32,
    pub(crate) size: u32,
    pub(crate) include_count: bool,
    pub(crate) pretty: bool,
    pub(crate) envelope: bool,
    /// What the caller sent beside the paging, each pair ending in `&`: links repeat it first.
    pub(crate) echo: String,
}

/// The name of the parameter that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidParameter(pub(crate) String);

impl ListQuery {
    /// Reads a query. A parameter out of bounds, unreadable or given twice is refused; Atlas does
    /// not document what it does with the last two, and no client should find out.
    pub(crate) fn read(query: &str) -> Result<Self, InvalidParameter> {
        let mut seen: Vec<String> = Vec::new();
        let mut list = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(raw_name);
            if seen.iter().any(|other| *other == name) {
                return Err(InvalidParameter(name.into_owned()));
            }
            list.take(&name, &decoded(raw_value))?;
            if !matches!(name.as_ref(), "pageNum" | "itemsPerPage") {
                list.echo.push_str(pair);
                list.echo.push('&');
            }
            seen.push(name.into_owned());
        }
        Ok(list)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), InvalidParameter> {
        match name {
            "pageNum" => self.page = number(name, value, 1, u32::MAX)?,
            "itemsPerPage" => self.size = number(name, value, 1, MAX_SIZE)?,
            "includeCount" => self.include_count = parsed(name, value)?,
            "pretty" => self.pretty = parsed(name, value)?,
            "envelope" => self.envelope = parsed(name, value)?,
            // Atlas ignores parameters it does not know. The record shows them.
            _ => {}
        }
        Ok(())
    }

    /// How many items come before this page.
    pub(crate) fn skipped(&self) -> usize {
        let before = u64::from(self.page.saturating_sub(1)) * u64::from(self.size);
        usize::try_from(before).unwrap_or(usize::MAX)
    }

    /// How many items this page has at most.
    pub(crate) fn taken(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            page: 1,
            size: 100,
            include_count: true,
            pretty: false,
            envelope: false,
            echo: String::new(),
        }
    }
}

/// The page a query asks for, however wrong the rest of it is: a script matches on it.
pub(crate) fn page_asked(query: &str) -> u32 {
    let number = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("pageNum="));
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The value of one parameter, decoded.
pub(crate) fn value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .find(|(key, _)| decoded(key) == name)
        .map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}

fn number(name: &str, value: &str, low: u32, high: u32) -> Result<u32, InvalidParameter> {
    let number = parsed(name, value)?;
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(InvalidParameter(name.to_owned()))
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, InvalidParameter> {
    value.parse().map_err(|_| InvalidParameter(name.to_owned()))
}

const MAX_SIZE: u32 = 500;
