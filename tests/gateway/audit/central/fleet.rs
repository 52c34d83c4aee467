//! `GET /audit/lookups?scope=fleet`: the trail of all replicas, by way of any of them.

use std::time::Duration;

use serde_json::Value;

use crate::access::add_rule;
use crate::audit::central::shipped::{central_trail, record_named, until_shipped};
use crate::client::Reply;
use crate::harness::postgres::Postgres;
use crate::world::{PROJECT, Plan, World, every, operator_token, set};

#[tokio::test]
async fn an_operator_reads_the_trail_of_all_replicas_page_by_page() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let other = central_trail(&postgres, |_| ());
    record_named(&other, "by way of another replica").await;
    until_shipped(&other, &postgres).await;
    let world = world(&postgres, |_| ()).await;
    for name in ["app1", "nobody", "app1"] {
        world.ask(name).await;
    }
    shipped(&world, &postgres, 3).await;
    // Not shipped: the clock stands still.
    world.ask("app1").await;

    let all = page(&fleet(&world, "").await);
    let own = page(&lookups(&world, "").await);
    assert_eq!((own.records.len(), all.records.len()), (4, 5));
    let theirs = all.records.iter().filter(|it| it["replica"] == "test");
    assert_eq!(theirs.count(), 1);
    let without_theirs = all.records.iter().filter(|it| it["replica"] != "test");
    assert!(without_theirs.eq(&own.records));
    let chains = all.body["chains"].as_array().unwrap();
    let of_other = chains.iter().find(|it| it["replica"] == "test").unwrap();
    assert_eq!(of_other["chain"], other.chain());
    assert_eq!(of_other["seq"], 2);
    assert!(chains.len() == 2 && chains.iter().all(|it| it["shipped"].is_string()));

    for order in ["newest", "oldest"] {
        let whole = page(&fleet(&world, &format!("&first={order}")).await);
        let mut pages = Vec::new();
        let mut behind = String::new();
        loop {
            let query = format!("&first={order}&limit=2{behind}");
            let part = page(&fleet(&world, &query).await);
            pages.extend(part.records);
            let Some(next) = part.body["next"].as_str() else {
                break;
            };
            behind = format!("&behind={next}");
        }
        assert_eq!(pages, whole.records, "{order}");
    }
    let one = page(&fleet(&world, "&username=nobody").await);
    assert_eq!(one.records.len(), 1);

    postgres.stop(rustix::process::Signal::QUIT);
    let away = fleet(&world, "").await;
    assert_eq!(away.status, 503);
    assert!(
        away.text()
            .contains("The database of the central audit trail"),
        "{}",
        away.text()
    );
    assert_eq!(lookups(&world, "").await.status, 200);
}

#[tokio::test]
async fn what_is_denied_to_an_operator_is_in_no_answer_about_all_replicas() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let other = central_trail(&postgres, |_| ());
    record_named(&other, "one").await;
    until_shipped(&other, &postgres).await;
    let world = world(&postgres, |plan| {
        let rule = format!(
            "name = \"not these\"\nsubjects = [\"operator\"]\nprojects = [\"{PROJECT}\"]\n\
             usernames = [\"app\", \"app1\"]\ndeny = true"
        );
        add_rule(&mut plan.config, &rule);
    })
    .await;
    for name in ["app1", "many"] {
        world.ask(name).await;
    }
    for records in [1, 2] {
        let all = page(&fleet(&world, "&first=oldest&limit=1").await);
        assert_eq!(all.records.len(), 1, "{:?}", all.body);
        assert_eq!(all.records[0]["username"], "many");
        // From the directory first, and then from the database.
        shipped(&world, &postgres, records).await;
    }
}

#[tokio::test]
async fn a_database_that_is_away_degrades_readiness_and_keeps_no_caller_waiting() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let world = world(&postgres, |_| ()).await;
    world.ask("app1").await;
    shipped(&world, &postgres, 1).await;
    postgres.stop(rustix::process::Signal::QUIT);
    let until_degraded = async {
        loop {
            let ready = world.admin("GET", "/readyz", "", "").await;
            assert_eq!(ready.status, 200);
            if ready.text().contains("\"database\"") {
                break;
            }
        }
    };
    world.while_time_passes(until_degraded).await;
    assert_eq!(world.ask("app1").await.status, 200);
}

/// A search of everything would take an hour, and the operator hears after half a minute.
#[tokio::test]
async fn a_search_that_hangs_in_the_database_ends_after_thirty_seconds() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let world = world(&postgres, |_| ()).await;
    world.ask("app1").await;
    shipped(&world, &postgres, 1).await;
    let slow = "ALTER TABLE audit.record RENAME TO kept; \
                CREATE VIEW audit.record AS SELECT kept.* FROM audit.kept, pg_sleep(3600); \
                GRANT SELECT ON audit.record TO audit_shipper";
    postgres.execute(slow).await;
    let before = world.clock.now().wall;
    let reply = world.while_time_passes(fleet(&world, "")).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    let took = world.clock.now().wall.since(before);
    assert!(took >= Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn the_fleet_is_searched_only_where_there_is_a_database() {
    let world = World::new().await;
    for (query, told) in [
        ("", "`[audit.database]`"),
        ("&scope=fleet", "`scope` once"),
        ("&behind=7", "`behind` what `next`"),
    ] {
        let refused = fleet(&world, query).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().contains(told), "{query}: {}", refused.text());
    }
}

/// A gateway whose trail is shipped.
async fn world(postgres: &Postgres, change: impl FnOnce(&mut Plan)) -> World {
    let url = postgres.url("gateway_audit");
    World::with(|plan| {
        set(&mut plan.config, "audit.database.url", url);
        set(&mut plan.config, "audit.sync", "never");
        change(plan);
    })
    .await
}

/// Lets time pass until the database has so many lookups of this gateway.
async fn shipped(world: &World, postgres: &Postgres, lookups: i64) {
    let count = "SELECT count(*) FROM audit.record JOIN audit.chain ON chain.id = record.chain \
                 WHERE kind = 'lookup' AND replica <> 'test'";
    let mut glances = every(Duration::from_millis(5));
    while postgres.number(count).await < lookups {
        world.advance(Duration::from_millis(100));
        glances.tick().await;
    }
}

struct Page {
    body: Value,
    records: Vec<Value>,
}

fn page(reply: &Reply) -> Page {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let records = body["records"].as_array().unwrap().clone();
    Page { body, records }
}

async fn fleet(world: &World, query: &str) -> Reply {
    let target = format!("/audit/lookups?scope=fleet{query}");
    world.admin("GET", &target, &operator_token(), "").await
}

async fn lookups(world: &World, query: &str) -> Reply {
    let target = format!("/audit/lookups?limit=100{query}");
    world.admin("GET", &target, &operator_token(), "").await
}
