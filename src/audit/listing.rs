//! Lists a journal's directory: its segments in the order of the chain, the copies of each, and other files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::{fs, io, iter};

use crate::atlas::Timestamp;

use super::directory::{at, private};

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: Vec<Segment>,
    /// Files of the journal's name that are none of its own, and may hold anything.
    pub(super) foreign: Vec<PathBuf>,
}

/// A stretch of the chain: what the gateway wrote into one file. There may be several copies of it, as
/// there are while a file is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// When it was begun, as its name says; 1970 if it says something else.
    pub(super) start: Timestamp,
    /// The copy that is most likely whole, as far as its name tells.
    pub(super) best: SegmentFile,
    pub(super) others: Vec<SegmentFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentFile {
    pub(super) packing: Packing,
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

/// How a copy of a segment is packed. What comes first is most likely whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Packing {
    /// As it was written.
    Plain,
    /// As it was written, but under the name that a rotation of others gave it.
    Renamed,
    Zstd,
    Gzip,
    /// Under a name that says nothing of what is in it, as an editor, a backup or an unfinished packer
    /// leaves. Read as if it were plain, and only where no other copy is whole.
    Unknown,
}

pub(super) fn list(directory: &Path) -> io::Result<Listing> {
    list_named(directory, LOOKUPS)
}

/// The files beside the journal that hold its signed heads, listed like those of the journal.
pub(super) fn list_heads(directory: &Path) -> io::Result<Listing> {
    list_named(directory, HEADS)
}

/// The segment as it is now, where a copy that was listed is gone; `None` if all are.
pub(super) fn list_again(directory: &Path, segment: &Segment) -> io::Result<Option<Segment>> {
    let name = segment.best.path.file_name().and_then(|it| it.to_str());
    // The heads of a segment have its number and its time.
    let is_heads = name.is_some_and(|name| name.starts_with(HEADS));
    let listing = list_named(directory, if is_heads { HEADS } else { LOOKUPS })?;
    let is_it = |it: &Segment| (it.first, it.start) == (segment.first, segment.start);
    Ok(listing.segments.into_iter().find(is_it))
}

fn list_named(directory: &Path, prefix: &str) -> io::Result<Listing> {
    let mut found = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    // A file that is renamed while the directory is read may be in none of its entries, or gone by the time
    // it is looked at: it is read until nothing has changed.
    let mut before = None;
    for _ in 0..MOST_PASSES {
        let mut names = BTreeSet::new();
        let mut is_settled = true;
        for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else {
                is_settled = false;
                continue;
            };
            names.insert(name.to_owned());
            if !metadata.is_file() || name.ends_with(TORN) {
                continue;
            }
            let path = entry.path();
            match read_name(name, prefix) {
                Some((first, start, packing)) => {
                    let size = metadata.len();
                    let copies: &mut BTreeMap<_, _> = found.entry((first, start)).or_default();
                    copies.insert((packing, path), size);
                }
                None => {
                    foreign.insert(path);
                }
            }
        }
        let names = Some(names);
        if is_settled && names == before {
            break;
        }
        before = names;
    }
    let segments = found.into_iter().filter_map(|((first, start), copies)| {
        let mut copies = copies
            .into_iter()
            .map(|((packing, path), size)| SegmentFile {
                packing,
                path,
                size,
            });
        Some(Segment {
            first,
            start,
            best: copies.next()?,
            others: copies.collect(),
        })
    });
    Ok(Listing {
        segments: segments.collect(),
        foreign: foreign.into_iter().collect(),
    })
}

impl Listing {
    /// Whether there are the same files, whatever has been written to them.
    pub(super) fn has_the_files_of(&self, other: &Self) -> bool {
        let paths = |listing: &Self| {
            let copies = listing.segments.iter().flat_map(Segment::copies);
            copies
                .map(|copy| copy.path.clone())
                .collect::<BTreeSet<_>>()
        };
        paths(self) == paths(other)
    }
}

impl Segment {
    pub(super) fn copies(&self) -> impl Iterator<Item = &SegmentFile> {
        iter::once(&self.best).chain(&self.others)
    }

    /// The file to which the gateway may append, if it is there.
    pub(super) fn own_file(&self) -> Option<&SegmentFile> {
        Some(&self.best).filter(|copy| copy.packing == Packing::Plain)
    }
}

impl SegmentFile {
    pub(super) fn open(&self) -> io::Result<File> {
        let file = private().read(true).open(&self.path);
        file.map_err(|error| at(&self.path, &error))
    }
}

/// The first record's number, the start and the packing; `None` for what is no file of a journal.
///
/// Beside the gateway's own name there are those that rotations and packers give: a number or a date behind
/// it, and then their ending. What has another ending may be anything.
fn read_name(name: &str, prefix: &str) -> Option<(u64, Timestamp, Packing)> {
    let (stem, suffix) = name.strip_prefix(prefix)?.split_once(".jsonl")?;
    let (start, first) = stem.rsplit_once('-')?;
    let ended = |end: &str| suffix.strip_suffix(end);
    let (renamed, packing) = if let Some(rest) = ended(".gz") {
        (rest, Packing::Gzip)
    } else if let Some(rest) = ended(".zst").or_else(|| ended(".zstd")) {
        (rest, Packing::Zstd)
    } else if suffix.is_empty() {
        (suffix, Packing::Plain)
    } else {
        (suffix, Packing::Renamed)
    };
    let is_rotation = renamed.is_empty()
        || renamed.starts_with(['.', '-'])
            && renamed
                .bytes()
                .all(|it| matches!(it, b'0'..=b'9' | b'.' | b'-'));
    let is_number = !first.is_empty() && first.bytes().all(|it| it.is_ascii_digit());
    if !is_number {
        return None;
    }
    let packing = if is_rotation {
        packing
    } else {
        Packing::Unknown
    };
    Some((first.parse().ok()?, read_start(start), packing))
}

/// `20260810T020635Z`.
fn read_start(text: &str) -> Timestamp {
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let long = format!(
        "{}-{}-{}T{}:{}:{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 16)
    );
    Timestamp::parse(&long).unwrap_or_default()
}

const LOOKUPS: &str = "lookups-";
const HEADS: &str = "heads-";
/// How often a directory is read in which files come and go. Seldom more than twice.
const MOST_PASSES: usize = 10;
/// What a crash left of a line, put aside.
pub(super) const TORN: &str = ".torn";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::directory::name;

    #[test]
    fn names_are_read_as_they_are_made_and_as_others_leave_them() {
        let start = Timestamp::from_seconds(1_786_327_595);
        let made = name(start, 41);
        assert_eq!(made, "lookups-20260810T020635Z-41.jsonl");
        for (suffix, expected) in [
            ("", Some((41, start, Packing::Plain))),
            (".1", Some((41, start, Packing::Renamed))),
            ("-20261121.gz", Some((41, start, Packing::Gzip))),
            (".zst", Some((41, start, Packing::Zstd))),
            (".2.zstd", Some((41, start, Packing::Zstd))),
            (".bak", Some((41, start, Packing::Unknown))),
            (".gz.part", Some((41, start, Packing::Unknown))),
            ("~", Some((41, start, Packing::Unknown))),
            (".1~", Some((41, start, Packing::Unknown))),
        ] {
            let name = format!("{made}{suffix}");
            assert_eq!(read_name(&name, LOOKUPS), expected, "{suffix}");
        }
        assert_eq!(read_name("lookups-x.jsonl", LOOKUPS), None);
        assert_eq!(
            read_name("lookups-20260810T020635Z-41 (copy).jsonl", LOOKUPS),
            None
        );
    }

    #[test]
    fn copies_of_a_segment_are_listed_together_and_foreign_files_apart() {
        let place = tempfile::tempdir().unwrap();
        let start = Timestamp::from_seconds(1_786_327_595);
        let (one, two) = (name(start, 1), name(start, 41));
        for file in [
            &one,
            &format!("{one}.gz"),
            &format!("{one}.bak"),
            "lookups-20260810T020635Z-1 (copy).jsonl",
            &format!("{two}.1.zst"),
            &format!("{two}.torn"),
            "heads-20260810T020635Z-1.jsonl",
            "notes.txt",
        ] {
            fs::write(place.path().join(file), file).unwrap();
        }
        let listing = list(place.path()).unwrap();
        let names: Vec<Vec<_>> = listing
            .segments
            .iter()
            .map(|segment| {
                segment
                    .copies()
                    .map(|it| it.path.file_name().unwrap().to_str().unwrap().to_owned())
                    .collect()
            })
            .collect();
        let of_one = vec![one.clone(), format!("{one}.gz"), format!("{one}.bak")];
        assert_eq!(names, [of_one, vec![format!("{two}.1.zst")]]);
        let copy = place.path().join("lookups-20260810T020635Z-1 (copy).jsonl");
        assert_eq!(listing.foreign, [copy]);
        assert_eq!(list_heads(place.path()).unwrap().segments.len(), 1);
    }
}
