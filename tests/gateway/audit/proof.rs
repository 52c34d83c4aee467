//! Whatever is done to the files, the verifier names the first record that is not as it was written.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use atlas_cert_gateway::audit::verify::{FaultKind, VerifyReport, verify};
use atlas_cert_gateway::settings::Size;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::audit::trail::Trail;

#[tokio::test]
async fn an_untouched_trail_is_proven() {
    let copy = Copy::new();
    let report = copy.verify();
    assert_eq!(
        (report.first, report.last, report.records, report.fault),
        (1, RECORDS, RECORDS, None)
    );
    assert!(report.files >= 3);
    assert_eq!(report.hash.len(), 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_changed_byte_anywhere_is_found_in_its_record(
        place in any::<prop::sample::Index>(),
        bit in 0..8,
        packed in any::<bool>(),
    ) {
        let copy = Copy::new();
        let files = copy.files();
        let sizes: Vec<usize> = files.iter().map(|file| fs::read(file).unwrap().len()).collect();
        let mut at = place.index(sizes.iter().sum());
        let mut index = 0;
        while at >= sizes[index] {
            at -= sizes[index];
            index += 1;
        }
        let mut content = fs::read(&files[index]).unwrap();
        let line = memchr::memchr_iter(b'\n', &content[..at]).count();
        let first: usize = Copy::first_of(&files[index]);
        content[at] ^= 1_u8 << bit;
        fs::write(&files[index], content).unwrap();
        if packed {
            copy.pack();
        }
        let fault = copy.verify().fault.expect("a changed byte was not found");
        prop_assert_eq!(fault.seq, u64::try_from(first + line).unwrap());
    }

    #[test]
    fn a_line_that_is_removed_or_doubled_or_moved_or_put_in_is_found(
        line in 0_usize..600,
        what in 0..5,
        packed in any::<bool>(),
    ) {
        let copy = Copy::new();
        let (file, first) = copy.file_of(line + 1);
        let text = fs::read_to_string(&file).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let at = line + 1 - first;
        let expected = match what {
            0 => {
                lines.remove(at);
                line + 1
            }
            1 => {
                lines.insert(at, lines[at]);
                line + 2
            }
            2 => {
                let to = (at + 1) % lines.len();
                lines.swap(at, to);
                first + at.min(to)
            }
            3 => {
                lines.insert(at, lines[(at + 7) % lines.len()]);
                line + 1
            }
            _ => {
                lines.insert(at, "{\"time\":\"2026-08-10T02:06:35.000000Z\",\"outcome\":\"answered\"}");
                line + 1
            }
        };
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        if packed {
            copy.pack();
        }
        // The very last line, removed, leaves no trace: only a signed head knows of it.
        if !(what == 0 && line + 1 == usize::try_from(RECORDS).unwrap()) {
            let fault = copy.verify().fault.expect("not found");
            prop_assert_eq!(fault.seq, u64::try_from(expected).unwrap());
        }
    }
}

#[test]
fn a_line_of_another_trail_is_found() {
    let copy = Copy::new();
    let file = copy.files().remove(1);
    let first = Copy::first_of(&file);
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // A line with a right hash of its own, which only does not follow the one before.
    let other = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let forged = runtime.block_on(async {
        let trail = Trail::with(|config| config.directory = other.path().join("audit"));
        for _ in 1..first + 4 {
            trail.record("mallory").await.unwrap();
        }
        let text = fs::read_to_string(trail.files().remove(0)).unwrap();
        text.lines().nth(first + 3).unwrap().to_owned()
    });
    lines[4] = forged;
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let fault = copy.verify().fault.unwrap();
    assert_eq!(fault.seq, u64::try_from(first + 4).unwrap());
    assert_eq!(fault.kind, FaultKind::NotNext);
}

#[test]
fn a_missing_file_is_found_wherever_it_was_and_archived_ones_are_named_by_the_operator() {
    let copy = Copy::new();
    let files = copy.files();
    let second = u64::try_from(Copy::first_of(&files[1])).unwrap();
    let third = u64::try_from(Copy::first_of(&files[2])).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let fault = copy.verify().fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (second, FaultKind::Missing));
    fs::remove_file(&files[0]).unwrap();
    let fault = copy.verify().fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (1, FaultKind::MissingBeginning));
    let report = verify(copy.0.path(), third, &[]).unwrap();
    assert_eq!(
        (report.first, report.last, report.fault),
        (third, RECORDS, None)
    );
    let report = verify(copy.0.path(), third + 10, &[]).unwrap();
    assert_eq!((report.first, report.fault), (third + 10, None));
    // The first lines of the oldest file cannot go unseen, because its name counts them.
    let text = fs::read_to_string(&files[2]).unwrap();
    let rest: String = text.split_inclusive('\n').skip(3).collect();
    fs::write(&files[2], rest).unwrap();
    let fault = verify(copy.0.path(), third, &[]).unwrap().fault.unwrap();
    assert_eq!(fault.seq, third);
}

#[test]
fn packed_files_are_verified_as_they_are() {
    let copy = Copy::new();
    copy.pack();
    let report = copy.verify();
    assert_eq!((report.last, report.fault), (RECORDS, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A bit of a packed file is found, or it is one that says nothing of a record.
    #[test]
    fn a_changed_byte_of_a_packed_file_is_found_if_it_changes_a_record(
        file in 0_usize..3,
        place in any::<prop::sample::Index>(),
        change in 1_u8..=255,
    ) {
        let copy = Copy::new();
        copy.pack();
        let file = &copy.files()[file];
        let mut content = fs::read(file).unwrap();
        let at = place.index(content.len());
        content[at] ^= change;
        fs::write(file, &content).unwrap();
        let report = copy.verify();
        if report.fault.is_none() {
            prop_assert_eq!((report.records, report.last), (RECORDS, RECORDS));
            prop_assert_eq!(&report.hash, &Copy::new().verify().hash);
        }
    }

    #[test]
    fn a_packed_file_that_is_cut_off_is_found(file in 0_usize..3, place in any::<prop::sample::Index>()) {
        let copy = Copy::new();
        copy.pack();
        let file = &copy.files()[file];
        let content = fs::read(file).unwrap();
        fs::write(file, &content[..=place.index(content.len() - 1)]).unwrap();
        let fault = copy.verify().fault.expect("not found");
        prop_assert!(fault.seq >= u64::try_from(Copy::first_of(file)).unwrap());
    }
}

/// A name, and what is in the file of that name.
type NamedFile = (OsString, Vec<u8>);

/// A trail of several files, made once and copied for everybody who wants to spoil it.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        // What is in them, as what is static is never dropped and would leave a directory behind.
        static ORIGINAL: OnceLock<Vec<NamedFile>> = OnceLock::new();
        let original = ORIGINAL.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let trail = Trail::with(|config| config.rotate_size = Size::kibibytes(100));
                for turn in 2..=RECORDS {
                    trail.record(&format!("subject-{turn}")).await.unwrap();
                }
                trail.audit.clone().close().await;
                let files = trail.files().into_iter();
                let read = |file: PathBuf| {
                    (
                        file.file_name().unwrap().to_owned(),
                        fs::read(file).unwrap(),
                    )
                };
                files.map(read).collect()
            })
        });
        let place = tempfile::tempdir().unwrap();
        for (name, content) in original {
            fs::write(place.path().join(name), content).unwrap();
        }
        Self(place)
    }

    /// Every file as an operator packs it.
    fn pack(&self) {
        for (file, pack) in self.files().iter().zip([gzip, zstd, gzip]) {
            let (packed, suffix) = pack(&fs::read(file).unwrap());
            fs::write(file.with_extension(suffix), packed).unwrap();
            fs::remove_file(file).unwrap();
        }
    }

    fn verify(&self) -> VerifyReport {
        verify(self.0.path(), 1, &[]).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort_by_key(|file| Self::first_of(file));
        files
    }

    fn first_of(file: &Path) -> usize {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.split(['-', '.']).nth(2).unwrap().parse().unwrap()
    }

    fn file_of(&self, seq: usize) -> (PathBuf, usize) {
        self.files()
            .into_iter()
            .map(|file| (Self::first_of(&file), file))
            .filter(|(first, _)| *first <= seq)
            .map(|(first, file)| (file, first))
            .next_back()
            .unwrap()
    }
}

fn gzip(content: &[u8]) -> (Vec<u8>, &'static str) {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(content).unwrap();
    (packer.finish().unwrap(), "jsonl.gz")
}

fn zstd(content: &[u8]) -> (Vec<u8>, &'static str) {
    (zstd::encode_all(content, 1).unwrap(), "jsonl.zst")
}

const RECORDS: u64 = 600;
