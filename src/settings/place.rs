//! Files and directories that settings name: whether they can be what they are meant for. Writes nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use rustix::fs::{Access, access};

/// Why `directory` can never be a directory, whoever asks: something else is in its place, or on the way to it.
pub fn impossible_directory(directory: &Path) -> Option<String> {
    let (place, found) = nearest(directory)?;
    (!found.is_dir()).then(|| format!("{} is no directory; name another place", place.display()))
}

/// Why this user cannot write to `directory`, or cannot make it. Another user may be able to.
pub fn unwritable_directory(directory: &Path) -> Option<String> {
    let (place, _) = nearest(directory)?;
    let error = access(place, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "this user cannot write to {} ({}); the user that runs the gateway has to",
        place.display(),
        io::Error::from(error)
    ))
}

/// Refuses a file that others than its owner and its group may write to: what it says is not its owner's word.
pub fn written_by_its_owner(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o002 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "everybody may write to it (mode {mode:o}); run `chmod o-w` on it"
        )))
    }
}

/// The nearest place on the way to `path` where there is something.
fn nearest(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors()
        .map(|place| {
            if place.as_os_str().is_empty() {
                Path::new(".")
            } else {
                place
            }
        })
        .find_map(|place| Some((place, fs::metadata(place).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_a_directory_or_on_the_way_to_it_makes_it_impossible() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(impossible_directory(&file).is_some());
        assert!(impossible_directory(&file.join("below/it")).is_some());
        assert_eq!(impossible_directory(&place.path().join("new/one")), None);
        assert_eq!(impossible_directory(Path::new("relative")), None);
        assert_eq!(unwritable_directory(&place.path().join("new/one")), None);
        assert!(!place.path().join("new").exists());
    }
}
