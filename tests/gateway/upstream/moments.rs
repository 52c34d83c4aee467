//! Lists that change while they are read: of one moment, or not at all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use atlas_simulator::{Asked, Fault, ListOrder, Simulator, World as Projects};
use proptest::prelude::*;
use serde_json::json;

use crate::upstream::world::{PROJECT, World, outcome, serials};

/// Changes what `app1` has once page `number` has been answered for the `nth` time.
fn then(
    atlas: &Simulator,
    number: u32,
    nth: usize,
    change: impl Fn(&mut Projects) + Send + Sync + 'static,
) {
    let asked = Asked::certificates().page(number);
    atlas.on(asked).nth(nth).respond(Fault::then(change));
}

fn revoke(projects: &mut Projects, place: usize) {
    let mut project = projects.project(PROJECT);
    let mut user = project.user("app1");
    let serial = user.serials().get(place).copied();
    if let Some(serial) = serial {
        user.remove_certificate(serial);
    }
}

fn issue(projects: &mut Projects) {
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    projects
        .project(PROJECT)
        .user("app1")
        .certificate_until(until);
}

#[tokio::test]
async fn u42_a_revocation_between_pages_begins_the_list_again() {
    let world = World::of(1_203).await;
    then(&world.atlas, 1, 1, |projects| revoke(projects, 3));
    let fetched = world.ask().await.unwrap();
    assert_eq!(serials(&fetched), world.held());
    assert_eq!(fetched.list.len(), 1_202);
    assert_eq!(fetched.stats.calls, 6);
}

#[tokio::test]
async fn u43_an_issue_between_pages_begins_the_list_again() {
    let world = World::of(1_203).await;
    then(&world.atlas, 1, 1, issue);
    let fetched = world.ask().await.unwrap();
    assert_eq!(serials(&fetched), world.held());
    assert_eq!(fetched.list.len(), 1_204);
}

#[tokio::test]
async fn u44_a_revocation_and_an_issue_that_keep_the_count_begin_the_list_again() {
    // On the first page, on the second, and at its very end; after the first page was read.
    for place in [3, 600, 999, 1_200] {
        let world = World::of(1_203).await;
        then(&world.atlas, 1, 1, move |projects| {
            revoke(projects, place);
            issue(projects);
        });
        let fetched = world.ask().await.unwrap();
        assert_eq!(serials(&fetched), world.held(), "{place}");
    }
}

#[tokio::test]
async fn u44_a_revocation_and_an_issue_behind_the_first_page_are_noticed() {
    // The second page is read, then a certificate of it goes and another comes, then the third page
    // is read: all counts agree, nothing stands there twice, and the first page is as it was.
    let world = World::of(1_203).await;
    let third = world.atlas.on(Asked::certificates().page(3)).once().hold();
    let (fetched, ()) = tokio::join!(world.ask(), async {
        world
            .atlas
            .wait_for_calls(atlas_simulator::Endpoint::Certificates, 3)
            .await;
        third.arrived(1).await;
        while world.atlas.answers(200) < 3 {
            tokio::task::yield_now().await;
        }
        world.atlas.world(|projects| {
            revoke(projects, 600);
            issue(projects);
        });
        third.open();
    });
    let fetched = fetched.unwrap();
    assert_eq!(serials(&fetched), world.held());
    assert_eq!(world.metrics.fetches_restarted.get(), 1);
    assert_eq!(fetched.stats.calls, 9);
}

#[tokio::test]
async fn a_list_that_never_stands_still_is_given_up_after_three_readings() {
    let world = World::of(1_203).await;
    let asked = Asked::certificates().page(1);
    world.atlas.on(asked).respond(Fault::then(issue));
    assert_eq!(outcome(&world.ask().await), "inconsistent");
    assert_eq!(world.atlas.certificate_calls(), 9);
}

#[tokio::test]
async fn u45_readings_that_agree_are_the_list_whatever_is_counted() {
    let world = World::of(1_203).await;
    for page in 1..=3 {
        let asked = Asked::certificates().page(page);
        world.atlas.on(asked).respond(Fault::json(move |document| {
            document["totalCount"] = json!(1_200 + page);
        }));
    }
    let fetched = world.ask().await.unwrap();
    assert_eq!(serials(&fetched), world.held());
    // The pages of the first were read at once, which proves nothing without a count.
    assert_eq!(fetched.stats.calls, 9);
}

#[tokio::test]
async fn u46_a_server_that_gives_the_same_page_for_ever_is_given_up() {
    let world = World::of(500).await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::json(|document| {
            document["links"] = json!([{"rel": "next"}]);
            for (id, item) in document["results"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .enumerate()
            {
                item["_id"] = json!(id);
            }
        }));
    let whole = world.atlas.world(|atlas| atlas.unexpired(PROJECT, "app1"));
    assert_eq!(whole.len(), 500);
    let same: Vec<_> = (0..500)
        .map(|id| json!({"_id": id, "notAfter": "2030-01-01T00:00:00Z"}))
        .collect();
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::json(move |document| {
            document["results"] = json!(same);
        }));
    assert_eq!(outcome(&world.ask().await), "invalid");
    assert!(world.atlas.certificate_calls() <= 20);
}

/// An issue moves a certificate to a page that was read before its own, and a revocation moves it away from it
/// before the second reading: both readings lack it, and they agree.
#[test]
fn readings_that_agree_and_are_not_as_counted_are_no_proof() {
    let changes = vec![(2, 2, Change::Revoke(1)), (3, 1, Change::Issue)];
    for _ in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let shape = (ListOrder::BySerial, 0);
        let checked = check(1_105, changes.clone(), vec![(2, 1, 1)], shape, true);
        runtime.block_on(checked).unwrap();
    }
}

#[tokio::test]
async fn u48_a_user_deleted_between_pages_is_gone() {
    let world = World::of(1_203).await;
    then(&world.atlas, 1, 1, |projects| {
        projects.project(PROJECT).remove_user("app1");
    });
    assert_eq!(outcome(&world.ask().await), "404 USERNAME_NOT_FOUND");
}

/// What happens to the certificates while they are read.
#[derive(Clone, Copy, Debug)]
enum Change {
    Issue,
    Revoke(usize),
    /// One after the other.
    Replace(usize),
    /// At the same moment.
    Exchange(usize),
}

fn changes() -> impl Strategy<Value = Vec<(u32, usize, Change)>> {
    let place = 0..1_300_usize;
    let change = prop_oneof![
        Just(Change::Issue),
        place.clone().prop_map(Change::Revoke),
        place.clone().prop_map(Change::Replace),
        place.prop_map(Change::Exchange),
    ];
    prop::collection::vec((1..=3_u32, 1..=4_usize, change), 0..6)
}

/// Answers that are late, so that pages asked for at once are answered in any order: milliseconds.
fn delays() -> impl Strategy<Value = Vec<(u32, usize, u64)>> {
    prop::collection::vec((1..=4_u32, 1..=3_usize, 1..=4_u64), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_between_pages_every_list_is_of_one_moment(
        count in prop_oneof![Just(2_u32), 495..505_u32, 995..1_005_u32, 1_100..1_300_u32],
        changes in changes(),
        delays in delays(),
        order in prop_oneof![
            Just(ListOrder::BySerial),
            Just(ListOrder::NewestFirst),
            Just(ListOrder::OldestFirst),
        ],
        // Else one certificate is too young for one reading to prove anything.
        old in any::<bool>(),
        // More than changes could make up for.
        miscount in prop_oneof![3 => Just(0), 1 => Just(20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(count, changes, delays, (order, miscount), old))?;
    }
}

async fn check(
    count: u32,
    changes: Vec<(u32, usize, Change)>,
    delays: Vec<(u32, usize, u64)>,
    (order, miscount): (ListOrder, i64),
    old: bool,
) -> Result<(), TestCaseError> {
    let world = World::of(count).await;
    world.atlas.world(|projects| {
        let mut project = projects.project(PROJECT);
        project.user("app1").order(order).miscount(miscount);
        if !old {
            issue(projects);
        }
    });
    for (page, nth, late) in delays {
        let asked = Asked::certificates().page(page);
        let late = Duration::from_millis(late);
        world.atlas.on(asked).nth(nth).respond(Fault::delay(late));
    }
    let moments = Arc::new(Mutex::new(HashSet::from([world.held()])));
    for (page, nth, change) in changes {
        let moments = Arc::clone(&moments);
        then(&world.atlas, page, nth, move |projects| {
            match change {
                Change::Issue => issue(projects),
                Change::Revoke(place) => revoke(projects, place),
                Change::Replace(place) => {
                    revoke(projects, place);
                    let half_way = serials_in(projects);
                    moments.lock().unwrap().insert(half_way);
                    issue(projects);
                }
                Change::Exchange(place) => {
                    revoke(projects, place);
                    issue(projects);
                }
            }
            moments.lock().unwrap().insert(serials_in(projects));
        });
    }
    match world.ask().await {
        Ok(fetched) => {
            let list = serials(&fetched);
            prop_assert!(moments.lock().unwrap().contains(&list));
        }
        Err(error) => {
            let name = crate::upstream::world::name(&error.reason);
            prop_assert!(name == "inconsistent", "{name}");
        }
    }
    Ok(())
}

fn serials_in(projects: &Projects) -> Vec<i64> {
    let certificates = projects.unexpired(PROJECT, "app1");
    certificates
        .iter()
        .map(|certificate| certificate.serial)
        .collect()
}
