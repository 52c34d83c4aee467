//! Packing: a finished file is replaced by a `.zst` that holds the same.

use std::path::Path;
use std::{fs, io};

use rustix::fs::statvfs;
use uuid::Uuid;

use super::remove_file;
use crate::audit::directory::{at, private, sync_names};
use crate::audit::listing::{Packing, SegmentFile};
use crate::audit::reading;
use crate::audit::reading::Comparison;

/// Replaces a file by a packed one that holds the same. A file of the journal must end before the record
/// `next`: one that failed while it was written may hold what was never acknowledged, until it is cut. Says
/// whether this was done; the file may have been taken away.
pub(super) fn pack(file: &SegmentFile, next: Option<u64>) -> io::Result<bool> {
    let packed = pack_present(file, next);
    match packed {
        Err(_) if matches!(file.path.try_exists(), Ok(false)) => Ok(false),
        packed => packed,
    }
}

fn pack_present(file: &SegmentFile, next: Option<u64>) -> io::Result<bool> {
    if let Some(next) = next
        && reading::last_number(file)?.is_none_or(|last| last >= next)
    {
        return Ok(false);
    }
    let directory = file.path.parent().unwrap_or_else(|| Path::new("."));
    let packed = SegmentFile {
        packing: Packing::Zstd,
        path: file.path.with_extension("jsonl.zst"),
        size: 0,
    };
    if !packed.path.try_exists()? {
        check_room(directory, file)?;
        // A name of its own: another process may have the directory by the time this thread is done.
        let part = directory.join(format!(".{}{PART}", Uuid::now_v7()));
        let written = write_packed(file, &packed, &part);
        if written.is_err() {
            remove_file(&part)?;
        }
        written?;
        sync_names(directory)?;
    }
    // One that was there may be half of what another program is writing, or has left.
    match reading::compare(file, &packed)? {
        Comparison::Copy => {
            remove_file(&file.path)?;
            sync_names(directory)?;
            Ok(true)
        }
        Comparison::Gone => Ok(false),
        Comparison::Part | Comparison::Differs { .. } => Err(at(
            &packed.path,
            &io::Error::other("does not hold all of the file that it was made of"),
        )),
    }
}

/// What is packed takes less than its source. Where that much is free, packing never fills the disk under the
/// journal.
fn check_room(directory: &Path, file: &SegmentFile) -> io::Result<()> {
    let disk = statvfs(directory)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < file.size {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        return Err(at(&file.path, &full));
    }
    Ok(())
}

/// Removes what a process left that ended while it packed, or a round that could not take it away.
pub(super) fn remove_parts(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with('.') && name.ends_with(PART)) {
            remove_file(&path)?;
        }
    }
    Ok(())
}

fn write_packed(file: &SegmentFile, packed: &SegmentFile, part: &Path) -> io::Result<()> {
    let mut source = file.open()?;
    let modified = source.metadata()?.modified()?;
    let target = private()
        .create_new(true)
        .write(true)
        .open(part)
        .map_err(|error| at(part, &error))?;
    let mut encoder = zstd::Encoder::new(target, LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut source, &mut encoder)?;
    let target = encoder.finish()?;
    target.set_modified(modified)?;
    target.sync_all()?;
    let read_back = SegmentFile {
        path: part.to_owned(),
        ..packed.clone()
    };
    if reading::compare(file, &read_back)? != Comparison::Copy {
        return Err(at(
            part,
            &io::Error::other("was not read back as it was written"),
        ));
    }
    fs::rename(part, &packed.path).map_err(|error| at(&packed.path, &error))
}

const LEVEL: i32 = 3;
const PART: &str = ".zst.part";
