//! A username is the same bytes wherever it is looked at: by the rules, as the key, in Atlas's path and
//! in the record (G3).

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use atlas_cert_gateway::atlas::Username;

use crate::world::{PROJECT, World, set_rule};

#[tokio::test]
async fn the_four_views_of_a_name_are_the_same_bytes() {
    let names = names(48);
    // The rule knows exactly these names; a star in one would make a pattern of it.
    let patterns: Vec<toml::Value> = names.iter().map(|name| name.clone().into()).collect();
    let world = World::with(|plan| {
        set_rule(plan, 0, "usernames", patterns);
        let mut project = plan.atlas.world.project(PROJECT);
        for name in &names {
            project.user(name).certificates(1);
        }
    })
    .await;
    for name in &names {
        let username: Username = name.parse().unwrap();
        let path = format!(
            "/api/atlas/v2/groups/{PROJECT}/databaseUsers/{}/certs",
            username.to_path_segment()
        );
        let calls = world.atlas.certificate_calls();
        let first = world.get(&path, &[]).await;
        assert_eq!(
            first.status,
            200,
            "the rules know {name:?}: {}",
            first.text()
        );
        let seen = world.atlas.requests().pop().unwrap();
        assert_eq!(
            seen.username.as_deref(),
            Some(name.as_str()),
            "Atlas's view"
        );
        let second = world.get(&path, &[]).await;
        assert_eq!(
            second.header("x-upstream-calls"),
            Some("0"),
            "the key of {name:?}"
        );
        assert_eq!(world.atlas.certificate_calls(), calls + 1);
        let records = world.lookups();
        let views: Vec<_> = records
            .iter()
            .rev()
            .take(2)
            .map(|record| &record["username"])
            .collect();
        assert_eq!(views, [name, name], "the record's view");
        let almost = format!("{path}x").replace("/certsx", "x/certs");
        assert_eq!(
            world.get(&almost, &[]).await.status,
            403,
            "no rule knows {name:?} with an x"
        );
    }
}

/// Different legal names of all kinds of characters.
fn names(count: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let strategy =
        "[\\PC&&[^*]]{1,24}".prop_filter("legal", |name| name.parse::<Username>().is_ok());
    let mut names: Vec<String> = Vec::new();
    while names.len() < count {
        let name = strategy.new_tree(&mut runner).unwrap().current();
        if !names
            .iter()
            .any(|known| *known == format!("{name}x") || *known == name)
        {
            names.push(name);
        }
    }
    names
}
