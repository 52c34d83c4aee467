//! Random bytes.

use std::fs::File;
use std::io;
use std::io::Read;

/// From the kernel: the cryptographic library's own randomness is gathered for 40 ms and more when a process first asks
/// for it, and the first caller would wait for that.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
