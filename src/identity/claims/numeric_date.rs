//! `NumericDate` (RFC 7519, section 2): a JSON number of seconds since 1970, as a whole second.
//!
//! Some libraries write fractions. They are rounded so that no token is good for longer than it says.

use std::time::Duration;

use serde_json::Value;

use crate::atlas::Timestamp;
use crate::strict_json::Mistyped;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// The one before it: for an end.
    Down,
    /// The one after it: for a beginning.
    Up,
}

/// The time that `value` says. What is no number, or so large that it is not exact, is refused.
pub(super) fn read(value: &Value, rounding: Rounding) -> Result<Timestamp, Mistyped> {
    let seconds = value.as_i64().or_else(|| {
        // Whole numbers beyond an i64 are refused below, however they are read.
        let seconds = value.as_f64()?;
        whole(match rounding {
            Rounding::Down => seconds.floor(),
            Rounding::Up => seconds.ceil(),
        })
    });
    seconds
        .filter(|seconds| seconds.unsigned_abs() <= LARGEST)
        .map(Timestamp::from_seconds)
        .ok_or(Mistyped)
}

/// A number without a fraction as an integer, if it is one of so many seconds.
fn whole(seconds: f64) -> Option<i64> {
    let magnitude = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    let magnitude = i64::try_from(magnitude.as_secs()).ok()?;
    Some(if seconds < 0.0 { -magnitude } else { magnitude })
}

/// 2^53: beyond it not every whole number can be written as a JSON number that all readers read alike
/// (RFC 7493, section 2.2).
const LARGEST: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict_json::read_object;

    #[test]
    fn every_json_number_is_a_time_if_it_is_exact() {
        for (text, down, up) in [
            ("0", Some(0), Some(0)),
            ("-0.0", Some(0), Some(0)),
            ("-1", Some(-1), Some(-1)),
            ("-1.5", Some(-2), Some(-1)),
            ("1.5", Some(1), Some(2)),
            ("1796019809.0", Some(1_796_019_809), Some(1_796_019_809)),
            (
                "1796019809.000001",
                Some(1_796_019_809),
                Some(1_796_019_810),
            ),
            (
                "1796019809.999999",
                Some(1_796_019_809),
                Some(1_796_019_810),
            ),
            ("1.79e9", Some(1_790_000_000), Some(1_790_000_000)),
            ("179E+7", Some(1_790_000_000), Some(1_790_000_000)),
            ("9007199254740992", Some(1 << 53), Some(1 << 53)),
            ("9007199254740993", None, None),
            ("-9007199254740993", None, None),
            ("9007199254740994.0", None, None),
            ("9223372036854775808", None, None),
            ("18446744073709551616", None, None),
            ("-9223372036854775809", None, None),
            ("1e300", None, None),
            ("-1e300", None, None),
            ("\"1\"", None, None),
            ("null", None, None),
            ("true", None, None),
            ("[1]", None, None),
            ("{}", None, None),
        ] {
            let document = format!("{{\"exp\":{text}}}");
            let object = read_object(document.as_bytes()).unwrap();
            let value = object.get("exp").unwrap();
            for (rounding, expected) in [(Rounding::Down, down), (Rounding::Up, up)] {
                let expected = expected.map(Timestamp::from_seconds).ok_or(Mistyped);
                assert_eq!(read(value, rounding), expected, "{text} {rounding:?}");
            }
        }
        // Beyond every number that a computer has: no JSON that we read.
        assert!(read_object(b"{\"exp\":1e400}").is_err());
    }
}
