//! What lookups would have cost their callers, and what of that was saved.

use std::ops::ControlFlow;
use std::time::Duration;

use atlas_cert_gateway::audit::search::{Filter, Order, Search, search};
use atlas_cert_gateway::audit::usage::{GroupBy, Usage, UsageCounts};
use atlas_simulator::{Asked, Fault};

use crate::world::{FOREIGN_PROJECT, PROJECT, World, certs, operator_token, set, token, token_of};

/// A world in which `long` has 700 certificates, `full` 500 and `empty` none.
async fn world() -> World {
    World::with(|plan| {
        let mut project = plan.atlas.world.project(PROJECT);
        project.user("long").certificates(700);
        project.user("full").certificates(500);
        project.user("empty");
    })
    .await
}

impl World {
    /// What all lookups so far would have cost, and what of that was saved.
    async fn savings(&self) -> (u64, u64) {
        let would_have_cost = self.metric("lookups_would_have_cost_total").await;
        (
            would_have_cost,
            self.metric("upstream_calls_saved_total").await,
        )
    }

    /// The calls that were made for these causes.
    async fn spent(&self, causes: &[&str]) -> u64 {
        let mut calls = 0;
        for cause in causes {
            let name = format!("upstream_calls_by_cause_total{{cause=\"{cause}\"}}");
            calls += self.metric(&name).await;
        }
        calls
    }

    /// What one more lookup adds to both, with its status and `X-Upstream-Calls`.
    async fn adds(&self, target: &str, headers: &[(&str, &str)]) -> (u16, u64, (u64, u64)) {
        let before = self.savings().await;
        // Only operators may force a refresh here.
        let token = if headers.is_empty() {
            token()
        } else {
            operator_token()
        };
        let ask = self.send("GET", target, &token, headers);
        let reply = self.while_time_passes(ask).await;
        let calls = reply.header("x-upstream-calls").unwrap().parse().unwrap();
        let after = self.savings().await;
        let added = (after.0 - before.0, after.1 - before.1);
        (reply.status, calls, added)
    }
}

#[tokio::test]
async fn a_hit_saves_what_atlas_would_have_charged_for_the_list() {
    let world = world().await;
    for (user, pages) in [
        ("empty", 1),
        ("app1", 1),
        ("full", 1),
        ("long", 2),
        ("many", 3),
    ] {
        let path = certs(PROJECT, user);
        let (status, calls, added) = world.adds(&path, &[]).await;
        assert_eq!((status, added), (200, (pages, 0)), "{user}");
        assert!(calls >= pages, "{user}: {calls}");
        assert_eq!(
            world.adds(&path, &[]).await,
            (200, 0, (pages, pages)),
            "{user}"
        );
    }
}

#[tokio::test]
async fn a_page_out_of_memory_saves_one_call_however_long_the_list_is() {
    let world = world().await;
    let path = certs(PROJECT, "long");
    world.adds(&path, &[]).await;
    for query in [
        "pageNum=1",
        "pageNum=9",
        "itemsPerPage=500",
        "pageNum=2&itemsPerPage=50",
    ] {
        let page = format!("{path}?{query}");
        assert_eq!(world.adds(&page, &[]).await, (200, 0, (1, 1)), "{query}");
    }
    let whole = format!("{path}?includeCount=false&pretty=true");
    assert_eq!(world.adds(&whole, &[]).await, (200, 0, (2, 2)));
}

#[tokio::test]
async fn a_remembered_404_saves_one_call_and_a_fetched_one_none() {
    let world = world().await;
    let path = certs(PROJECT, "nobody");
    assert_eq!(world.adds(&path, &[]).await, (404, 1, (1, 0)));
    assert_eq!(world.adds(&path, &[]).await, (404, 0, (1, 1)));
}

#[tokio::test]
async fn a_list_that_the_caller_has_already_saves_as_much_as_one_that_is_sent() {
    let world = world().await;
    let path = certs(PROJECT, "long");
    let first = world.ask("long").await;
    let tag = first.header("etag").unwrap();
    let unchanged = world.adds(&path, &[("If-None-Match", tag)]).await;
    assert_eq!(unchanged, (304, 0, (2, 2)));
}

#[tokio::test]
async fn a_forced_lookup_saves_nothing_and_takes_nothing_back() {
    let world = world().await;
    let path = certs(PROJECT, "long");
    world.adds(&path, &[]).await;
    world.advance(Duration::from_mins(1));
    let (status, calls, added) = world.adds(&path, &[("Cache-Control", "no-cache")]).await;
    assert_eq!((status, added), (200, (2, 0)));
    assert!(calls >= 2, "{calls}");
    // A page that makes the whole list be read has cost more than it would have.
    let page = format!("{}?pageNum=1", certs(PROJECT, "many"));
    let (status, calls, added) = world.adds(&page, &[]).await;
    assert_eq!((status, added), (200, (1, 0)));
    assert!(calls > 1, "{calls}");
}

#[tokio::test]
async fn what_is_refused_or_fails_would_have_cost_nothing() {
    let world = world().await;
    let fault = Fault::api_error(403, "USER_UNAUTHORIZED", "no");
    world.atlas.on(Asked::certificates()).respond(fault);
    let path = certs(PROJECT, "app1");
    let (status, _, added) = world.adds(&path, &[]).await;
    assert!(status >= 400 && added == (0, 0), "{status} {added:?}");
    world.send("GET", &path, "", &[]).await;
    world.get("/nothing", &[]).await;
    assert_eq!(world.savings().await, (0, 0));
}

#[tokio::test]
async fn what_lookups_would_have_cost_was_saved_or_spent_on_callers() {
    let world = World::with(|plan| {
        set(&mut plan.config, "atlas.limits.proof", "every_page");
        let mut project = plan.atlas.world.project(PROJECT);
        project.user("long").certificates(700);
    })
    .await;
    let fault = Fault::unexpected_error();
    let asked = Asked::certificates().user("app1");
    world.atlas.on(asked).once().respond(fault);
    let no_cache = [("Cache-Control", "no-cache")];
    let mut spent_on_callers = 0;
    for (user, headers) in [
        ("app1", &[][..]),
        ("app1", &[]),
        ("long", &[]),
        ("long", &[]),
        ("nobody", &[]),
        ("nobody", &[]),
        ("long", &no_cache),
        ("app1", &[]),
    ] {
        let (_, calls, _) = world.adds(&certs(PROJECT, user), headers).await;
        spent_on_callers += calls;
    }
    let target = format!("/cache/explain?groupId={PROJECT}&username=app1");
    let explained = world.admin("GET", &target, &operator_token(), "").await;
    let due = explained.json()["list"]["refreshInSeconds"]
        .as_u64()
        .unwrap();
    world.advance(Duration::from_secs(due + 1));
    while world.spent(&["ahead"]).await == 0 {
        world.adds(&certs(PROJECT, "app1"), &[]).await;
    }
    assert_eq!(world.spent(&["ahead"]).await, 1);
    assert_eq!(world.spent(&["forced"]).await, 2);
    assert_eq!(world.spent(&["proof"]).await, 4);
    assert_eq!(world.spent(&["retry"]).await, 1);
    let overhead = world.spent(&["proof", "retry", "restart"]).await;
    let (would_have_cost, saved) = world.savings().await;
    assert_eq!(would_have_cost, saved + spent_on_callers - overhead);
    let all = ["miss", "forced", "ahead", "proof", "retry", "restart"];
    let seen = u64::try_from(world.atlas.certificate_calls()).unwrap();
    assert_eq!(world.spent(&all).await, seen);
    let mut counted = 0;
    for status in [200, 404, 500] {
        let name = format!("upstream_calls_total{{endpoint=\"certificates\",status=\"{status}\"}}");
        counted += world.metric(&name).await;
    }
    assert_eq!(counted, seen);
}

/// The report reckons from the records what the metrics have counted.
#[tokio::test]
async fn the_report_of_the_trail_comes_to_what_the_metrics_say() {
    let world = world().await;
    let fault = Fault::unexpected_error();
    world
        .atlas
        .on(Asked::certificates().user("full"))
        .once()
        .respond(fault);
    let (long, page) = (certs(PROJECT, "long"), certs(PROJECT, "many"));
    let first = world.adds(&long, &[]).await;
    assert_eq!(first.0, 200);
    let tag = world.ask("long").await;
    let tag = tag.header("etag").unwrap();
    let force = [("Cache-Control", "no-cache")];
    for (target, headers) in [
        (&long, &[("If-None-Match", tag)][..]),
        (&certs(PROJECT, "empty"), &[]),
        (&certs(PROJECT, "full"), &[]),
        (&certs(PROJECT, "nobody"), &[]),
        (&certs(PROJECT, "nobody"), &[]),
        (&format!("{page}?pageNum=3"), &[]),
        (&format!("{page}?pageNum=9&itemsPerPage=500"), &[]),
        (&format!("{page}?pretty=true"), &[]),
        (&long, &force),
        (&certs(FOREIGN_PROJECT, "app1"), &[]),
    ] {
        world.adds(target, headers).await;
    }
    world.send("GET", &long, "", &[]).await;
    let (would_have_cost, saved) = world.savings().await;
    assert!(saved > 0 && saved < would_have_cost);
    for (by, rows) in [
        (GroupBy::Day, 1),
        (GroupBy::Project, 2),
        (GroupBy::Rule, 3),
        (GroupBy::Subject, 3),
        (GroupBy::Username, 6),
    ] {
        let mut usage = Usage::new(by);
        let directory = world.files.path().join("audit");
        let all = Filter::default();
        let everything = Search {
            directories: std::slice::from_ref(&directory),
            filter: &all,
            order: Order::OldestFirst,
        };
        search(&everything, &|_| (), |found| {
            usage.add(found.line);
            ControlFlow::Continue(())
        })
        .unwrap();
        let found = usage.rows();
        let total = UsageCounts::total(&found).unwrap();
        assert_eq!(
            (total.would_have_cost, total.saved),
            (would_have_cost, saved)
        );
        assert_eq!(
            (total.lookups, total.denied, total.failed),
            (13, 1, 1),
            "{total:?}"
        );
        assert_eq!(found.len(), rows, "{by:?} {found:?}");
        // A refresh ahead is on no caller's account.
        let on_callers = world
            .spent(&["miss", "forced", "proof", "retry", "restart"])
            .await;
        assert_eq!(total.spent, on_callers);
    }
}

#[tokio::test]
async fn a_rule_is_told_what_its_lookups_cost_and_save() {
    let world = World::with(|plan| {
        let rules = plan.config["access"]["rules"].as_array_mut().unwrap();
        // More than have series of their own.
        for number in 0..120 {
            let rule = format!(
                "name = \"spare-{number}\"\nsubjects = [\"spare\"]\nprojects = [\"*\"]\nusernames = [\"app{number}\"]"
            );
            let rule: toml::Table = rule.parse().unwrap();
            rules.push(rule.into());
        }
    })
    .await;
    let of = async |metric: &str| world.metric(metric).await;
    assert_eq!(
        of("rule_lookups_total{rule=\"payments reads its projects\",cache=\"hit\"}").await,
        0
    );
    for username in ["many", "many", "many", "secret-keeper"] {
        world.ask(username).await;
    }
    for (metric, expected) in [
        (
            "rule_lookups_total{rule=\"payments reads its projects\",cache=\"miss\"}",
            1,
        ),
        (
            "rule_lookups_total{rule=\"payments reads its projects\",cache=\"hit\"}",
            2,
        ),
        (
            "rule_upstream_calls_total{rule=\"payments reads its projects\"}",
            3,
        ),
        (
            "rule_upstream_calls_saved_total{rule=\"payments reads its projects\"}",
            6,
        ),
    ] {
        assert_eq!(of(metric).await, expected, "{metric}");
    }
    let spare = token_of(&serde_json::json!({ "sub": "spare" }));
    world
        .send("GET", &certs(PROJECT, "app119"), &spare, &[])
        .await;
    assert_eq!(
        of("rule_lookups_total{rule=\"(others)\",cache=\"miss\"}").await,
        1
    );
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let series = page
        .lines()
        .filter(|line| line.contains("rule_upstream_calls_total{"));
    assert_eq!(series.count(), 101);
    assert!(!page.contains("rule=\"nobody reads secrets\""), "{page}");
}
