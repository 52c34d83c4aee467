//! Disks on which a sync hangs or fails.

use super::*;

/// A rotation makes no record wait: the disk may take as long as it likes for the file that is finished.
/// Only where records are promised to be on the disk soon, a second of it is trouble.
#[tokio::test]
async fn a_finished_file_whose_sync_hangs_keeps_no_record_waiting() {
    for sync in [Sync::Always, Sync::Interval, Sync::Never] {
        let trail = Trail::new(sync);
        let disk = trail.hang_syncs();
        trail.audit.reopen();
        trail.until(|| trail.read("lookups").len() == 2).await;
        // A second file is finished meanwhile.
        assert_eq!(trail.outcome().await, Ok(()));
        trail.audit.reopen();
        trail.until(|| trail.read("lookups").len() == 3).await;
        let hangs = &trail.journal().disk.hangs;
        trail.until(|| hangs.load(Ordering::Acquire)).await;
        assert_eq!(trail.outcome().await, Ok(()));
        trail.pass(Duration::from_millis(900)).await;
        assert_eq!(trail.outcome().await, Ok(()));
        trail.pass(Duration::from_millis(200)).await;
        assert_eq!(trail.audit.is_writable(), sync != Sync::Interval);
        assert_eq!(trail.outcome().await.is_ok(), sync != Sync::Interval);
        // What is not on the disk is not signed.
        assert!(trail.heads().is_empty());
        drop(disk);
        trail
            .until(|| trail.audit.is_writable() && trail.heads().len() == 2)
            .await;
        assert_eq!(trail.heads(), [1, 2]);
        assert_eq!(trail.outcome().await, Ok(()));
    }
}

/// F48: finished files that still wait for the disk are not forgotten at the end.
#[tokio::test]
async fn the_end_waits_for_finished_files_and_signs_them_all() {
    for sync in [Sync::Always, Sync::Interval, Sync::Never] {
        let trail = Trail::new(sync);
        let disk = trail.hang_syncs();
        for files in [2, 3] {
            trail.audit.reopen();
            trail.until(|| trail.read("lookups").len() == files).await;
            assert_eq!(trail.outcome().await, Ok(()));
        }
        let mut closing = Box::pin(trail.audit.clone().close());
        assert!(futures_util::poll!(&mut closing).is_pending());
        drop(disk);
        closing.await;
        assert_eq!(trail.heads(), [1, 2, 3]);
        let directory = trail.place.path().join("audit");
        assert_eq!(verify(&directory, 1, &[]).unwrap().fault, None);
        assert!(Directory::open(&directory).is_ok());
    }
}

/// A record in a file without a name is nowhere after a loss of power.
#[tokio::test]
async fn a_record_counts_as_being_on_the_disk_once_the_name_of_its_file_is_there() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("audit");
    let aside = place.path().join("aside");
    let (clock, _hands) = Clock::manual(NOW);
    let Ok(directory) = Directory::open(&path) else {
        panic!("the directory is in use");
    };
    let metrics = AuditMetrics::default();
    let writer = Writer::new(directory, 1 << 20, false, Tip::START, None);
    let journal = started(writer, &clock, &metrics);
    let mut sync = SyncThread::new(&journal);
    let submit = || journal.submit(Kind::Lookup, clock.now(), |_| ());
    let record = async || submit().unwrap().await;
    assert_eq!(record().await, Ok(()));
    fs::rename(&path, &aside).unwrap();
    assert!(sync.sync().is_none());
    assert_eq!(sync.durable, 0);
    assert_eq!(metrics.sync_failures.get(), 1);
    fs::rename(&aside, &path).unwrap();
    assert_eq!(record().await, Ok(()));
    assert!(sync.sync().is_some());
    assert_eq!(sync.durable, 2);
    let report = verify(&path, 1, &[]).unwrap();
    assert_eq!((report.records, report.fault), (2, None));
    stop(&journal, sync).await;
}

#[tokio::test]
async fn a_sync_that_hangs_means_no_answer_until_it_is_over() {
    let trail = Trail::new(Sync::Interval);
    assert_eq!(trail.record().await, Ok(()));
    let disk = trail.hang_syncs();
    trail.journal().sync_orders.give(SyncOrder::Sync);
    let hangs = &trail.journal().disk.hangs;
    trail.until(|| hangs.load(Ordering::Acquire)).await;
    trail.pass(Duration::from_millis(900)).await;
    assert_eq!(trail.record().await, Ok(()));
    trail.pass(Duration::from_millis(200)).await;
    assert_eq!(trail.record().await, Err(Unrecorded::Unwritable));
    drop(disk);
    trail.until(|| trail.audit.is_writable()).await;
    assert_eq!(trail.record().await, Ok(()));
}

/// F43, G18: not only where every answer waits for it.
#[tokio::test]
async fn a_sync_that_fails_ends_its_file_and_the_next_record_is_in_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    let (clock, _hands) = Clock::manual(NOW);
    // A device that takes every write and fails every `fdatasync`.
    let path = PathBuf::from("/dev/null");
    let open = OpenFile {
        file: Arc::new(File::options().append(true).open(&path).unwrap()),
        path,
        size: 0,
        day: day(NOW),
    };
    let Ok(directory) = Directory::open(place.path()) else {
        panic!("the directory is in use");
    };
    let metrics = AuditMetrics::default();
    let writer = Writer::new(directory, 1 << 20, false, Tip::START, Some(open));
    let journal = started(writer, &clock, &metrics);
    let mut sync = SyncThread::new(&journal);
    let submit = || journal.submit(Kind::Lookup, clock.now(), |_| ());
    let record = async || submit().unwrap().await;
    assert_eq!(record().await, Ok(()));
    sync.sync();
    assert_eq!(metrics.sync_failures.get(), 1);
    assert_eq!(record().await, Ok(()));
    sync.sync();
    assert_eq!(metrics.sync_failures.get(), 1);
    // The first is where it was written to; the second in a file that is none of it.
    let report = verify(place.path(), 2, &[]).unwrap();
    assert_eq!((report.first, report.last, report.fault), (2, 2, None));
    stop(&journal, sync).await;
}
