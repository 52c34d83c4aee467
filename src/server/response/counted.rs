//! A number goes in, the header's value that says it comes out, made once.
//!
//! Ages and times to live are small numbers that come again and again. A value that is kept for ever is
//! handed out without writing, allocating or counting anything: to make `Age` and `Cache-Status` anew
//! for each answer took as long as to find its list.

use std::sync::OnceLock;

use http::HeaderValue;

/// Values that differ in a number only.
pub(super) struct Counted {
    text: fn(u64) -> String,
    /// Each made whole when the first of its numbers is needed, and never freed.
    rows: [OnceLock<Row>; ROWS],
}

type Row = Box<[HeaderValue; ROW]>;

impl Counted {
    /// The values with the `text` of each number.
    pub(super) const fn new(text: fn(u64) -> String) -> Self {
        Self {
            text,
            rows: [const { OnceLock::new() }; ROWS],
        }
    }

    /// The value of `number`.
    pub(super) fn value(&self, number: u64) -> HeaderValue {
        let kept = usize::try_from(number).ok().and_then(|number| {
            let (at, place) = (number / ROW, number % ROW);
            let row = self.rows.get(at)?;
            row.get_or_init(|| self.row(at)).get(place)
        });
        kept.cloned()
            .unwrap_or_else(|| text_value((self.text)(number)))
    }

    #[cold]
    fn row(&self, at: usize) -> Row {
        Box::new(std::array::from_fn(|place| {
            let number = u64::try_from(at * ROW + place).unwrap_or(u64::MAX);
            HeaderValue::from_static((self.text)(number).leak())
        }))
    }
}

/// A text of ours as a value.
pub(super) fn text_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// A little more than the seconds of an hour.
const ROWS: usize = 64;
const ROW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_own_text_however_large_it_is() {
        static NUMBERS: Counted = Counted::new(|number| format!("<{number}>"));
        for number in (0..5_000).rev().chain([u64::MAX]) {
            for _ in 0..2 {
                assert_eq!(NUMBERS.value(number), format!("<{number}>"));
            }
        }
    }
}
