//! Compressed lists that are put between a head and a tail without being compressed again.
//!
//! What differs from address to address and from form to form is the few hundred bytes around a list. So
//! a list is compressed once per encoding, as blocks that refer to nothing before them and end at a byte,
//! and each answer is one stream of that encoding: its head as it is, the kept blocks, its tail as it is.
//! It is always one gzip member and one zstd frame, because many clients stop after the first.

use bytes::{BufMut, Bytes};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use zstd::zstd_safe::CParameter;

use super::encoding::{Encoding, Text};

/// A list, compressed, without beginning and end.
#[derive(Debug)]
pub(super) struct Packed {
    blocks: Bytes,
    around: Around,
}

/// What the stream around the blocks has to say of them.
#[derive(Debug)]
enum Around {
    Brotli,
    /// Of the list as it is.
    Gzip(Crc),
    /// How far back a decoder has to remember, as the frame's header says it.
    Zstd {
        window: u8,
    },
}

impl Packed {
    /// Compresses `list`; `None` if that is no smaller.
    pub(super) fn pack(encoding: Encoding, list: &[u8]) -> Option<Self> {
        let (blocks, around) = match encoding {
            Encoding::Brotli => (brotli(list)?, Around::Brotli),
            Encoding::Gzip => {
                let mut crc = Crc::new();
                crc.update(list);
                (deflate(list)?, Around::Gzip(crc))
            }
            Encoding::Zstd => {
                let Frame { window, blocks } = Frame::of(list)?;
                (blocks, Around::Zstd { window })
            }
        };
        (blocks.len() < list.len()).then(|| Self {
            blocks: Bytes::from(blocks),
            around,
        })
    }

    /// The compressed form of the list between `head` and `tail`.
    pub(super) fn splice(&self, head: &[u8], tail: &[u8]) -> Text {
        let mut first = Vec::with_capacity(head.len() + OVERHEAD);
        let mut last = Vec::with_capacity(tail.len() + OVERHEAD);
        match &self.around {
            Around::Brotli => {
                // The window's size takes four bits and the first block's header twenty.
                brotli_as_it_is(&mut first, head, Some(BROTLI_WINDOW));
                brotli_as_it_is(&mut last, tail, None);
                // ISLAST and ISLASTEMPTY.
                last.push(0b11);
            }
            Around::Gzip(of_list) => {
                first.extend_from_slice(&GZIP_HEADER);
                deflate_as_it_is(&mut first, head, false);
                deflate_as_it_is(&mut last, tail, true);
                let (mut crc, mut of_tail) = (Crc::new(), Crc::new());
                crc.update(head);
                of_tail.update(tail);
                crc.combine(of_list);
                crc.combine(&of_tail);
                last.put_u32_le(crc.sum());
                last.put_u32_le(crc.amount());
            }
            Around::Zstd { window } => {
                first.extend_from_slice(&ZSTD_MAGIC);
                // Neither the content's size nor a checksum nor a dictionary.
                first.extend_from_slice(&[0, *window]);
                zstd_as_it_is(&mut first, head, false);
                zstd_as_it_is(&mut last, tail, true);
            }
        }
        Text::spliced(first, self.blocks.clone(), last)
    }
}

/// Meta-blocks that refer to nothing before them, whole bytes, and no last one (RFC 7932, section 9).
fn brotli(list: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write;
    let params = brotli::enc::BrotliEncoderParams {
        quality: 4,
        lgwin: i32::from(BROTLI_WINDOW),
        catable: true,
        appendable: true,
        use_dictionary: false,
        byte_align: true,
        bare_stream: true,
        ..Default::default()
    };
    let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), BROTLI_BUFFER, &params);
    encoder.write_all(list).ok()?;
    Some(encoder.into_inner())
}

/// Blocks that end with an empty stored one, and so with a byte (RFC 1951, section 3.2.4).
fn deflate(list: &[u8]) -> Option<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(6), false);
    let mut out = Vec::with_capacity(list.len() / 3 + OVERHEAD);
    loop {
        let read = usize::try_from(compress.total_in()).ok()?;
        let status = compress.compress_vec(list.get(read..)?, &mut out, FlushCompress::Sync);
        match status.ok()? {
            Status::Ok | Status::BufError | Status::StreamEnd => {}
        }
        // As long as it fills what it is given there may be more to come.
        if out.len() < out.capacity() {
            return Some(out);
        }
        out.reserve(out.len() / 2 + OVERHEAD);
    }
}

/// A frame of zstd (RFC 8878, section 3.1.1).
struct Frame {
    /// As its header says it.
    window: u8,
    /// None of them is marked as the last.
    blocks: Vec<u8>,
}

impl Frame {
    fn of(list: &[u8]) -> Option<Self> {
        let mut compressor = zstd::bulk::Compressor::new(1).ok()?;
        compressor
            .set_parameter(CParameter::ContentSizeFlag(false))
            .ok()?;
        let mut frame = compressor.compress(list).ok()?;
        let window = match *frame.first_chunk()? {
            [m0, m1, m2, m3, 0, window] if [m0, m1, m2, m3] == ZSTD_MAGIC => window,
            _ => return None,
        };
        let mut blocks = frame.split_off(ZSTD_MAGIC.len() + 2);
        let mut at = 0;
        while at < blocks.len() {
            let header = blocks.get_mut(at..)?.first_chunk_mut::<3>()?;
            let is_last = header[0] & 1 == 1;
            header[0] &= !1;
            let [b0, b1, b2] = *header;
            let number = u32::from_le_bytes([b0, b1, b2, 0]);
            let size = usize::try_from(number >> 3).ok()?;
            // One byte that is repeated takes one.
            let is_repeated = (number >> 1) & 3 == 1;
            at += header.len() + if is_repeated { 1 } else { size };
            if is_last != (at >= blocks.len()) {
                return None;
            }
        }
        Some(Self { window, blocks })
    }
}

/// `bytes` as blocks that are not compressed, in whole bytes; with the window's size the first begins the
/// stream.
fn brotli_as_it_is(out: &mut Vec<u8>, bytes: &[u8], window: Option<u8>) {
    let mut window = window;
    for block in bytes.chunks(LONGEST_BROTLI_BLOCK) {
        let length = u32::try_from(block.len() - 1).expect("a block has at most 65,536 bytes");
        // ISLAST 0, MNIBBLES 0 for four, MLEN - 1, ISUNCOMPRESSED 1.
        let header = length << 3 | 1 << 19;
        let header = window.take().map_or(header, |window| {
            header << 4 | u32::from(window_bits(window))
        });
        let [b0, b1, b2, _] = header.to_le_bytes();
        out.extend_from_slice(&[b0, b1, b2]);
        out.extend_from_slice(block);
    }
    if let Some(window) = window {
        // No block at all: an empty one of metadata fills the byte (RFC 7932, section 9.2). ISLAST 0,
        // MNIBBLES 3 for none, reserved 0, MSKIPBYTES 0.
        out.put_u16_le(u16::from(window_bits(window)) | 0b0110 << 4);
    }
}

/// The four bits that say the window's size, of those that are usual.
const fn window_bits(window: u8) -> u8 {
    1 | (window - 17) << 1
}

fn deflate_as_it_is(out: &mut Vec<u8>, bytes: &[u8], is_end: bool) {
    let mut blocks = bytes.chunks(LONGEST_STORED_BLOCK).peekable();
    if blocks.peek().is_none() && is_end {
        deflate_block(out, &[], true);
    }
    while let Some(block) = blocks.next() {
        deflate_block(out, block, is_end && blocks.peek().is_none());
    }
}

fn deflate_block(out: &mut Vec<u8>, block: &[u8], is_last: bool) {
    let length = u16::try_from(block.len()).expect("a stored block has at most 65,535 bytes");
    // BFINAL and BTYPE 00, then to the end of the byte.
    out.push(u8::from(is_last));
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.extend_from_slice(block);
}

fn zstd_as_it_is(out: &mut Vec<u8>, bytes: &[u8], is_end: bool) {
    let mut blocks = bytes.chunks(LONGEST_RAW_BLOCK).peekable();
    if blocks.peek().is_none() && is_end {
        zstd_block(out, &[], true);
    }
    while let Some(block) = blocks.next() {
        zstd_block(out, block, is_end && blocks.peek().is_none());
    }
}

fn zstd_block(out: &mut Vec<u8>, block: &[u8], is_last: bool) {
    let size = u32::try_from(block.len()).expect("a raw block has at most 1,024 bytes");
    let [b0, b1, b2, _] = (size << 3 | u32::from(is_last)).to_le_bytes();
    out.extend_from_slice(&[b0, b1, b2]);
    out.extend_from_slice(block);
}

/// A window of 4 MiB, the largest list's size.
const BROTLI_WINDOW: u8 = 22;
const BROTLI_BUFFER: usize = 4_096;
const LONGEST_BROTLI_BLOCK: usize = 1 << 16;
const LONGEST_STORED_BLOCK: usize = 65_535;
/// No block may be longer than the window, and the smallest window has a kilobyte.
const LONGEST_RAW_BLOCK: usize = 1_024;
/// RFC 1952: deflate, no flags, no time, no hint, from Unix.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// By decoders that stop after one member, and take nothing behind the end.
    fn unpacked(encoding: Encoding, stream: &[u8]) -> Vec<u8> {
        let (mut rest, mut out) = (stream, Vec::new());
        match encoding {
            Encoding::Brotli => {
                let mut decoder = brotli::Decompressor::new(&mut rest, 1);
                decoder.read_to_end(&mut out).unwrap();
            }
            Encoding::Gzip => {
                let mut decoder = flate2::bufread::GzDecoder::new(&mut rest);
                decoder.read_to_end(&mut out).unwrap();
            }
            Encoding::Zstd => {
                let decoder = zstd::Decoder::with_buffer(&mut rest).unwrap();
                decoder.single_frame().read_to_end(&mut out).unwrap();
            }
        }
        assert!(rest.is_empty(), "{encoding:?}: {} bytes left", rest.len());
        out
    }

    fn check(head: &[u8], list: &[u8], tail: &[u8]) {
        let plain = [head, list, tail].concat();
        for encoding in [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd] {
            if let Some(packed) = Packed::pack(encoding, list) {
                let spliced = packed.splice(head, tail).to_vec();
                assert_eq!(unpacked(encoding, &spliced), plain, "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_list_between_a_head_and_a_tail_is_one_stream_that_reads_as_all_three() {
        let list: Vec<u8> = (0..20_000)
            .flat_map(|id| format!("{{\"_id\":{id}}},").into_bytes())
            .collect();
        for size in [1_000, 9_000, 70_000, 200_000] {
            for head in [0, 1, 300, 1_024, 5_000, 66_000] {
                let (head, list) = (&list[..head], &list[..size]);
                check(head, list, b"],\"totalCount\":2000}");
                check(head, list, b"");
            }
        }
        for encoding in [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd] {
            let packed = Packed::pack(encoding, &list).unwrap();
            assert!(packed.blocks.len() < list.len() / 4, "{encoding:?}");
        }
    }

    #[test]
    fn a_list_longer_than_every_window_is_one_stream_too() {
        let list: Vec<u8> = (0..400_000_u32)
            .flat_map(|id| id.wrapping_mul(2_654_435_761).to_string().into_bytes())
            .chain(std::iter::repeat_n(b'x', 1 << 20))
            .collect();
        assert!(list.len() > 4 << 20);
        check(b"{", &list, b"}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_parts_read_as_what_they_were(
            head in prop::collection::vec(any::<u8>(), 0..3_000),
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..2_000),
            tail in prop::collection::vec(any::<u8>(), 0..3_000),
        ) {
            let list: Vec<u8> = order.iter().flat_map(|at| at.get(&words).clone()).collect();
            check(&head, &list, &tail);
        }
    }
}
