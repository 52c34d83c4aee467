//! A file of a journal goes in, its bytes as they were written come out, packed or not.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;

use super::directory::Packing;
use super::directory::Segment;
use super::directory::at;
use super::directory::private;

/// Opens a file for reading from its beginning.
pub(super) fn open(segment: &Segment) -> io::Result<Box<dyn BufRead>> {
    let path = &segment.path;
    let file: File = private()
        .read(true)
        .open(path)
        .map_err(|error| at(path, error))?;
    Ok(match segment.packing {
        Packing::Plain | Packing::Renamed => Box::new(BufReader::with_capacity(CHUNK, file)),
        Packing::Gzip => Box::new(BufReader::with_capacity(
            CHUNK,
            flate2::read::MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file)),
        )),
        Packing::Zstd => Box::new(BufReader::with_capacity(
            CHUNK,
            zstd::stream::read::Decoder::new(file).map_err(|error| at(path, error))?,
        )),
    })
}

const CHUNK: usize = 256 << 10;
