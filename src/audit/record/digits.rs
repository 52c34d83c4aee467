//! Numbers and bytes go in, their digits come out.

use uuid::Uuid;

/// The lower-case hexadecimal digits of four bytes, worked out all at once.
#[inline]
pub(in crate::audit) fn hex_digits(bytes: [u8; 4]) -> [u8; 8] {
    // Each half of a byte gets a byte of its own, in their order.
    let halves = u64::from(u32::from_be_bytes(bytes));
    let halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    let halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let halves = (halves | halves << 4) & (EACH * 15);
    // 1 in each byte that is above nine, which stands for a letter.
    let letters = halves.wrapping_add(EACH * 6) >> 4 & EACH;
    let to_letters = u64::from(b'a' - b'9' - 1);
    halves
        .wrapping_add(EACH * u64::from(b'0'))
        .wrapping_add(letters.wrapping_mul(to_letters))
        .to_be_bytes()
}

/// Writes the digits of `bytes`, whole fours of them, into `text`, as far as there is room.
#[inline]
pub(in crate::audit) fn write_hex(text: &mut [u8], bytes: &[u8]) {
    for (digits, bytes) in text.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        *digits = hex_digits(*bytes);
    }
}

/// An id's text (RFC 9562, section 4). The `uuid` crate writes it a digit at a time, which is four times
/// as many instructions.
#[inline]
pub(in crate::audit) fn hyphenated(id: Uuid) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let (fours, _) = id.as_bytes().as_chunks();
    if let [first, second, third, last] = fours {
        place(&mut text, 0, hex_digits(*first));
        for (middle, places) in [(second, [9, 14]), (third, [19, 24])] {
            let digits = hex_digits(*middle);
            for (group, at) in digits.as_chunks::<4>().0.iter().zip(places) {
                place(&mut text, at, *group);
            }
        }
        place(&mut text, 28, hex_digits(*last));
    }
    text
}

#[inline]
fn place<const N: usize>(text: &mut [u8; 36], at: usize, part: [u8; N]) {
    let rest = text.get_mut(at..);
    if let Some(place) = rest.and_then(<[u8]>::first_chunk_mut) {
        *place = part;
    }
}

/// A number's decimal digits, of which a small number has few.
#[inline]
pub(super) fn decimal(value: u8) -> ([u8; 3], usize) {
    let known = DECIMALS.get(usize::from(value));
    let [first, second, third, length] = known.copied().unwrap_or_default();
    ([first, second, third], usize::from(length))
}

/// Of each number its digits, and how many they are.
const DECIMALS: [[u8; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut value = 0_u8;
    loop {
        let [hundreds, tens, ones] = [
            b'0' + value / 100,
            b'0' + value / 10 % 10,
            b'0' + value % 10,
        ];
        let decimal = match value {
            0..=9 => [ones, 0, 0, 1],
            10..=99 => [tens, ones, 0, 2],
            100.. => [hundreds, tens, ones, 3],
        };
        #[expect(
            clippy::as_conversions,
            clippy::indexing_slicing,
            reason = "in a constant; the compiler would stop"
        )]
        {
            table[value as usize] = decimal;
        }
        if value == u8::MAX {
            break;
        }
        value += 1;
    }
    table
};

/// 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

#[cfg(test)]
mod tests {
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
            let (before, after) = (byte.wrapping_sub(1), byte.wrapping_mul(7));
            let hex = hex_digits([before, byte, 0, after]);
            assert_eq!(
                str::from_utf8(&hex).unwrap(),
                format!("{before:02x}{byte:02x}00{after:02x}")
            );
            let (digits, length) = decimal(byte);
            let digits = str::from_utf8(&digits[..length]).unwrap();
            assert_eq!(digits, byte.to_string());
        }
        let mut text = [b'.'; 20];
        write_hex(&mut text, &[0x0a, 0xff, 0x12, 0x00, 1, 2, 3, 4, 5]);
        assert_eq!(&text, b"0aff120001020304....");
    }
}
