//! Classes of bytes in a head, looked at sixteen at a time.

/// Whether there is a control character other than a tab. Only where there is a tab or a byte beyond
/// ASCII, which hardly any head has, is that not known from a first look.
pub(super) fn has_control_character(text: &[u8]) -> bool {
    !all_between(text, b' ', b'~') && text.iter().any(|byte| is_control(*byte))
}

/// Whether no byte lies outside of `first` to `last`.
pub(crate) fn all_between(text: &[u8], first: u8, last: u8) -> bool {
    greatest(text, |byte| byte.wrapping_sub(first)) <= last - first
}

/// The greatest that `judge` makes of a byte; zero of none.
///
/// Sixteen bytes are looked at together, and the last sixteen in any case, some of them once more:
/// without that the compiler looks at what is left over one by one.
pub(super) fn greatest(text: &[u8], judge: impl Fn(u8) -> u8) -> u8 {
    let Some(last) = text.last_chunk::<16>() else {
        return text
            .iter()
            .fold(0, |greatest, byte| judge(*byte).max(greatest));
    };
    let mut greatest = last.map(&judge);
    for block in text.as_chunks::<16>().0 {
        for (greatest, byte) in greatest.iter_mut().zip(block) {
            *greatest = judge(*byte).max(*greatest);
        }
    }
    greatest.into_iter().fold(0, u8::max)
}

pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Whether a byte stands in targets every day. As few ranges and signs, so that many bytes are looked at
/// together for little.
pub(super) fn is_usual(byte: u8) -> bool {
    let between = |first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    between(b'%', b'9') | between(b'?', b'Z') | between(b'a', b'z') | matches!(byte, b'=' | b'_')
}

pub(crate) fn is_in_tokens(byte: u8) -> bool {
    IN_TOKENS
        .get(usize::from(byte))
        .copied()
        .expect("there are 256 bytes")
}

const IN_TOKENS: [bool; 256] = letters_digits_and(b"!#$%&'*+-.^_`|~");

/// Of each byte, whether it is an ASCII letter, a digit or one of `signs`.
#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "for constants; the compiler would stop"
)]
pub(crate) const fn letters_digits_and(signs: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < signs.len() {
        table[signs[at] as usize] = true;
        at += 1;
    }
    table
}
