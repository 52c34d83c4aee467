//! The buffer of a thread, and the head of a record: the time goes in as the number of its microseconds.

use std::cell::RefCell;

use crate::atlas::Timestamp;

use super::Body;
use super::LONGEST_LINE;
use super::TIME_LENGTH;

/// The buffer of a thread, and the text of the second that it wrote last: the calendar is worked out
/// once a second, not once a record.
struct Scratch {
    line: Vec<u8>,
    second: i64,
    calendar: [u8; CALENDAR_LENGTH],
}

/// Hands a body that begins with `time` to `write`, and its bytes to `read`. The buffer is allocated
/// once in a thread.
pub(super) fn with_body<T>(
    time: Timestamp,
    write: impl FnOnce(&mut Body<'_>),
    read: impl FnOnce(&[u8]) -> T,
) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let head = scratch.head(time);
        scratch.line.resize(LONGEST_LINE, 0);
        let mut body = Body {
            line: &mut scratch.line,
            length: 0,
        };
        body.put(&head);
        write(&mut body);
        let length = body.length;
        read(scratch.line.get(..length).unwrap_or_default())
    })
}

impl Scratch {
    fn head(&mut self, time: Timestamp) -> [u8; TIME_LENGTH] {
        // RFC 3339 has four digits for a year; a clock beyond them is set wrong, and a record that
        // says so at the edge is better than one that cannot be read.
        let micros = time.micros().clamp(0, LAST_INSTANT);
        let (second, fraction) = (micros / 1_000_000, micros % 1_000_000);
        if second != self.second {
            let text = Timestamp::from_micros(micros).to_string();
            if let Some(calendar) = text.as_bytes().first_chunk() {
                self.calendar = *calendar;
                self.second = second;
            }
        }
        let mut head = *b"{\"time\":\"1970-01-01T00:00:00.000000Z\",";
        let (_, rest) = head.split_at_mut(9);
        let (calendar, rest) = rest.split_at_mut(CALENDAR_LENGTH);
        calendar.copy_from_slice(&self.calendar);
        let pairs = [fraction / 10_000, fraction / 100 % 100, fraction % 100];
        let places = rest.get_mut(1..).unwrap_or_default();
        for (place, pair) in places.as_chunks_mut().0.iter_mut().zip(pairs) {
            let pair = u8::try_from(pair).unwrap_or_default();
            *place = [b'0' + pair / 10, b'0' + pair % 10];
        }
        head
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { line: Vec::new(), second: 0, calendar: *b"1970-01-01T00:00:00" })
    };
}

const CALENDAR_LENGTH: usize = "1970-01-01T00:00:00".len();
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
