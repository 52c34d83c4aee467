//! A restart while Atlas is down: the next process goes on with the lists of the last one, as old as they are
//! and no older than they may be.

mod damaged;
mod purged;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::Timestamp;
use atlas_simulator::{Asked, Fault};
use serde_json::Value;

use crate::client::Reply;
use crate::world::{NOW, PROJECT, Plan, World, operator_token, set, use_api_key};

/// A gateway that keeps its lists, and asks Atlas by an API key.
async fn world(change: impl FnOnce(&mut Plan)) -> World {
    World::with(|plan| {
        use_api_key(&mut plan.config);
        keep_lists(&mut plan.config);
        change(plan);
    })
    .await
}

/// Has the lists kept for the next process.
fn keep_lists(config: &mut toml::Table) {
    let state = config["atlas"]["state_directory"].as_str().unwrap();
    let lists = format!("{state}/lists");
    set(config, "cache.snapshot", lists);
    // As short as it goes: while a test waits, time passes slowly.
    set(config, "cache.snapshot_interval", "10s");
}

/// The files of a snapshot.
fn snapshots(files: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(files.join("state/lists"));
    let paths = found.into_iter().flatten().map(|it| it.unwrap().path());
    let mut lists: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "lists"))
        .collect();
    lists.sort();
    lists
}

fn atlas_is_down(world: &World) {
    world
        .atlas
        .on(Asked::anything())
        .respond(Fault::unexpected_error());
}

async fn ask(world: &World, username: &str) -> Reply {
    world.while_time_passes(world.ask(username)).await
}

/// What `Cache-Status` says behind the cache's name.
fn cache_status(reply: &Reply) -> String {
    let status = reply.header("cache-status").unwrap();
    status.replace("atlas-cert-gateway; ", "")
}

/// What explain says of where the list of `app1` is from.
async fn is_restored(world: &World) -> Value {
    let target = format!("/cache/explain?groupId={PROJECT}&username=app1");
    let explained = world.admin("GET", &target, &operator_token(), "").await;
    explained.json()["list"]["restored"].clone()
}

fn restorations(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["action"] == "restored");
    records
}

async fn refused(world: &World, reason: &str) -> u64 {
    let name = format!("cache_not_restored_total{{reason=\"{reason}\"}}");
    world.metric(&name).await
}

#[tokio::test]
async fn after_a_restart_without_atlas_a_list_goes_on_with_its_true_age() {
    let world = world(|_| {}).await;
    let first = ask(&world, "app1").await;
    assert_eq!(is_restored(&world).await, false);
    world.advance(Duration::from_mins(1));
    atlas_is_down(&world);
    let world = world
        .restart(|_, clock| clock.advance(Duration::from_secs(30)))
        .await;
    let again = world.ask("app1").await;
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(again.header("age"), Some("90"));
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(again.header("x-upstream-calls"), Some("0"));
    let status = cache_status(&again);
    assert!(status.starts_with("hit; ttl="), "{status}");
    assert!(status.ends_with("; detail=restored"), "{status}");
    assert_eq!(is_restored(&world).await, true);
    let lookups = world.lookups();
    assert_eq!(lookups[1]["cache"], "hit");
    assert_eq!(lookups[1]["fill_id"], lookups[0]["fill_id"]);
    let restored = restorations(&world);
    assert_eq!(restored.len(), 1);
    assert_eq!(restored[0]["kind"], "admin");
    assert_eq!(
        (&restored[0]["entries"], &restored[0]["outcome"]),
        (&Value::from(1), &Value::from("answered"))
    );
    assert_eq!(world.metric("cache_restored_total").await, 1);
    // Past its time it is served because Atlas cannot answer, and says that it is of the last process.
    world.advance(Duration::from_mins(5));
    let stale = ask(&world, "app1").await;
    let status = cache_status(&stale);
    assert_eq!(stale.status, 200);
    assert!(
        status.ends_with("; detail=stale-if-error-restored"),
        "{status}"
    );
    // Once it is fetched anew, it is like any other.
    world.atlas.clear_script();
    world.advance(Duration::from_mins(1));
    let renewed = ask(&world, "app1").await;
    assert_eq!(cache_status(&renewed), "fwd=stale; stored");
    let hit = ask(&world, "app1").await;
    assert!(!cache_status(&hit).contains("restored"));
}

#[tokio::test]
async fn a_rolling_restart_of_two_hundred_lists_in_use_costs_no_call() {
    let world = world(|plan| {
        let mut project = plan.atlas.world.project(PROJECT);
        for number in 0..200 {
            project.user(&format!("hot-{number}")).certificates(2);
        }
    })
    .await;
    for number in 0..200 {
        assert_eq!(world.ask(&format!("hot-{number}")).await.status, 200);
    }
    let calls = world.atlas.certificate_calls();
    let world = world.restart(|_, _| {}).await;
    for number in 0..200 {
        let reply = world.ask(&format!("hot-{number}")).await;
        assert_eq!(reply.status, 200);
        assert!(cache_status(&reply).ends_with("detail=restored"));
    }
    assert_eq!(world.atlas.certificate_calls(), calls);
    assert_eq!(restorations(&world)[0]["entries"], 200);
}

#[tokio::test]
async fn after_another_boot_a_list_is_never_fresh_and_bridges_an_outage_alone() {
    let reboot = |_: &Path, clock: &atlas_cert_gateway::system::ManualClock| {
        clock.advance(Duration::from_secs(20));
        clock.reboot();
    };
    let well = world(|_| {}).await;
    ask(&well, "app1").await;
    let well = well.restart(reboot).await;
    assert_eq!(cache_status(&ask(&well, "app1").await), "fwd=stale; stored");
    let ill = world(|_| {}).await;
    ask(&ill, "app1").await;
    atlas_is_down(&ill);
    let ill = ill.restart(reboot).await;
    let reply = ask(&ill, "app1").await;
    let status = cache_status(&reply);
    assert_eq!(reply.status, 200);
    assert!(
        status.ends_with("; detail=stale-if-error-restored"),
        "{status}"
    );
    let age: u64 = reply.header("age").unwrap().parse().unwrap();
    assert!((20..40).contains(&age), "{age}");
    // And so it stays, also for a process after that one.
    let ill = ill.restart(|_, _| {}).await;
    let status = cache_status(&ask(&ill, "app1").await);
    assert!(
        status.ends_with("; detail=stale-if-error-restored"),
        "{status}"
    );
}

#[tokio::test]
async fn a_clock_set_back_neither_shortens_an_age_nor_brings_a_list_back() {
    let back = Timestamp::parse(NOW)
        .unwrap()
        .minus(Duration::from_hours(5));
    // On the same boot it does not matter what the calendar says.
    let same = world(|_| {}).await;
    ask(&same, "app1").await;
    same.advance(Duration::from_secs(100));
    atlas_is_down(&same);
    let same = same.restart(|_, clock| clock.set_wall(back)).await;
    assert_eq!(same.metric("cache_restored_total").await, 1);
    same.clock.set_wall(Timestamp::parse(NOW).unwrap());
    assert_eq!(same.ask("app1").await.header("age"), Some("100"));
    // After another one there is nothing else to go by.
    for (set_to, reason) in [
        (back, "future"),
        (
            Timestamp::parse(NOW).unwrap().plus(Duration::from_hours(2)),
            "old",
        ),
    ] {
        let other = world(|_| {}).await;
        ask(&other, "app1").await;
        atlas_is_down(&other);
        let other = other
            .restart(|_, clock| {
                clock.reboot();
                clock.set_wall(set_to);
            })
            .await;
        assert_eq!(refused(&other, reason).await, 1, "{reason}");
        assert_eq!(other.metric("cache_restored_total").await, 0);
        other.clock.set_wall(Timestamp::parse(NOW).unwrap());
        assert!(ask(&other, "app1").await.status >= 500, "{reason}");
    }
}

#[tokio::test]
async fn a_list_past_the_time_of_an_outage_is_not_taken_over() {
    let world = world(|_| {}).await;
    ask(&world, "app1").await;
    atlas_is_down(&world);
    let hours = Duration::from_hours(1) + Duration::from_mins(7);
    let world = world.restart(|_, clock| clock.advance(hours)).await;
    assert_eq!(refused(&world, "old").await, 1);
    assert!(ask(&world, "app1").await.status >= 500);
    assert_eq!(restorations(&world)[0]["entries"], 0);
}

#[tokio::test]
async fn a_certificate_that_has_expired_since_is_cut_from_what_was_restored() {
    let world = world(|plan| {
        set(&mut plan.config, "cache.stale_if_error", "1d");
        let now = SystemTime::from(Timestamp::parse(NOW).unwrap());
        let mut project = plan.atlas.world.project(PROJECT);
        let end = now + Duration::from_hours(2);
        project.user("ends").certificate_until(end);
    })
    .await;
    assert_eq!(ask(&world, "ends").await.json()["totalCount"], 1);
    atlas_is_down(&world);
    let world = world
        .restart(|_, clock| clock.advance(Duration::from_mins(150)))
        .await;
    assert_eq!(ask(&world, "ends").await.json()["totalCount"], 0);
}
