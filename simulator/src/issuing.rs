//! Making a certificate: how long it is asked to live, and the PEM text that is answered.

use std::time::SystemTime;

use serde_json::Value;
use time::{Date, Month, OffsetDateTime};

use crate::numbers::{BASE64, Numbers};

/// `monthsUntilExpiration` of a request body: 3 if it is absent, at most 24.
pub(crate) fn months(body: &[u8]) -> Option<u8> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let months = match document.as_object()?.get("monthsUntilExpiration") {
        None => 3,
        Some(months) => u8::try_from(months.as_u64()?).ok()?,
    };
    (1..=24).contains(&months).then_some(months)
}

/// The same time of day so many calendar months later, or on the last day of a shorter month.
pub(crate) fn months_later(from: SystemTime, months: u8) -> SystemTime {
    let from = OffsetDateTime::from(from);
    let mut month = from.month();
    let mut year = from.year();
    for _ in 0..months {
        month = month.next();
        year += i32::from(month == Month::January);
    }
    let day = from.day().min(month.length(year));
    let date = Date::from_calendar_date(year, month, day).unwrap_or_else(|_| from.date());
    from.replace_date(date).into()
}

/// A certificate and a private key in PEM. The text has the form, but it is not DER inside.
pub(crate) fn pem(serial: i64) -> String {
    let mut numbers = Numbers::seeded(serial.unsigned_abs());
    let mut text = String::new();
    for (label, lines) in [("CERTIFICATE", 22), ("PRIVATE KEY", 26)] {
        text.extend(["-----BEGIN ", label, "-----\n"]);
        for _ in 0..lines {
            text.push_str(&numbers.text(64, BASE64));
            text.push('\n');
        }
        text.extend(["-----END ", label, "-----\n"]);
    }
    text
}
