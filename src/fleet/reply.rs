//! Parts of replies. A function of ours answers with texts, whole numbers and lists of them.

use redis::Value;

/// A text.
pub(super) fn text(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(text) = value {
        return Some(text);
    }
    let Value::SimpleString(text) = value else {
        return None;
    };
    Some(text.into_bytes())
}

/// A text in UTF-8.
pub(super) fn word(value: Value) -> Option<String> {
    String::from_utf8(text(value)?).ok()
}

/// A number that is not negative; plain commands answer it as a text.
pub(super) fn number(value: Value) -> Option<u64> {
    if let Value::Int(number) = value {
        return number.try_into().ok();
    }
    word(value)?.parse().ok()
}

/// So many parts.
pub(super) fn parts<const N: usize>(value: Value) -> Option<[Value; N]> {
    let Value::Array(parts) = value else {
        return None;
    };
    parts.try_into().ok()
}
