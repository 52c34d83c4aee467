//! What every part's settings are made of: durations and sizes as people write them, and mistakes
//! with their place.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod ranges;

pub(crate) use ranges::{Ranges, WholeNumber, never_reached};

/// Something in the configuration that cannot be meant, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which key, as it is written in TOML: `identity.issuers[0].audiences`.
    pub place: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn at(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A number of bytes, written `64MiB`, `512KiB`, `1GiB` or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// `count` mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` kibibytes.
    pub const fn kibibytes(count: u64) -> Self {
        Self(count << 10)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in SIZE_UNITS {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text_or_number(deserializer)?;
        let (digits, unit) = split_unit(&text);
        let scale = match unit {
            "" | "B" => 1,
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, bytes)| *bytes)
                .ok_or_else(|| D::Error::custom(SIZE_FORM))?,
        };
        let count: u64 = digits.parse().map_err(|_| D::Error::custom(SIZE_FORM))?;
        count
            .checked_mul(scale)
            .map(Size)
            .ok_or_else(|| D::Error::custom(SIZE_FORM))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Durations as `90s`, `5m`, `1h`, `250ms`; for `#[serde(with = "settings::duration")]`.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(SPAN_FORM))?;
        parse(&text).ok_or_else(|| D::Error::custom(SPAN_FORM))
    }

    pub(crate) fn serialize<S: Serializer>(
        span: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print(*span))
    }

    fn parse(text: &str) -> Option<Duration> {
        let (digits, unit) = split_unit(text);
        let millis = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, millis)| *millis)?;
        if digits.is_empty() {
            return None;
        }
        // What is too long to be counted is too long for every key, which then says how long it may be.
        let count: u64 = digits.parse().unwrap_or(u64::MAX);
        Some(Duration::from_millis(count.saturating_mul(millis)))
    }

    pub(super) fn print(span: Duration) -> String {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        for (unit, scale) in SPAN_UNITS {
            if millis >= scale && millis.is_multiple_of(scale) {
                return format!("{}{unit}", millis / scale);
            }
        }
        "0s".to_owned()
    }
}

/// Reads an address to listen on; for `#[serde(deserialize_with = "settings::socket_address")]`.
pub(crate) fn socket_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(ADDRESS_FORM))?;
    text.parse().map_err(|_| D::Error::custom(ADDRESS_FORM))
}

/// Durations that may be absent; for `#[serde(with = "settings::duration_if_any")]`.
pub(crate) mod duration_if_any {
    use super::{Deserializer, Duration, Serializer, duration};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde calls it with this")]
    pub(crate) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => duration::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// Reads a whole number. One that is too large for its type becomes the largest, and is refused with the
/// bounds of its key; for `#[serde(deserialize_with = "settings::whole")]`.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64> + WholeNumber>(
    deserializer: D,
) -> Result<T, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let number = u64::try_from(number).map_err(|_| D::Error::custom(WHOLE_FORM))?;
    Ok(T::try_from(number).unwrap_or(T::MOST))
}

pub(crate) fn whole_if_any<'de, D: Deserializer<'de>, T: TryFrom<u64> + WholeNumber>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    whole(deserializer).map(Some)
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer).map_err(|_| D::Error::custom(SIZE_FORM))? {
        Written::Number(number) => Ok(number.to_string()),
        Written::Text(text) => Ok(text),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits).expect("digits are ASCII")
}

const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const SIZE_FORM: &str = "a size is a whole number and a unit: \"64MiB\", \"512KiB\" or \"1GiB\"";
const WHOLE_FORM: &str = "a whole number that is not negative is expected, such as 100";
const SPAN_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const ADDRESS_FORM: &str = "an IP address and a port are expected, such as \"127.0.0.1:8080\", \"[::1]:8080\", or \
                            \"0.0.0.0:8080\" for every address; no name";
const SPAN_FORM: &str =
    "a duration is a whole number and a unit: \"90s\", \"5m\", \"1h\" or \"250ms\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Both {
        #[serde(with = "duration")]
        span: Duration,
        size: Size,
    }

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them_and_printed_the_same() {
        for (text, span, size) in [
            (
                "span = \"90s\"\nsize = \"64MiB\"\n",
                Duration::from_secs(90),
                64 << 20,
            ),
            (
                "span = \"5m\"\nsize = \"1GiB\"\n",
                Duration::from_mins(5),
                1 << 30,
            ),
            (
                "span = \"250ms\"\nsize = \"3B\"\n",
                Duration::from_millis(250),
                3,
            ),
            ("span = \"0s\"\nsize = \"0B\"\n", Duration::ZERO, 0),
        ] {
            let both: Both = toml::from_str(text).unwrap();
            assert_eq!(
                both,
                Both {
                    span,
                    size: Size(size)
                }
            );
            assert_eq!(toml::to_string(&both).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_duration_or_size_says_how_to_write_one() {
        for text in ["90", "1.5s", "-1s", "5 m", "5min", "", "s"] {
            let error =
                toml::from_str::<Both>(&format!("span = \"{text}\"\nsize = 1")).unwrap_err();
            assert!(
                error.to_string().contains("a duration is"),
                "{text}: {error}"
            );
        }
        for text in ["64MB", "x", "99999999999GiB"] {
            let error =
                toml::from_str::<Both>(&format!("span = \"1s\"\nsize = \"{text}\"")).unwrap_err();
            assert!(error.to_string().contains("a size is"), "{text}: {error}");
        }
    }
}
