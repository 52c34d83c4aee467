//! The access rules as callers and operators meet them: what is denied shows nowhere, what rules give adds up,
//! the deny list holds at once, and why is explained.

mod explained;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use atlas_simulator::Asked;
use serde_json::{Value, json};

use crate::reload::Scene;
use crate::world::{
    FOREIGN_PROJECT, OTHER_PROJECT, PROJECT, Plan, World, certs, operator_token, token, token_of,
};

/// Adds a rule, as it is written in the file.
pub(crate) fn add_rule(config: &mut toml::Table, rule: &str) {
    let rule: toml::Table = rule.parse().unwrap();
    let rules = config["access"]["rules"].as_array_mut().unwrap();
    rules.push(toml::Value::Table(rule));
}

/// Where the files of a planned world are.
fn files(plan: &Plan) -> PathBuf {
    let audit = plan.config["audit"]["directory"].as_str().unwrap();
    PathBuf::from(audit).parent().unwrap().to_owned()
}

fn explain_access(of: &str) -> String {
    format!("/access/explain?groupId={PROJECT}&{of}")
}

async fn purge(world: &World, what: &Value) -> (u16, Value) {
    let what = what.to_string();
    let reply = world
        .admin("POST", "/cache/purge", &operator_token(), &what)
        .await;
    (reply.status, reply.json())
}

/// Whether a metric has this value within a second of the clock. A look at a file is taken on a thread of its
/// own, so that much time passes between them.
async fn within_a_second(world: &World, metric: &str, value: u64) -> bool {
    for _ in 0..4 {
        world.advance(Duration::from_millis(250));
        for _ in 0..50 {
            if world.metric(metric).await == value {
                return true;
            }
        }
    }
    false
}

/// Whether it is told within a second that the deny list cannot be read.
async fn unreadable(world: &World) -> bool {
    for _ in 0..4 {
        world.advance(Duration::from_millis(250));
        for _ in 0..50 {
            let ready = world.admin("GET", "/readyz", "", "").await;
            if ready
                .text()
                .contains("cannot be read, and the list stays as it was")
            {
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn what_is_denied_to_an_operator_is_in_no_answer_and_stays_in_the_cache() {
    let world = World::with(|plan| {
        add_rule(
            &mut plan.config,
            &format!(
                "name = \"not its own\"\nsubjects = [\"operator\"]\nprojects = [\"{PROJECT}\"]\nusernames = \
                 [\"app1\"]\ndeny = true"
            ),
        );
        add_rule(
            &mut plan.config,
            &format!(
                "name = \"not this project\"\nsubjects = [\"operator\"]\nprojects = \
                 [\"{FOREIGN_PROJECT}\"]\nusernames = [\"*\"]\ndeny = true"
            ),
        );
        let auditor = "name = \"auditor\"\nsubjects = [\"auditor\"]\nadmin = true";
        add_rule(&mut plan.config, auditor);
    })
    .await;
    for name in ["app1", "many"] {
        assert_eq!(world.ask(name).await.status, 200);
    }
    let lookups = |query: String| {
        let world = &world;
        async move {
            let target = format!("/audit/lookups?{query}");
            world.admin("GET", &target, &operator_token(), "").await
        }
    };
    for kind in ["lookup", "fetch"] {
        for scope in [String::new(), format!("&group={PROJECT}")] {
            let found = lookups(format!("kind={kind}{scope}")).await;
            let text = found.text();
            assert!(
                text.contains("\"many\"") && !text.contains("\"app1\""),
                "{text}"
            );
        }
    }
    // Nor is what another operator has looked for.
    let by_name = "/audit/lookups?kind=fetch&username=app1&limit=1";
    let other = token_of(&json!({ "sub": "auditor" }));
    assert_eq!(world.admin("GET", by_name, &other, "").await.status, 200);
    let searches = lookups("kind=admin".to_owned()).await.text();
    assert!(
        searches.contains("kind=lookup") && !searches.contains("app1"),
        "{searches}"
    );
    // One that is denied is not put on the page in the place of another, either.
    let one = lookups("limit=1&first=oldest".to_owned()).await.json();
    assert_eq!(one["records"][0]["username"], "many");
    assert_eq!(one["records"].as_array().unwrap().len(), 1);
    assert_eq!(
        lookups(format!("group={FOREIGN_PROJECT}")).await.status,
        403
    );
    assert_eq!(
        lookups(format!("group={PROJECT}&username=app1"))
            .await
            .status,
        403
    );
    let refused = world.records().pop().unwrap();
    assert_eq!(refused["rule"], "not its own");
    for target in [
        format!("/cache/explain?groupId={PROJECT}&username=app1"),
        explain_access("username=app1"),
    ] {
        let refused = world.admin("GET", &target, &operator_token(), "").await;
        assert_eq!(refused.status, 403, "{target}");
    }

    // A purge of more than that leaves it as it is.
    for (what, concerned) in [
        (json!({ "all": true, "soft": true }), 1),
        (json!({ "groupId": PROJECT }), 1),
        (json!({ "all": true }), 0),
    ] {
        assert_eq!(
            purge(&world, &what).await,
            (200, json!({ "entries": concerned }))
        );
    }
    let calls = world.atlas.certificate_calls();
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!(world.atlas.certificate_calls(), calls);
    for what in [
        json!({ "groupId": PROJECT, "username": "app1" }),
        json!({ "groupId": FOREIGN_PROJECT }),
    ] {
        assert_eq!(purge(&world, &what).await.0, 403, "{what}");
    }
    let denied = world.records().pop().unwrap();
    assert_eq!(
        (&denied["outcome"], &denied["rule"]),
        (&json!("denied"), &json!("not this project"))
    );
}

#[tokio::test]
async fn a_purge_leaves_a_list_that_is_being_fetched_for_whom_it_is_denied() {
    let world = World::with(|plan| {
        add_rule(
            &mut plan.config,
            "name = \"not its own\"\nsubjects = [\"operator\"]\nprojects = [\"*\"]\nusernames = \
             [\"app1\"]\ndeny = true",
        );
    })
    .await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let asked = world.ask("app1");
    let purged = async {
        world.until(|_| gate.arrivals() > 0).await;
        assert_eq!(purge(&world, &json!({ "all": true })).await.0, 200);
        gate.open();
    };
    let (answer, ()) = tokio::join!(asked, purged);
    assert_eq!(answer.status, 200);
    let calls = world.atlas.certificate_calls();
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!((calls, world.atlas.certificate_calls()), (1, 1));
}

#[tokio::test]
async fn rights_of_several_rules_add_up() {
    let world = World::with(|plan| {
        add_rule(
            &mut plan.config,
            &format!(
                "name = \"refreshes\"\nsubjects = [\"payments-api\"]\nprojects = [\"{PROJECT}\"]\nusernames = \
                 [\"app1\"]\nforce_refresh = true"
            ),
        );
    })
    .await;
    // A list of `many` takes three calls.
    for (name, calls) in [("app1", 2), ("many", 3)] {
        let before = world.atlas.certificate_calls();
        for _ in 0..2 {
            let target = certs(PROJECT, name);
            let answer = world.get(&target, &[("Cache-Control", "no-cache")]).await;
            assert_eq!(answer.status, 200);
            world.advance(Duration::from_secs(6));
        }
        assert_eq!(world.atlas.certificate_calls() - before, calls, "{name}");
    }
    let rules: Vec<Value> = world
        .lookups()
        .iter()
        .map(|it| it["rule"].clone())
        .collect();
    assert_eq!(rules, vec![json!("payments reads its projects"); 4]);
}

#[tokio::test]
async fn who_is_put_on_the_deny_list_is_denied_within_a_second_whatever_is_wrong_elsewhere() {
    let mut deny_file = PathBuf::new();
    let mut scene = Scene::with(|plan| {
        deny_file = files(plan).join("deny");
        fs::write(&deny_file, "").unwrap();
        let path = deny_file.display().to_string();
        crate::world::set(&mut plan.config, "access.deny_file", path);
    })
    .await;
    assert_eq!(scene.world.ask("app1").await.status, 200);
    fs::write(scene.path("gateway.toml"), "no TOML [").unwrap();
    assert!(!scene.reload().await);
    let by_client = token_of(&json!({ "sub": "payments-web", "client_id": "web" }));
    let by_token = token_of(&json!({ "sub": "payments-web", "jti": "stolen" }));
    let other = token_of(&json!({ "sub": "payments-web", "jti": "good" }));
    let operator = operator_token();
    for (line, caller, status, reason) in [
        (
            "sub payments-api",
            token(),
            403,
            "its sub is on the deny list",
        ),
        (
            "client_id web",
            by_client,
            403,
            "its client_id is on the deny list",
        ),
        ("jti stolen", by_token, 401, "on the deny list"),
    ] {
        let target = certs(PROJECT, "app1");
        let before = scene.world.send("GET", &target, &caller, &[]).await;
        assert_eq!(before.status, 200, "{line}");
        fs::write(&deny_file, format!("# tonight\nnonsense\n{line}\n")).unwrap();
        assert!(
            within_a_second(&scene.world, "access_deny_list_entries", 1).await,
            "{line}"
        );
        let refused = scene.world.send("GET", &target, &caller, &[]).await;
        assert_eq!(refused.status, status, "{line}");
        let record = scene.world.lookups().pop().unwrap();
        assert_eq!(
            (&record["reason"], &record["cache"]),
            (&json!(reason), &json!("none"))
        );
        let others = scene.world.send("GET", &target, &other, &[]).await;
        assert_eq!(others.status, 200, "{line}");
        let ready = scene.world.admin("GET", "/readyz", "", "").await.json();
        let problem = ready["degraded"][0]["problem"].as_str().unwrap();
        assert!(
            problem.contains("line 2 is none of `sub NAME`"),
            "{problem}"
        );
        // What is not there any more denies no caller; what cannot be read goes on denying.
        fs::remove_file(&deny_file).unwrap();
        assert!(unreadable(&scene.world).await);
        let refused = scene.world.send("GET", &target, &caller, &[]).await;
        assert_eq!(refused.status, status, "{line}");
        fs::write(&deny_file, "").unwrap();
        assert!(
            within_a_second(&scene.world, "access_deny_list_entries", 0).await,
            "{line}"
        );
    }
    fs::write(&deny_file, "sub operator").unwrap();
    assert!(within_a_second(&scene.world, "access_deny_list_entries", 1).await);
    let refused = scene
        .world
        .admin("POST", "/cache/purge", &operator, "{\"all\":true}")
        .await;
    assert_eq!(refused.status, 403);
    // A mended configuration does not wait for the deny list.
    fs::remove_file(&deny_file).unwrap();
    scene.write(|_| {});
    assert!(scene.reload().await);
    let refused = scene
        .world
        .admin("POST", "/cache/purge", &operator, "{\"all\":true}")
        .await;
    assert_eq!(refused.status, 403);
}

/// What a caller gets who asks for `app1`.
async fn status_of(scene: &Scene, subject: &str) -> u16 {
    let token = token_of(&json!({ "sub": subject }));
    let target = certs(PROJECT, "app1");
    scene.world.send("GET", &target, &token, &[]).await.status
}

#[tokio::test]
async fn included_rules_are_taken_with_those_of_the_file_and_noticed_when_they_change() {
    let mut scene = Scene::new().await;
    let teams = scene.path("rules.d");
    fs::create_dir(&teams).unwrap();
    let rule = |name: &str, subject: &str| {
        format!(
            "[[rules]]\nname = \"{name}\"\nsubjects = [\"{subject}\"]\nprojects = \
             [\"@all\"]\nusernames = [\"*\"]\n"
        )
    };
    fs::write(teams.join("b.toml"), rule("web reads", "web")).unwrap();
    fs::write(teams.join(".b.toml.swp"), "not for us").unwrap();
    let include = |config: &mut toml::Table| {
        let patterns = toml::Value::try_from(["rules.d/*.toml"]).unwrap();
        crate::world::set(config, "access.include", patterns);
        let all = toml::Value::try_from([PROJECT, OTHER_PROJECT]).unwrap();
        crate::world::set(config, "access.project_groups.all", all);
    };
    scene.write(include);
    assert!(scene.reload().await);
    assert_eq!(status_of(&scene, "web").await, 200);
    assert_eq!(status_of(&scene, "batch").await, 403);
    // Another file, another content, and one that goes: each is a change.
    for (name, content, subject, status) in [
        ("a.toml", Some(rule("batch reads", "batch")), "batch", 200),
        ("b.toml", Some(rule("web reads", "web-*")), "web", 403),
        ("a.toml", None, "batch", 403),
    ] {
        match content {
            Some(content) => fs::write(teams.join(name), content).unwrap(),
            None => fs::remove_file(teams.join(name)).unwrap(),
        }
        assert!(scene.notices().await, "{name}");
        assert!(scene.reload().await, "{name}");
        assert_eq!(status_of(&scene, subject).await, status, "{name}");
    }
    // What is wrong is said with its file and line, all of it at once; then the old rules stay.
    let wrong = "[[rules]]\nname = \"web reads\"\nsubjects = [\"\"]\ncolour = \"blue\"\n";
    fs::write(teams.join("c.toml"), wrong).unwrap();
    fs::write(teams.join("d.toml"), "rules = 1 2\n").unwrap();
    fs::write(teams.join("e.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    assert!(scene.notices().await);
    let refused = scene.refusal().await;
    for expected in [
        "c.toml: rules[0].subjects[0] (line 3): is empty, which fits nothing",
        "c.toml: rules[0].name (line 2): ",
        "b.toml: rules[0] has this name",
        "c.toml: rules[0].colour (line 4): there is no such key",
        "d.toml: line 1, column 9: ",
        "e.toml: server (line 1): there is no such key",
    ] {
        assert!(refused.contains(expected), "{expected} in\n{refused}");
    }
    assert_eq!(status_of(&scene, "web-1").await, 200);
    fs::remove_dir_all(&teams).unwrap();
    assert!(scene.refusal().await.contains("access.include[0] (line "));
}
