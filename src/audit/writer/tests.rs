//! Files that fail, and the room that files have ahead.

use super::*;
use crate::audit::directory::private;
use crate::audit::record::{Body, Kind};
use crate::audit::repair;
use crate::audit::verify::verify;

fn bodies(count: usize) -> Bodies {
    let mut bodies = Bodies::default();
    for _ in 0..count {
        Body::compose(NOW, Kind::Lookup, |_| (), |body| bodies.push(body));
    }
    bodies
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
        ahead: Ahead::default(),
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
fn a_task_that_could_not_write_leaves_the_tip_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = writer(place.path(), "/dev/full", false);
    assert!(writer.is_ready(NOW));
    let error = writer.append(&bodies(2)).unwrap_err();
    assert!(error.to_string().contains("/dev/full"));
    assert_eq!(writer.tip(), Tip::START);
    writer.poison(&error);
    assert!(!writer.is_ready(NOW));
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
    writer.poison(&io::ErrorKind::StorageFull.into());
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
    writer.poison(&io::ErrorKind::StorageFull.into());
    writer
        .write(&bodies(1), NOW.plus(std::time::Duration::from_secs(1)))
        .unwrap();
    assert_ne!(writer.file().unwrap().path, path);
    let report = verify(place.path(), 1, &[]).unwrap();
    assert_eq!((report.records, report.fault), (2, None));
}

/// A writer whose files get room ahead, on whatever file system.
fn reserving(place: &Path) -> Writer {
    let Ok(mut directory) = Directory::open(place) else {
        panic!("the directory is in use");
    };
    directory.reserving_pays = true;
    let mut writer = Writer::new(directory, 64 << 20, false, Tip::START, None);
    writer.write(&bodies(3), NOW).unwrap();
    assert!(writer.runs_short());
    writer.reserve();
    assert!(!writer.runs_short());
    assert!(has_room(&writer.file().unwrap().path));
    writer
}

/// Whether a file of a few lines has more of the disk than those need.
fn has_room(path: &Path) -> bool {
    fs::metadata(path).unwrap().blocks() * 512 > 1 << 20
}

#[test]
fn room_ahead_is_given_back_at_a_rotation_and_at_the_end_and_no_reader_sees_it() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = reserving(place.path());
    let report = verify(place.path(), 1, &[]).unwrap();
    assert_eq!((report.records, report.fault), (3, None));
    assert_eq!(writer.examine(), None);
    let left = writer.file().unwrap().path.clone();
    writer.rotate(NOW).unwrap();
    for mut finished in writer.take_aside().finished {
        assert!(finished.settle().unwrap());
    }
    assert!(!has_room(&left));
    writer.write(&bodies(3), NOW).unwrap();
    assert!(!has_room(&writer.file().unwrap().path));
    writer.reserve();
    assert!(has_room(&writer.file().unwrap().path));
    writer.finish().unwrap();
    assert!(!has_room(&writer.file().unwrap().path));
    let report = verify(place.path(), 1, &[]).unwrap();
    assert_eq!((report.records, report.fault), (6, None));
}

/// G17: who waits for the disk waits for the name of the file, too; else the sync thread sees to it.
#[test]
fn the_name_of_a_new_file_is_on_the_disk_before_the_record_where_every_record_is() {
    for sync_each in [true, false] {
        let place = tempfile::tempdir().unwrap();
        let mut writer = writer(place.path(), "/dev/full", sync_each);
        assert!(!writer.has_aside());
        writer.write(&bodies(1), NOW).unwrap();
        assert_eq!(writer.take_aside().names, !sync_each);
        assert!(!writer.has_aside());
    }
}

#[test]
fn room_that_a_killed_process_left_is_given_back_when_the_file_is_mended() {
    let place = tempfile::tempdir().unwrap();
    let writer = reserving(place.path());
    let left = writer.file().unwrap().path.clone();
    let size = fs::metadata(&left).unwrap().len();
    drop(writer);
    assert!(has_room(&left));
    let mended = repair::mend(&left).unwrap();
    assert!(!has_room(&left));
    assert_eq!((mended.size, mended.torn, mended.damaged), (size, 0, false));
    assert_eq!(fs::metadata(&left).unwrap().len(), size);
}

#[test]
fn where_it_does_not_pay_there_is_no_room_ahead() {
    let place = tempfile::tempdir().unwrap();
    let mut writer = reserving(place.path());
    writer.directory.reserving_pays = false;
    writer.rotate(NOW).unwrap();
    writer.write(&bodies(3), NOW).unwrap();
    assert!(!writer.runs_short());
    writer.reserve();
    assert!(!has_room(&writer.file().unwrap().path));
}

const NOW: Timestamp = Timestamp::from_seconds(1_786_327_595);
