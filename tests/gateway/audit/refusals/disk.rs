//! When the disk is short, or there are more sources than can be counted one by one.

use std::borrow::Cow;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use atlas_cert_gateway::audit::{
    Arrival, Closing, Origin, Outcome, Refused, Sync, survive_file_size_limit,
};
use serde_json::json;
use tempfile::TempDir;

use super::{A_MINUTE, SHORTEST, folds_after_a_minute, is_whole, number, pipeline};
use crate::audit::alone::{alone, small_disk, unchanged, with_small_disk};
use crate::audit::faults::{limit, run};
use crate::audit::trail::Trail;
use crate::client;
use crate::program::{Program, request, serve, world_with};
use crate::world::{OTHER_PROJECT, World, certs, set, set_rule};

/// A disk of which a test says how much is free.
struct Room(TempDir);

impl Room {
    fn new(free: u64) -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        room.write(free);
        room
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("free")
    }

    fn write(&self, free: u64) {
        fs::write(self.file(), free.to_string()).unwrap();
    }

    /// Lets so much be free, and waits until the gateway has noticed.
    async fn leave(&self, world: &World, free: u64) {
        self.write(free);
        while world.metric("audit_disk_free_bytes").await != free {
            world.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn below_the_reserve_all_refusals_are_folded_into_one_record_a_minute() {
    const MIB: u64 = 1 << 20;
    let room = Room::new(300 * MIB);
    let world = World::with(|plan| {
        plan.disk_free = Some(room.file());
        set_rule(plan, 0, "lookups_per_minute", 1_000);
    })
    .await;
    assert_eq!(world.metric("audit_reserve_bytes").await, 256 * MIB);
    assert!(world.metric("audit_directory_bytes").await > 0);
    assert_eq!(pipeline(&world, 1).await[0].status, 404);
    room.leave(&world, 255 * MIB).await;
    let before = world.lookups().len();
    for _ in 0..10 {
        let reply = &pipeline(&world, 1).await[0];
        assert_eq!(
            (reply.status, reply.header("connection")),
            (429, Some("close"))
        );
        let denied = world.get(&certs(OTHER_PROJECT, "secret-1"), &[]).await;
        assert_eq!(denied.status, 403);
        assert_eq!(world.ask("app1").await.status, 200);
    }
    assert_eq!(world.lookups().len(), before + 10);
    let folds = folds_after_a_minute(&world, 1).await;
    let fold = &folds[0];
    assert_eq!(
        (&fold["scope"], &fold["count"]),
        (&json!("everybody"), &json!(20))
    );
    assert!(fold.get("peer").is_none() && fold.get("subject").is_none());
    // It is left a little above where it was entered.
    room.leave(&world, 257 * MIB).await;
    assert_eq!(pipeline(&world, 1).await[0].status, 429);
    room.leave(&world, 300 * MIB).await;
    assert_eq!(pipeline(&world, 1).await[0].status, 404);
    assert!(is_whole(&world));
}

/// One refusal of a source, folded.
fn fold(trail: &Trail, source: IpAddr) {
    let mut entry = trail.audit.entry(Arrival {
        origin: Cow::Owned(Origin::new(SocketAddr::new(source, 443), None)),
        ..trail.arrival()
    });
    let closing = Closing {
        outcome: Outcome::Unauthenticated,
        error_code: Some("USER_UNAUTHORIZED"),
        ..trail.closing()
    };
    assert!(matches!(entry.refuse(&closing), Refused::TooMany(_)));
}

#[tokio::test]
async fn ten_thousand_sources_have_a_record_each_and_the_rest_one() {
    let trail = Trail::with(|config| {
        config.refusals_per_minute = 0;
        // A clock that jumps while the disk is busy would make records late.
        config.sync = Sync::Never;
    });
    for source in 0..10_001 {
        fold(&trail, Ipv4Addr::from_bits(source).into());
    }
    fold(&trail, Ipv4Addr::from_bits(20_000).into());
    trail.manual_clock.advance(A_MINUTE);
    trail.until(|| trail.lines().len() == 10_002).await;
    let rest: Vec<_> = trail
        .lines()
        .into_iter()
        .filter(|line| line["scope"] == "other_sources")
        .collect();
    assert_eq!((rest.len(), &rest[0]["count"]), (1, &json!(2)));
    assert_eq!(trail.verify().fault, None);
}

#[test]
fn what_cannot_be_put_on_record_at_its_minute_is_so_later() {
    alone(
        "audit::refusals::disk::what_cannot_be_put_on_record_at_its_minute_is_so_later",
        unchanged,
        || {
            run(async {
                survive_file_size_limit().unwrap();
                let trail = Trail::with(|config| {
                    config.refusals_per_minute = 0;
                    // A clock that jumps while the disk is busy would make records late.
                    config.sync = Sync::Never;
                });
                let source = IpAddr::from([192, 0, 2, 7]);
                fold(&trail, source);
                limit(Some(0));
                // That the journal cannot be written is found out by this record.
                trail.manual_clock.advance(A_MINUTE);
                trail.until(|| !trail.audit.is_writable()).await;
                fold(&trail, source);
                trail.advance(A_MINUTE).await;
                fold(&trail, source);
                limit(None);
                trail.until(|| trail.audit.is_writable()).await;
                trail.manual_clock.advance(A_MINUTE);
                // One record or two: the disk may come back before the second minute is over.
                let folded = || {
                    let lines = trail.lines().into_iter();
                    let folds = lines.filter(|line| line["kind"] == "refusals");
                    folds
                        .map(|line| line["count"].as_u64().unwrap())
                        .sum::<u64>()
                };
                trail.until(|| folded() == 3).await;
                assert_eq!(trail.verify().fault, None);
            });
        },
    );
}

/// Row S1 on a disk of a mebibyte, by the kernel's word: it is below the reserve from the beginning.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_leaves_a_small_disk_to_those_who_are_let_in() {
    let (_atlas, files) = world_with(|config| {
        let directory = small_disk().join("audit");
        set(config, "audit.directory", directory.to_str().unwrap());
        // As it is by default.
        number(config, 120);
    })
    .await;
    let serve = serve(files.path());
    let program = Program::run(with_small_disk(&serve).args(serve.get_args()));
    for _ in 0..2_000 {
        let refused = client::exchange(program.address, SHORTEST).await;
        assert_eq!(refused.status, 429);
    }
    for _ in 0..100 {
        let good = client::exchange(program.address, &request("close")).await;
        assert_eq!(good.status, 200);
    }
    program.signal("-TERM");
    let (_, said) = program.end();
    let lines = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    assert_eq!(lines("one record a minute for all refusals"), 1, "{said:?}");
    assert!(
        (1..=2).contains(&lines("refused requests are folded")),
        "{said:?}"
    );
}
