//! F48, G17: the power is cut.
//!
//! What was brought to the disk stands. Of what was written after that, the disk may have a part: up to
//! any byte, or some blocks and zeros where others would be. Whatever it is, a restart finds every record
//! that was promised, sets the rest aside, and goes on with the chain.

use std::fs;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use atlas_cert_gateway::audit::Sync;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::audit::trail::{SYNC_INTERVAL, Trail};

#[tokio::test]
async fn with_always_every_answer_is_there_after_a_power_cut_at_any_byte() {
    every_cut(&before_the_cut(Sync::Always).await).await;
}

#[tokio::test]
async fn with_interval_what_is_older_than_it_is_there_after_a_power_cut_at_any_byte() {
    every_cut(&before_the_cut(Sync::Interval).await).await;
}

#[test]
fn blocks_that_never_reached_the_disk_are_set_aside_with_all_behind_them() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let disk = runtime.block_on(before_the_cut(Sync::Always));
    let cases = ProptestConfig::with_cases(96);
    TestRunner::new(cases)
        .run(
            &(any::<prop::sample::Index>(), any::<u64>()),
            |(end, lost)| {
                let end = disk.synced + end.index(disk.written.len() - disk.synced) + 1;
                let mut left = disk.written[..end].to_vec();
                for (number, block) in left.chunks_mut(BLOCK).enumerate() {
                    // What was brought to the disk before stays there.
                    let kept = disk.synced.saturating_sub(number * BLOCK).min(block.len());
                    if lost >> (number % 64) & 1 == 1 {
                        block[kept..].fill(0);
                    }
                }
                runtime.block_on(disk.check(&left));
                Ok(())
            },
        )
        .unwrap();
}

/// What a file held when the power was cut.
struct Disk {
    name: String,
    written: Vec<u8>,
    /// How much of it was on the disk for certain.
    synced: usize,
    /// The subjects of the records in that part.
    promised: Vec<String>,
}

async fn before_the_cut(sync: Sync) -> Disk {
    let trail = Trail::with(|config| config.sync = sync);
    let mut promised = Vec::new();
    for turn in 0..10 {
        let subject = format!("promised-{turn}");
        trail.record(&subject).await.unwrap();
        promised.push(subject);
    }
    if sync == Sync::Interval {
        let syncs = trail.syncs();
        trail.advance(SYNC_INTERVAL).await;
        trail.until(|| trail.syncs() > syncs).await;
    }
    let file = trail.files().remove(0);
    // With `always`, that a record was acknowledged says that this much is on the disk.
    let synced = fs::read(&file).unwrap().len();
    for turn in 0..6 {
        trail.record(&format!("under way-{turn}")).await.unwrap();
    }
    Disk {
        name: file.file_name().unwrap().to_str().unwrap().to_owned(),
        written: fs::read(&file).unwrap(),
        synced,
        promised,
    }
}

/// At every line's end and the bytes around it, and now and then in between.
async fn every_cut(disk: &Disk) {
    assert!(disk.written.len() > disk.synced + 3_000);
    for end in disk.synced..=disk.written.len() {
        let near = |end: usize| disk.written.get(end).is_some_and(|byte| *byte == b'\n');
        if end % 37 == 0 || near(end) || near(end - 1) || near(end - 2) {
            disk.check(&disk.written[..end]).await;
        }
    }
}

impl Disk {
    async fn check(&self, left: &[u8]) {
        let trail = Trail::with(|config| {
            let directory = &config.directory;
            DirBuilder::new().mode(0o700).create(directory).unwrap();
            fs::write(directory.join(&self.name), left).unwrap();
            config.sync = Sync::Never;
        });
        trail.record("afterwards").await.unwrap();
        assert_eq!(trail.verify().fault, None);
        let subjects: Vec<String> = trail
            .lookups()
            .iter()
            .map(|line| line["subject"].as_str().unwrap().to_owned())
            .collect();
        let (promised, rest) = subjects.split_at(self.promised.len());
        assert_eq!(promised, self.promised);
        // In their order, as many as were whole, and then what came after the restart.
        for (turn, subject) in rest[..rest.len() - 1].iter().enumerate() {
            assert_eq!(*subject, format!("under way-{turn}"));
        }
        assert_eq!(rest.last().unwrap(), "afterwards");
        // Nothing is thrown away: what is not in the journal any more lies beside it.
        let journal = fs::read(trail.config.directory.join(&self.name)).unwrap();
        let kept = journal
            .iter()
            .zip(left)
            .take_while(|(now, then)| now == then)
            .count();
        let kept = journal[..kept].iter().rposition(|byte| *byte == b'\n');
        let aside = trail.config.directory.join(format!("{}.torn", self.name));
        let aside = fs::read(aside).map_or(Vec::new(), |mut torn| {
            torn.pop();
            torn
        });
        assert_eq!(aside, left[kept.unwrap() + 1..]);
    }
}

const BLOCK: usize = 512;
