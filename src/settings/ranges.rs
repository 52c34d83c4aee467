//! The bounds of numbers, durations and sizes. What would otherwise only the kernel refuse, or an overflow, is
//! refused here.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{ConfigError, Size, duration};

#[derive(Debug)]
pub(crate) struct Ranges<'m> {
    section: &'m str,
    config_errors: &'m mut Vec<ConfigError>,
}

pub(crate) trait Ranged: PartialOrd + Copy {
    fn written(self) -> String;
}

impl<'m> Ranges<'m> {
    /// Of the section `section`, such as `server.limits`; what is wrong goes to `config_errors`.
    pub(crate) fn of(section: &'m str, config_errors: &'m mut Vec<ConfigError>) -> Self {
        Self {
            section,
            config_errors,
        }
    }

    pub(crate) fn check<T: Ranged>(
        &mut self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
        example: T,
    ) {
        if !allowed.contains(&value) {
            self.refuse(key, allowed, example, "");
        }
    }

    /// The same, where nothing at all switches a thing off.
    pub(crate) fn check_or_off<T: Ranged + Default>(
        &mut self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
        example: T,
    ) {
        if value != T::default() && !allowed.contains(&value) {
            let off = format!("{}, or ", T::default().written());
            self.refuse(key, allowed, example, &off);
        }
    }

    pub(crate) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let place = format!("{}.{key}", self.section);
        self.config_errors.push(ConfigError::at(place, message));
    }

    fn refuse<T: Ranged>(&mut self, key: &str, allowed: RangeInclusive<T>, example: T, off: &str) {
        let (least, most) = (allowed.start().written(), allowed.end().written());
        let example = example.written();
        self.wrong(
            key,
            format!("must be {off}from {least} to {most}, such as {example}"),
        );
    }
}

/// A warning of a limit that another one keeps from ever being reached; none where its value is the usual one.
pub(crate) fn never_reached<T: Ranged>(
    (place, value): (&str, T),
    usual: T,
    (other, bound): (&str, T),
) -> Option<ConfigError> {
    (value > bound && value != usual).then(|| {
        ConfigError::at(
            place,
            format!(
                "is never reached: `{other}` is smaller; write at most {}",
                bound.written()
            ),
        )
    })
}

impl Ranged for Duration {
    fn written(self) -> String {
        format!("{:?}", duration::print(self))
    }
}

impl Ranged for Size {
    fn written(self) -> String {
        format!("{:?}", self.to_string())
    }
}

pub(crate) trait WholeNumber: Ranged {
    const MOST: Self;
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl WholeNumber for $number {
            const MOST: Self = Self::MAX;
        }

        impl Ranged for $number {
            fn written(self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers!(u8, u32, u64, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_says_what_is_allowed_and_what_to_write() {
        let mut config_errors = Vec::new();
        let mut ranges = Ranges::of("part", &mut config_errors);
        let minute = Duration::from_mins(1);
        ranges.check("good", minute, Duration::from_secs(1)..=minute, minute);
        ranges.check("span", minute * 2, Duration::from_secs(1)..=minute, minute);
        ranges.check("count", 0_u32, 1..=10, 5);
        ranges.check_or_off("off", Size(0), Size(2)..=Size::mebibytes(1), Size(2));
        ranges.check_or_off("size", Size(1), Size(2)..=Size::mebibytes(1), Size(2));
        let texts: Vec<String> = config_errors.iter().map(ConfigError::to_string).collect();
        assert_eq!(
            texts,
            [
                "part.span: must be from \"1s\" to \"1m\", such as \"1m\"",
                "part.count: must be from 1 to 10, such as 5",
                "part.size: must be \"0B\", or from \"2B\" to \"1MiB\", such as \"2B\"",
            ]
        );
    }

    #[test]
    fn a_limit_is_warned_of_where_another_is_smaller_and_somebody_wrote_it() {
        let warned = |value| never_reached(("a.inner", value), 10_u32, ("a.outer", 5)).is_some();
        assert_eq!([4, 5, 6, 10].map(warned), [false, false, true, false]);
    }
}
