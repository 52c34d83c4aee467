//! Files that fail.

use super::*;
use crate::audit::directory::private;
use crate::audit::record::{Kind, Record};
use crate::audit::verify::verify;

fn bodies(count: usize) -> Vec<u8> {
    let line = |body: &[u8]| [body, b"\n"].concat();
    let body = Record::compose(Kind::Lookup, NOW, b"", |_| (), line);
    body.repeat(count)
}

fn writer(place: &Path, device: &str, sync_each: bool) -> Writer {
    let Ok(directory) = Directory::open(place) else {
        panic!("the directory is in use");
    };
    let file = private().append(true).open(device).unwrap();
    let open = OpenFile {
        file: Arc::new(file),
        path: PathBuf::from(device),
        size: 0,
        day: day(NOW),
    };
    Writer::new(directory, 1 << 20, sync_each, Tip::START, Some(open))
}

/// F42 and F43: a write that fails, and a sync that fails, each on a real device that does so.
#[test]
fn a_file_that_failed_is_never_written_again_and_its_records_are_in_a_new_one() {
    for (device, sync_each) in [("/dev/full", false), ("/dev/null", true)] {
        let place = tempfile::tempdir().unwrap();
        let mut writer = writer(place.path(), device, sync_each);
        writer.write(&bodies(3), NOW).unwrap();
        let open = writer.file().unwrap();
        assert!(open.path.starts_with(place.path()), "{device}");
        let report = verify(place.path(), 1, &[]).unwrap();
        assert_eq!((report.records, report.fault), (3, None));
    }
}

#[test]
fn a_write_that_failed_leaves_the_tip_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer(place.path(), "/dev/full", false);
    let error = writer.append(&bodies(2)).unwrap_err();
    assert!(error.to_string().contains("/dev/full"));
    assert_eq!(writer.tip(), Tip::START);
    writer.give_up(&error);
    assert!(writer.file().is_none());
}

/// What somebody has taken away is not replaced by zeros.
#[test]
fn a_file_that_was_shortened_and_then_failed_stays_short() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer(place.path(), "/dev/full", false);
    writer.write(&bodies(3), NOW).unwrap();
    let path = writer.file().unwrap().path.clone();
    let whole = fs::read(&path).unwrap();
    let short = whole.len() / 3;
    let length = u64::try_from(short).unwrap();
    writer.file().unwrap().file.set_len(length).unwrap();
    writer.give_up(&io::ErrorKind::StorageFull.into());
    writer.write(&bodies(1), NOW).unwrap();
    assert_eq!(fs::read(&path).unwrap(), &whole[..short]);
}

/// Bytes of a write that was only half done must not stand before the records that follow.
#[test]
fn a_file_that_failed_is_cut_back_to_what_was_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer(place.path(), "/dev/full", false);
    writer.write(&bodies(1), NOW).unwrap();
    let path = writer.file().unwrap().path.clone();
    let half = b"{\"time\":\"2026";
    (&*writer.file().unwrap().file).write_all(half).unwrap();
    writer.give_up(&io::ErrorKind::StorageFull.into());
    writer
        .write(&bodies(1), NOW.plus(std::time::Duration::from_secs(1)))
        .unwrap();
    assert_ne!(writer.file().unwrap().path, path);
    let report = verify(place.path(), 1, &[]).unwrap();
    assert_eq!((report.records, report.fault), (2, None));
}

/// G17: who waits for the disk waits for the name of the file, too; else the sync thread sees to it.
#[test]
fn the_name_of_a_new_file_is_on_the_disk_before_the_record_where_every_record_is() {
    for sync_each in [true, false] {
        let place = tempfile::tempdir().unwrap();
        let mut writer = writer(place.path(), "/dev/full", sync_each);
        assert!(!writer.has_unsynced());
        writer.write(&bodies(1), NOW).unwrap();
        assert_eq!(writer.take_unsynced().names, !sync_each);
        assert!(!writer.has_unsynced());
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_786_327_595);
