//! Lists: whole, exact, and asked for in one way only.

use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::upstream::{Api, Proof, Urgency};
use atlas_simulator::{Asked, Fault};
use serde_json::{Value, json};

use crate::upstream::world::{PROJECT, World, outcome, serials};

#[tokio::test]
async fn a_list_of_any_length_is_whole_and_costs_what_it_must() {
    for (count, pages, calls) in [
        (0, 1, 1),
        (2, 1, 1),
        (499, 1, 1),
        (500, 1, 1),
        (501, 2, 2),
        (1_203, 3, 3),
        (10_000, 20, 20),
    ] {
        let world = World::of(count).await;
        let fetched = world.ask().await.unwrap();
        assert_eq!(serials(&fetched), world.held(), "{count}");
        assert_eq!(
            (fetched.stats.pages, fetched.stats.calls),
            (pages, calls),
            "{count}"
        );
        assert_eq!(
            world.atlas.certificate_calls(),
            usize::try_from(calls).unwrap()
        );
        assert_eq!(fetched.stats.credential.as_ref(), "platform");
        assert_eq!(fetched.stats.status.unwrap().as_u16(), 200);
    }
}

#[tokio::test]
async fn the_pages_of_a_long_list_are_asked_for_at_once_while_nobody_else_asks() {
    let world = World::of(9_990).await;
    let further = world.atlas.on(Asked::certificates()).after(1).hold();
    let mut asking = Box::pin(world.ask());
    tokio::select! {
        result = &mut asking => panic!("{}", outcome(&result)),
        () = further.arrived(19) => {}
    }
    for _ in 0..19 {
        assert_eq!(further.arrivals(), 19);
        further.release_one();
    }
    assert_eq!(outcome(&asking.await), "9990 certificates");
}

#[tokio::test]
async fn a_list_longer_than_twenty_pages_is_refused_after_one_call() {
    let world = World::of(10_001).await;
    assert_eq!(outcome(&world.ask().await), "invalid");
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn each_proof_costs_what_its_setting_says() {
    for (proof, calls) in [
        (Proof::CreatedAt, 3),
        (Proof::FirstPage, 4),
        (Proof::EveryPage, 6),
    ] {
        let world = World::with(
            |settings| {
                settings
                    .world
                    .project(PROJECT)
                    .user("app1")
                    .certificates(1_201);
            },
            |config| config.limits.proof = proof,
        )
        .await;
        let fetched = world.ask().await.unwrap();
        assert_eq!((fetched.list.len(), fetched.stats.calls), (1_203, calls));
    }
}

#[tokio::test]
async fn what_one_reading_does_not_prove_is_read_a_second_time() {
    let young = |atlas: &mut atlas_simulator::World| {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let mut project = atlas.project(PROJECT);
        project.user("app1").certificate_until(until);
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let without = |name: &'static str| {
        Fault::json(move |document| {
            for item in document["results"].as_array_mut().unwrap() {
                item.as_object_mut().unwrap().remove(name);
            }
        })
    };
    for (case, since, fault, calls) in [
        ("made this moment", minutes(0), None, 6),
        ("made four minutes ago", minutes(4), None, 6),
        ("made five minutes ago", minutes(5), None, 3),
        ("no createdAt", minutes(9), Some(without("createdAt")), 6),
        (
            "no Date",
            minutes(9),
            Some(Fault::without_header("date")),
            6,
        ),
        (
            "no date",
            minutes(9),
            Some(Fault::header("date", "tomorrow")),
            6,
        ),
        (
            "an odd createdAt",
            minutes(9),
            Some(Fault::json(|document| {
                document["results"][0]["createdAt"] = json!(1_786_327_595);
            })),
            6,
        ),
    ] {
        let world = World::of(1_202).await;
        world.atlas.world(young);
        world.manual_clock.advance(since);
        if let Some(fault) = fault {
            world.atlas.on(Asked::certificates()).respond(fault);
        }
        let fetched = world.ask().await.unwrap();
        assert_eq!(serials(&fetched), world.held(), "{case}");
        assert_eq!(fetched.stats.calls, calls, "{case}");
    }
}

#[tokio::test]
async fn a_count_that_is_off_costs_a_reading_more_and_one_in_order_of_many_pages() {
    for (held, miscount, calls) in [
        (2, 1, 1),
        (2, -1, 1),
        (2, -2, 1),
        (0, 4, 1),
        (499, 1, 1),
        (500, 1, 1),
        (500, -1, 1),
        (2, 1_000_000_000, 1),
        (501, -1, 4),
        (1_203, 1, 9),
        (1_203, 600, 10),
        // Nothing says how many pages there are, so they are read in order at once.
        (1_203, -1_203, 6),
    ] {
        let world = World::of(held).await;
        world.atlas.world(|atlas| {
            let mut project = atlas.project(PROJECT);
            project.user("app1").miscount(miscount);
        });
        let fetched = world.ask().await.unwrap();
        assert_eq!(serials(&fetched), world.held(), "{held} and {miscount}");
        assert_eq!(fetched.stats.calls, calls, "{held} and {miscount}");
        assert_eq!(world.metrics.lists_miscounted.get(), 1);
    }
}

#[tokio::test]
async fn a_certificate_without_an_end_is_kept_and_counted() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::json(|document| {
            let item = document["results"][1].as_object_mut().unwrap();
            item.remove("notAfter");
        }));
    let fetched = world.ask().await.unwrap();
    let ends: Vec<_> = fetched.list.iter().map(|one| one.not_after).collect();
    assert_eq!(ends[1], Timestamp::MAX);
    assert_eq!(world.metrics.certificates_without_end.get(), 1);
}

#[tokio::test]
async fn no_byte_of_a_certificate_changes_and_unknown_members_are_kept() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::body(|body| {
            let text = String::from_utf8(body.to_vec()).unwrap();
            text.replacen(
                "\"subject\"",
                "\"new\" : {\"a\":[1e3, 18446744073709551616]},\n\"subject\"",
                1,
            )
            .into()
        }));
    let fetched = world.ask().await.unwrap();
    let text = String::from_utf8(fetched.list.joined().to_vec()).unwrap();
    assert!(
        text.contains("\"new\" : {\"a\":[1e3, 18446744073709551616]},\n\"subject\""),
        "{text}"
    );
    assert_eq!(fetched.list.len(), 2);
}

#[tokio::test]
async fn u47_a_server_that_gives_fewer_items_than_asked_for_is_read_to_the_end() {
    let world = World::of(203).await;
    cap_pages(&world, 100);
    let fetched = world.ask().await.unwrap();
    assert_eq!(serials(&fetched), world.held());
}

/// Makes Atlas ignore `itemsPerPage=500`: pages of `size` instead.
fn cap_pages(world: &World, size: usize) {
    for page in 1..=5 {
        let from = (page - 1) * size;
        let slice = move |document: &mut Value| {
            document["results"] = json!([]);
            document["from"] = json!(from);
        };
        let whole = world.atlas.world(|atlas| atlas.unexpired(PROJECT, "app1"));
        let items: Vec<Value> = whole
            .iter()
            .skip(from)
            .take(size)
            .map(|one| json!({"_id": one.serial, "notAfter": "2030-01-01T00:00:00Z"}))
            .collect();
        let total = whole.len();
        let number = u32::try_from(page).unwrap();
        let fault = Fault::json(move |document| {
            slice(document);
            document["results"] = json!(items);
            document["totalCount"] = json!(total);
            document["links"] = json!([{"rel": if from + size < total { "next" } else { "self" }}]);
        });
        world
            .atlas
            .on(Asked::certificates().page(number))
            .respond(fault);
    }
}

#[tokio::test]
async fn what_is_sent_is_exactly_this_and_nothing_of_a_callers() {
    let world = World::new().await;
    world.ask().await.unwrap();
    let seen = world.atlas.requests().pop().unwrap();
    assert_eq!(
        seen.target,
        format!(
            "/api/atlas/v2/groups/{PROJECT}/databaseUsers/app1/certs\
             ?itemsPerPage=500&includeCount=true&pageNum=1"
        )
    );
    let mut names: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "accept-encoding",
        "authorization",
        "host",
        "user-agent",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        seen.headers["accept"],
        "application/vnd.atlas.2023-01-01+json"
    );
    assert_eq!(seen.headers["accept-encoding"], "identity");
    let agent = concat!("atlas-cert-gateway/", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen.headers["user-agent"], agent);
}

#[tokio::test]
async fn every_legal_name_reaches_its_own_user_byte_for_byte() {
    let names = [
        "CN=app1",
        "C=US,ST=California,O=PAN Inc.,CN=appsvc-dev",
        "arn:aws:iam::123456789012:user/app",
        "idp/group",
        "100%",
        "a+b c",
        "..;",
        "a//b",
        "ünïcødé",
        "a?b#c",
        "\"quoted\\\"",
    ];
    let world = World::with(
        |settings| {
            let mut project = settings.world.project(PROJECT);
            for (count, name) in (1..).zip(names) {
                project.user(name).certificates(count);
            }
        },
        |_| (),
    )
    .await;
    for (count, name) in (1..).zip(names) {
        let fetched = world.ask_for(PROJECT, name, Urgency::Miss).await;
        assert_eq!(fetched.unwrap().list.len(), count, "{name}");
    }
}

#[tokio::test]
async fn the_older_api_gives_the_same_list() {
    let world = World::with(|_| (), |config| config.api = Api::V1).await;
    let fetched = world.ask().await.unwrap();
    assert_eq!(serials(&fetched), world.held());
    let seen = world.atlas.requests().pop().unwrap();
    assert!(seen.target.starts_with("/api/atlas/v1.0/groups/"));
    assert_eq!(seen.headers["accept"], "application/json");
}

#[tokio::test]
async fn u04_links_of_atlas_are_never_followed() {
    let world = World::of(501).await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::json(|document| {
            document["links"] = json!([
                {"rel": "next", "href": "http://127.0.0.1:1/evil"},
                {"rel": "next", "href": "file:///etc/passwd"}
            ]);
        }));
    assert_eq!(world.ask().await.unwrap().list.len(), 501);
}

#[tokio::test]
async fn the_age_counts_from_the_answer_with_the_first_page() {
    let world = World::of(501).await;
    let second = world.atlas.on(Asked::certificates().page(2)).hold();
    let before = world.clock.now();
    let (fetched, ()) = tokio::join!(world.ask_at_once(), async {
        second.arrived(1).await;
        world.manual_clock.advance(Duration::from_millis(900));
        second.open();
    });
    let fetched = fetched.unwrap();
    assert_eq!(fetched.answered_at, before);
    assert_eq!(fetched.stats.duration, Duration::from_millis(900));
}

#[tokio::test]
async fn a_project_without_a_credential_is_never_asked_about() {
    let world = World::with(
        |_| (),
        |config| config.credentials[0].projects = vec!["5e*".to_owned()],
    )
    .await;
    assert_eq!(outcome(&world.ask().await), "no credential");
    assert_eq!(world.atlas.all_calls(), 0);
}
