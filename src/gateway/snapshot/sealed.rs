//! A sealed file: a salt, and frames of AES-256-GCM under a key that is made of it.
//!
//! The number of a frame is its nonce, which no other frame of that key has, and is authenticated with it; so is
//! whether it is the last one. A changed byte, two frames exchanged, one left out or from another file, and an end
//! that is not the end all fail to open.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::system::random_bytes;

/// Seals what is written to it, frame by frame; [`SealedWriter::finish`] writes the last one.
pub(super) struct SealedWriter<W> {
    file: W,
    key: LessSafeKey,
    number: u64,
    frame: Vec<u8>,
}

/// Reads what a [`SealedWriter`] has written. It ends where that was finished, and fails anywhere else.
pub(super) struct SealedReader<R> {
    file: R,
    key: LessSafeKey,
    number: u64,
    frame: Vec<u8>,
    read: usize,
    is_last: bool,
}

pub(super) type SealingSalt = [u8; 32];

impl<W: Write> SealedWriter<W> {
    /// Begins a file, under the key that `key` makes of its salt.
    pub(super) fn begin(
        mut file: W,
        key: impl FnOnce(&SealingSalt) -> LessSafeKey,
    ) -> io::Result<Self> {
        let salt: SealingSalt = random_bytes()?;
        file.write_all(MAGIC)?;
        file.write_all(&salt)?;
        Ok(Self {
            file,
            key: key(&salt),
            number: 0,
            frame: Vec::with_capacity(FRAME + AES_256_GCM.tag_len()),
        })
    }

    /// Seals the rest. Gives back the file, which is not yet on the disk.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.file)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let (nonce, about) = about(self.number, is_last);
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, about, &mut self.frame);
        sealed.expect("a frame is not too long to seal");
        let length = u32::try_from(self.frame.len()).expect("a frame is 64 KiB and a tag");
        let length = if is_last { length | LAST } else { length };
        self.file.write_all(&length.to_be_bytes())?;
        self.file.write_all(&self.frame)?;
        self.frame.clear();
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.len() == FRAME {
            self.seal(false)?;
        }
        let (fitting, _) = bytes.split_at(bytes.len().min(FRAME - self.frame.len()));
        self.frame.extend_from_slice(fitting);
        Ok(fitting.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> SealedReader<R> {
    /// Opens a file and its first frame.
    pub(super) fn begin(
        mut file: R,
        key: impl FnOnce(&SealingSalt) -> LessSafeKey,
    ) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged());
        }
        let mut salt = SealingSalt::default();
        file.read_exact(&mut salt)?;
        let mut reader = Self {
            key: key(&salt),
            file,
            number: 0,
            frame: Vec::new(),
            read: 0,
            is_last: false,
        };
        reader.open()?;
        Ok(reader)
    }

    fn open(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        self.is_last = length & LAST != 0;
        let length = usize::try_from(length & !LAST).map_err(|_| damaged())?;
        if length > FRAME + AES_256_GCM.tag_len() {
            return Err(damaged());
        }
        self.frame.resize(length, 0);
        self.file.read_exact(&mut self.frame)?;
        let (nonce, about) = about(self.number, self.is_last);
        let opened = self.key.open_in_place(nonce, about, &mut self.frame);
        let length = opened.map_err(|_| damaged())?.len();
        self.frame.truncate(length);
        self.read = 0;
        self.number += 1;
        Ok(())
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.frame.len() {
            if self.is_last {
                // Nothing may stand behind the end.
                return match self.file.read(&mut [0])? {
                    0 => Ok(0),
                    _ => Err(damaged()),
                };
            }
            self.open()?;
        }
        let left = self.frame.get(self.read..).unwrap_or_default();
        let read = { left }.read(into)?;
        self.read += read;
        Ok(read)
    }
}

fn about(number: u64, is_last: bool) -> (Nonce, Aad<[u8; 9]>) {
    let number = number.to_be_bytes();
    let mut nonce = [0; NONCE_LEN];
    let (_, tail) = nonce.split_at_mut(NONCE_LEN - number.len());
    tail.copy_from_slice(&number);
    let mut about = [u8::from(is_last); 9];
    let (head, _) = about.split_at_mut(number.len());
    head.copy_from_slice(&number);
    (Nonce::assume_unique_for_key(nonce), Aad::from(about))
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it is not as it was written, or another secret has sealed it",
    )
}

/// Names the format; another one is another version.
const MAGIC: &[u8; 8] = b"ACGLIST1";
const FRAME: usize = 64 << 10;
/// Of the length of the last frame.
const LAST: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::UnboundKey;

    use super::*;

    fn key(secret: u8) -> impl FnOnce(&SealingSalt) -> LessSafeKey {
        move |salt| {
            let mut key = *salt;
            key[0] ^= secret;
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap())
        }
    }

    fn sealed(text: &[u8]) -> Vec<u8> {
        let mut writer = SealedWriter::begin(Vec::new(), key(1)).unwrap();
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn opened(file: &[u8], secret: u8) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        SealedReader::begin(file, key(secret))?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_was_written_is_read_whatever_its_length() {
        for length in [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME] {
            let text: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let file = sealed(&text);
            assert_eq!(opened(&file, 1).unwrap(), text, "{length}");
            assert!(opened(&file, 2).is_err(), "{length}");
            let clear = file
                .windows(16)
                .any(|part| text.windows(16).next() == Some(part));
            assert!(!clear, "{length}");
            assert_ne!(sealed(&text), file, "the salt is another each time");
        }
    }

    #[test]
    fn no_changed_bit_and_no_other_end_goes_unnoticed() {
        let file = sealed(b"a list of certificates");
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(opened(&changed, 1).is_err(), "byte {at}, bit {bit}");
            }
            assert!(opened(&file[..at], 1).is_err(), "cut at {at}");
        }
        assert!(opened(&[&*file, b"x"].concat(), 1).is_err());
    }

    #[test]
    fn frames_cannot_be_exchanged_left_out_or_taken_from_another_file() {
        let text = vec![7; 4 * FRAME];
        let (file, other) = (sealed(&text), sealed(&text));
        let head = MAGIC.len() + size_of::<SealingSalt>();
        let whole = 4 + FRAME + AES_256_GCM.tag_len();
        let frame = |file: &[u8], at: usize| file[head + at * whole..][..whole].to_vec();
        let of = |frames: &[Vec<u8>]| [&file[..head], &frames.concat()].concat();
        let frames: Vec<Vec<u8>> = (0..4).map(|at| frame(&file, at)).collect();
        assert_eq!(opened(&of(&frames), 1).unwrap(), text);
        for (order, why) in [
            (vec![0, 2, 1, 3], "exchanged"),
            (vec![0, 1, 3], "left out"),
            (vec![0, 0, 1, 2, 3], "twice"),
            (vec![0, 1, 2], "cut behind a whole frame"),
        ] {
            let order: Vec<Vec<u8>> = order.iter().map(|at| frames[*at].clone()).collect();
            assert!(opened(&of(&order), 1).is_err(), "{why}");
        }
        let mut mixed = frames.clone();
        mixed[1] = frame(&other, 1);
        assert!(opened(&of(&mixed), 1).is_err());
    }
}
