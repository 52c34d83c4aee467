//! Bytes as people and names have them.

/// The first of the bytes, as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], most: usize) -> String {
    let digit = |number: u8| char::from_digit(number.into(), 16).expect("half a byte is a digit");
    let bytes = bytes.iter().take(most);
    bytes
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
