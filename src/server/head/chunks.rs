//! A request's body in chunks (RFC 9112, section 7.1): where it ends, or that it is malformed.
//!
//! hyper's own decoder forgives a space behind a size, an extension that is none, and more.

use super::bytes::{is_control, is_in_tokens};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkProgress {
    Bad,
    Partial,
    Whole(usize),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    expects: ChunkPart,
    /// Of the present chunk's size, how many digits; of a name or a value, how many bytes.
    count: usize,
    left: u64,
    besides: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkPart {
    #[default]
    Size,
    ExtensionName,
    ExtensionValue,
    Quoted,
    AfterQuoted,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
}

impl Chunks {
    pub(super) fn advance(&mut self, bytes: &[u8]) -> ChunkProgress {
        let mut rest = bytes;
        loop {
            if self.expects == ChunkPart::Data {
                let here = u64::try_from(rest.len()).expect("64 bits").min(self.left);
                self.left -= here;
                let here = usize::try_from(here).expect("no more than there are");
                (_, rest) = rest.split_at(here);
                if self.left == 0 {
                    self.expects = ChunkPart::DataReturn;
                }
            }
            let Some((byte, behind)) = rest.split_first() else {
                return ChunkProgress::Partial;
            };
            rest = behind;
            let before = self.expects;
            let Some(next) = self.next(*byte) else {
                return ChunkProgress::Bad;
            };
            if before == ChunkPart::LastLineFeed {
                return ChunkProgress::Whole(bytes.len() - rest.len());
            }
            if before != next {
                self.count = 0;
            }
            self.expects = next;
        }
    }

    fn next(&mut self, byte: u8) -> Option<ChunkPart> {
        use ChunkPart as E;
        let is_of_size = matches!(
            self.expects,
            E::Size | E::SizeLineFeed | E::Data | E::DataReturn | E::DataLineFeed
        );
        if !is_of_size {
            self.besides += 1;
            if self.besides > MOST_BESIDES {
                return None;
            }
        }
        let something = self.count > 0;
        self.count += 1;
        match (self.expects, byte) {
            (E::Size, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16)?;
                self.left = self.left * 16 + u64::from(digit);
                (self.count <= MOST_DIGITS).then_some(E::Size)
            }
            (E::Size | E::ExtensionName | E::ExtensionValue, b'\r') if something => {
                Some(E::SizeLineFeed)
            }
            (E::AfterQuoted, b'\r') => Some(E::SizeLineFeed),
            (E::Size, b';') if something => Some(E::ExtensionName),
            (E::ExtensionName | E::ExtensionValue, b';') if something => {
                self.count = 0;
                Some(E::ExtensionName)
            }
            (E::AfterQuoted, b';') => Some(E::ExtensionName),
            (E::ExtensionName, b'=') if something => Some(E::ExtensionValue),
            (E::ExtensionValue, b'"') if !something => Some(E::Quoted),
            (E::ExtensionName | E::ExtensionValue | E::TrailerName, byte) if is_in_tokens(byte) => {
                Some(self.expects)
            }
            (E::Quoted, b'"') => Some(E::AfterQuoted),
            // No client escapes anything in there, so no escape is read.
            (E::Quoted, byte) if byte != b'\\' && !is_control(byte) => Some(E::Quoted),
            (E::SizeLineFeed, b'\n') if self.left == 0 => Some(E::TrailerName),
            (E::SizeLineFeed, b'\n') => Some(E::Data),
            (E::DataReturn, b'\r') => Some(E::DataLineFeed),
            (E::DataLineFeed, b'\n') => Some(E::Size),
            (E::TrailerName, b'\r') if !something => Some(E::LastLineFeed),
            (E::TrailerName, b':') if something => Some(E::TrailerValue),
            (E::TrailerValue, b'\r') => Some(E::TrailerLineFeed),
            (E::TrailerValue, byte) if !is_control(byte) => Some(E::TrailerValue),
            (E::TrailerLineFeed, b'\n') => Some(E::TrailerName),
            (E::LastLineFeed, b'\n') => Some(E::LastLineFeed),
            (_, _) => None,
        }
    }
}

/// No client sends more, and so many fit into 64 bits.
const MOST_DIGITS: usize = 15;
/// Of extensions and trailers, which are not read.
const MOST_BESIDES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Read at once, and byte by byte.
    fn read(body: &[u8]) -> ChunkProgress {
        let whole = Chunks::default().advance(body);
        let mut chunks = Chunks::default();
        for (at, byte) in body.iter().enumerate() {
            match chunks.advance(&[*byte]) {
                ChunkProgress::Partial => {}
                ChunkProgress::Bad => {
                    assert_eq!(whole, ChunkProgress::Bad, "{:?}", body.escape_ascii());
                    return whole;
                }
                ChunkProgress::Whole(_) => {
                    assert_eq!(
                        whole,
                        ChunkProgress::Whole(at + 1),
                        "{:?}",
                        body.escape_ascii()
                    );
                    return whole;
                }
            }
        }
        assert_eq!(whole, ChunkProgress::Partial, "{:?}", body.escape_ascii());
        whole
    }

    #[test]
    fn a_body_ends_behind_its_last_chunk_and_its_trailers() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            b"A\r\n0\r\n\r\n01234\r\n000\r\n\r\n",
            b"5;a\r\nhello\r\n0;b=c;d=\"e f\";g\r\n\r\n",
            b"0\r\nX-Checksum: abc\r\nY:\r\n\r\n",
        ] {
            assert_eq!(read(body), ChunkProgress::Whole(body.len()));
            let more = [body, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read(&more), ChunkProgress::Whole(body.len()));
            let less = body.get(..body.len() - 1).unwrap();
            assert_eq!(read(less), ChunkProgress::Partial);
        }
    }

    #[test]
    fn what_the_grammar_does_not_have_is_malformed() {
        for size in [
            "",
            "-1",
            "+5",
            "0x5",
            "5 ",
            " 5",
            "5 ;a",
            "5;",
            "5;;a",
            "5;=a",
            "5;a=",
            "5;a[",
            "1_0",
            "5;a=\"",
            "5;a=\"b\"c",
            "5;\0a",
            "0000000000000005",
            "FFFFFFFFFFFFFFFF0",
        ] {
            let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(read(body.as_bytes()), ChunkProgress::Bad, "{size}");
        }
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 << 10));
        for body in [
            &b"5\nhello\n0\n\n"[..],
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello!!\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5;\nhello\r\n0\r\n\r\n",
            b"5;a\rX\r\nhello\r\n0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\nX : a\r\n\r\n",
            b"0\r\n: a\r\n\r\n",
            b"0\r\nX: a\n\r\n",
            b"0\r\n X: a\r\n\r\n",
            long.as_bytes(),
        ] {
            assert_eq!(read(body), ChunkProgress::Bad);
        }
    }
}
