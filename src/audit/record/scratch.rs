//! The buffer of a thread, and the head of a record: the time goes in as the number of its microseconds.

use std::cell::RefCell;
use std::ops::Range;

use crate::atlas::Timestamp;

use super::digits::eight_digits;
use super::{Body, LONGEST_LINE, Lines, TIME_LENGTH};

/// The buffer of a thread, and the head of the record that it wrote last: the calendar is worked out once
/// a second, not once a record.
struct Scratch {
    line: Lines,
    second: u64,
    head: [u8; TIME_LENGTH],
}

/// Hands a body that begins with `time` to `write`, and its bytes to `read`. The buffer is allocated
/// once in a thread.
pub(super) fn with_body<T>(
    time: Timestamp,
    write: impl FnOnce(&mut Body<'_>),
    read: impl FnOnce(&[u8]) -> T,
) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.tell(time);
        scratch.line.clear();
        scratch.line.append(LONGEST_LINE, |body| {
            body.put(&scratch.head);
            write(body);
        });
        read(scratch.line.as_bytes())
    })
}

impl Scratch {
    /// Makes `head` that of a record of `time`.
    fn tell(&mut self, time: Timestamp) {
        // RFC 3339 has four digits for a year; a clock beyond them is set wrong, and a record that
        // says so at the edge is better than one that cannot be read.
        let micros = time.micros().clamp(0, LAST_INSTANT).unsigned_abs();
        let (second, fraction) = (micros / 1_000_000, micros % 1_000_000);
        if second != self.second {
            self.begin(second);
        }
        let [_, _, fraction @ ..] = eight_digits(u32::try_from(fraction).unwrap_or_default());
        if let Some(place) = self.head.get_mut(FRACTION) {
            place.copy_from_slice(&fraction);
        }
    }

    #[cold]
    fn begin(&mut self, second: u64) {
        let text = Timestamp::from_seconds(second.cast_signed()).to_string();
        if let Some(calendar) = text.as_bytes().get(..CALENDAR.len())
            && let Some(place) = self.head.get_mut(CALENDAR)
        {
            place.copy_from_slice(calendar);
            self.second = second;
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            line: Lines::new(),
            second: 0,
            head: *b"{\"time\":\"1970-01-01T00:00:00.000000Z\",",
        })
    };
}

/// Where a head has the day and the second, and where the microseconds.
const CALENDAR: Range<usize> = 9..28;
const FRACTION: Range<usize> = 29..35;
/// 9999-12-31T23:59:59.999999Z.
const LAST_INSTANT: i64 = 253_402_300_799_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(time: Timestamp) -> Vec<u8> {
        with_body(time, |_| (), <[u8]>::to_vec)
    }

    #[test]
    fn a_time_is_printed_as_timestamps_print_themselves() {
        for micros in [
            0,
            1,
            1_786_327_595_000_001,
            1_786_327_595_999_999,
            LAST_INSTANT,
        ] {
            let time = Timestamp::from_micros(micros);
            let body = body(time);
            assert_eq!(
                String::from_utf8(body).unwrap(),
                format!("{{\"time\":\"{time}\",")
            );
        }
        for (micros, year) in [(i64::MIN, "1970"), (i64::MAX, "9999")] {
            let time = Timestamp::from_micros(micros);
            let body = body(time);
            assert_eq!(str::from_utf8(&body[9..13]).unwrap(), year);
            assert_eq!(body.len(), TIME_LENGTH);
        }
    }
}
