//! An instant, as Atlas writes it (RFC 3339).

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point on the wall clock, in microseconds since 1970-01-01T00:00:00Z.
///
/// Printed as RFC 3339 in UTC with six decimal places: `2026-08-10T02:06:35.000000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The end of time: later than every instant that Atlas can name.
    pub const MAX: Self = Self(i64::MAX);

    /// Microseconds since 1970; negative before it.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Whole seconds since 1970; saturates at the ends of time.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Reads RFC 3339 text, with any offset and any number of decimals; `None` if it is not that.
    ///
    /// A day that does not exist (`2026-02-30`) is refused rather than guessed.
    pub fn parse(text: &str) -> Option<Self> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000))
            .ok()
            .map(Self)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded towards the past.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// RFC 3339 in whole seconds, as Atlas's own instants are: `2026-11-30T06:30:00Z`.
    pub(crate) fn in_seconds(self) -> String {
        let mut text = Self::from_seconds(self.seconds()).to_string();
        if let Some(dot) = text.find('.') {
            text.replace_range(dot.., "Z");
        }
        text
    }

    /// The instant `span` later; saturates.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The instant `span` earlier; saturates.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0))
            .map_or(Duration::ZERO, Duration::from_micros)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(instant: SystemTime) -> Self {
        match instant.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::default().plus(after),
            Err(before) => Self::default().minus(before.duration()),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(instant: Timestamp) -> Self {
        let span = Duration::from_micros(instant.0.unsigned_abs());
        if instant.0 >= 0 {
            Self::UNIX_EPOCH + span
        } else {
            Self::UNIX_EPOCH - span
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        // Outside the years 0 to 9999 RFC 3339 has no words; such an instant can only be a bug or a
        // hostile clock, and the bare number says more than a failed write.
        let Ok(instant) = OffsetDateTime::from_unix_timestamp(seconds) else {
            return write!(f, "{}us", self.0);
        };
        let (year, month, day) = instant.to_calendar_date();
        let (hour, minute, second) = instant.to_hms();
        write!(
            f,
            "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z",
            u8::from(month)
        )
    }
}

const MICROS_PER_SECOND: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_that_atlas_and_x509_use_are_read_and_others_are_refused() {
        for (text, printed) in [
            ("2026-08-10T02:06:35Z", Some("2026-08-10T02:06:35.000000Z")),
            (
                "2026-08-10T16:06:35+14:00",
                Some("2026-08-10T02:06:35.000000Z"),
            ),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59.000000Z")),
            (
                "1969-12-31T23:59:59.5Z",
                Some("1969-12-31T23:59:59.500000Z"),
            ),
            ("2026-02-30T00:00:00Z", None),
            ("2026-08-10T02:06:35", None),
            ("1786327595", None),
            ("", None),
        ] {
            let read = Timestamp::parse(text).map(|instant| instant.to_string());
            assert_eq!(read.as_deref(), printed, "{text}");
        }
    }

    #[test]
    fn an_instant_survives_the_way_through_the_system_clock() {
        for micros in [0, 1, -1, 1_786_327_595_000_001] {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(SystemTime::from(instant)), instant);
        }
    }
}
