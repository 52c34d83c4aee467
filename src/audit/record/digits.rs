//! Numbers and bytes go in, their digits come out.

use uuid::Uuid;

/// The two lower-case hexadecimal digits of each byte.
///
/// Each step is done for all bytes before the next begins, so that the compiler does sixteen at once. Inlined
/// among other code it would do one at a time, which is five times as many instructions.
#[inline(never)]
pub(in crate::audit) fn hex_digits<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let mut text = bytes.map(|byte| [byte >> 4, byte & 15]);
    for digit in text.as_flattened_mut() {
        let to_letter = if *digit > 9 { b'a' - b'9' - 1 } else { 0 };
        *digit = digit.wrapping_add(b'0').wrapping_add(to_letter);
    }
    text
}

/// An id's text (RFC 9562, section 4). The `uuid` crate writes it a digit at a time, which is four times
/// as many instructions.
#[inline]
pub(in crate::audit) fn hyphenated(id: Uuid) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let digits = hex_digits(id.as_bytes());
    let mut digits = digits.as_flattened();
    for (at, length) in [(0, 8), (9, 4), (14, 4), (19, 4), (24, 12)] {
        if let Some(place) = text.get_mut(at..at + length)
            && let Some(group) = digits.split_off(..length)
        {
            place.copy_from_slice(group);
        }
    }
    text
}

/// The decimal digits of a number below 100,000,000, with zeros before them.
///
/// All halves of a step are divided at once, each by a multiplication and a shift that are exact for
/// numbers so small.
#[inline]
pub(super) fn eight_digits(value: u32) -> [u8; 8] {
    let value = u64::from(value);
    let halves = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = (halves.wrapping_mul(10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | (halves.wrapping_sub(hundreds.wrapping_mul(100)) << 16);
    let tens = (quarters.wrapping_mul(103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (quarters.wrapping_sub(tens.wrapping_mul(10)) << 8);
    // The first digit is in the lowest byte.
    (digits | ZEROS).to_le_bytes()
}

/// A number's decimal digits.
pub(super) struct Decimal {
    pub(super) digits: [u8; 8],
    /// How many of them there are.
    pub(super) length: usize,
}

impl Decimal {
    /// The digits of `value`; `None` if they are more than eight.
    #[inline]
    pub(super) fn of(value: u64) -> Option<Self> {
        let value = u32::try_from(value).ok();
        let value = value.filter(|value| *value < 100_000_000)?;
        let digits = u64::from_le_bytes(eight_digits(value));
        // The last digit stays, even if it is a zero.
        let before = ((digits ^ ZEROS) | (1 << 56)).trailing_zeros() / 8;
        Some(Self {
            digits: (digits >> (before * 8)).to_le_bytes(),
            length: 8_usize.saturating_sub(usize::try_from(before).unwrap_or_default()),
        })
    }
}

/// `0` in each byte.
const ZEROS: u64 = 0x3030_3030_3030_3030;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_has_the_text_that_it_prints_itself_as() {
        for id in [
            0,
            u128::MAX,
            0x0198_a3f0_1234_7abc_8def_0123_4567_89ab,
            0xfedc_ba98_7654_3210_0f1e_2d3c_4b5a_6978,
        ] {
            let id = Uuid::from_u128(id);
            let text = hyphenated(id);
            assert_eq!(str::from_utf8(&text).unwrap(), id.to_string());
        }
    }

    #[test]
    fn every_byte_has_its_digits() {
        for byte in 0..=u8::MAX {
            let after = byte.wrapping_mul(7);
            let digits = hex_digits(&[byte, 0, after]);
            assert_eq!(
                str::from_utf8(digits.as_flattened()).unwrap(),
                format!("{byte:02x}00{after:02x}")
            );
        }
    }

    /// Each step's divisions are exact for every number that it can see.
    #[test]
    fn all_numbers_of_four_digits_have_theirs_in_either_half() {
        for number in 0..10_000 {
            let digits = eight_digits(number * 10_000 + (9_999 - number));
            let expected = format!("{number:04}{:04}", 9_999 - number);
            assert_eq!(str::from_utf8(&digits).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_number_has_the_digits_that_it_prints_itself_as(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            match Decimal::of(value) {
                Some(Decimal { digits, length }) => {
                    let digits = str::from_utf8(&digits[..length]).unwrap();
                    prop_assert_eq!(digits, value.to_string());
                }
                None => prop_assert!(value >= 100_000_000),
            }
        }
    }
}
