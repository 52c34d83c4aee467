//! What the memory holds is bounded, and what is in use stays in it.

use std::collections::HashSet;

use http::StatusCode;
use proptest::prelude::*;

use super::super::*;
use super::stage::{Stage, Word, list, query};
use crate::atlas::Username;

/// A store of `capacity` lists with `count` in use, one of those lists, and their queries.
async fn lists_in_use(count: usize, capacity: u64) -> (Store, Arc<CacheEntry>, Vec<CertQuery>) {
    let stage = Stage::new(Config::default());
    let certificate = "c".repeat(150);
    stage.atlas.says(list(&[&certificate, &certificate]));
    let entry = stage.ask("app").await.unwrap().entry;
    let used: Vec<CertQuery> = (0..count)
        .map(|number| query(&format!("used-{number}")))
        .collect();
    let weight = store::weight(&key::CacheKey::of(&used[0]), entry.weight());
    let store = Store::new(u64::from(weight) * capacity * 64 / 59);
    for query in &used {
        store.put(query, &entry);
    }
    for _ in 0..8 {
        for query in &used {
            store.get(query);
        }
    }
    (store, entry, used)
}

#[tokio::test]
async fn n15_a_flood_of_names_does_not_push_out_what_is_in_use() {
    // Space to spare or none; and so many names of the flood for one question for something in use.
    for (capacity, names) in [(1_250, 1), (1_000, 2), (1_000, 4), (1_000, 50)] {
        let (store, entry, used) = lists_in_use(1_000, capacity).await;
        for wave in 0..50 / names {
            for (at, used) in used.iter().enumerate() {
                for number in 0..names {
                    let flood = query(&format!("flood-{wave}-{at}-{number}"));
                    if store.get(&flood).is_none() {
                        store.put(&flood, &entry);
                    }
                }
                store.get(used);
            }
        }
        let left = used.iter().filter(|used| store.get(used).is_some()).count();
        assert!(left >= 990, "{left} of 1000 are left, {names} to one");
        let size = store.size();
        assert!(size.lists <= capacity + 50, "{size:?}");
    }
}

#[tokio::test]
async fn what_is_asked_for_again_and_again_takes_the_place_of_what_is_not() {
    let (store, entry, used) = lists_in_use(1_000, 1_000).await;
    // The old ones are not asked for any more, and far more names are new than are asked for last.
    for round in 0..40 {
        for number in 0..500 {
            let new_query = query(&format!("new-{number}"));
            if store.get(&new_query).is_none() {
                store.put(&new_query, &entry);
            }
            let flood = query(&format!("flood-{round}-{number}"));
            store.put(&flood, &entry);
        }
    }
    let new_queries = (0..500).map(|number| query(&format!("new-{number}")));
    let there = new_queries.filter(|it| store.get(it).is_some()).count();
    assert!(there >= 400, "{there} of 500 found a place");
    let left = used.iter().filter(|used| store.get(used).is_some()).count();
    assert!(left <= 600, "{left} are left");
}

#[tokio::test]
async fn a_new_list_finds_a_place_although_all_others_are_in_use() {
    let (store, entry, _used) = lists_in_use(1_000, 1_000).await;
    for number in 0..100 {
        let new_query = query(&format!("new-{number}"));
        assert!(store.get(&new_query).is_none());
        store.put(&new_query, &entry);
        for earlier in (0..=number).rev().take(20) {
            let earlier = query(&format!("new-{earlier}"));
            assert!(store.get(&earlier).is_some(), "{number} cost a fetch again");
        }
    }
}

#[tokio::test]
async fn t21_one_giant_list_evicts_no_other() {
    let (store, _entry, used) = lists_in_use(1_000, 1_000).await;
    let stage = Stage::new(Config {
        max_size: crate::settings::Size::mebibytes(1),
        ..Config::default()
    });
    let certificate = "c".repeat(1_000);
    let certificates: Vec<&str> = (0..300).map(|_| certificate.as_str()).collect();
    stage.atlas.says(list(&certificates));
    let found = stage.ask("giant").await.unwrap();
    // It is answered, but not remembered, and says so.
    assert_eq!(found.header().to_string(), "fwd=miss");
    assert_eq!(stage.ask("giant").await.unwrap().status, CacheStatus::Miss);
    store.put(&query("giant"), &found.entry);
    let left = used.iter().filter(|used| store.get(used).is_some()).count();
    assert!(left >= 990, "{left} of 1000 are left");
}

#[tokio::test]
async fn l02_a_flood_of_names_that_do_not_exist_stays_in_its_own_small_room() {
    let (store, _entry, used) = lists_in_use(100, 100).await;
    let stage = Stage::new(Config::default());
    let missing = StatusCode::NOT_FOUND;
    stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
    let Err(NotFound::Fetch { error, fill_id, .. }) = stage.ask("missing").await else {
        panic!("a list was found");
    };
    for number in 0..100_000 {
        let absence = store::Absence {
            failures: 0,
            error: Arc::clone(&error),
            fill_id,
            forced: None,
            known_at: stage.manual_clock.now(),
            ttl: Duration::MAX,
        };
        store.put_absence(&query(&format!("missing-{number}")), absence);
    }
    assert!(used.iter().all(|used| store.get(used).is_some()));
    let size = store.size();
    assert!(size.bytes <= (16 << 20) + (1 << 20), "{size:?}");
}

#[tokio::test]
async fn l04_one_missing_name_asked_ten_thousand_times_is_asked_of_atlas_once() {
    let stage = Stage::new(Config::default());
    let missing = StatusCode::NOT_FOUND;
    stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
    for _ in 0..10_000 {
        stage.ask("missing").await.unwrap_err();
    }
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn a_sweep_takes_what_may_not_be_served_any_more_and_nothing_else() {
    let stage = Stage::new(Config::default());
    stage.ask("old").await.unwrap();
    let missing = StatusCode::NOT_FOUND;
    stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
    stage.ask("missing").await.unwrap_err();
    stage.pass(3_600);
    stage.atlas.says(list(&["one"]));
    stage.ask("young").await.unwrap();
    stage.cache.sweep(stage.manual_clock.now());
    stage.cache.measure();
    assert_eq!(stage.metrics.entries.get(), 2, "an old list may be served");
    stage.pass(331);
    stage.cache.sweep(stage.manual_clock.now());
    stage.cache.measure();
    assert_eq!(stage.metrics.entries.get(), 1);
    assert!(stage.metrics.bytes.get() > 500);
}

#[test]
fn c14_of_a_million_pairs_of_questions_none_shares_a_key() {
    let projects = ["000000000000000000000001", "000000000000000000000010"];
    let letters = [
        "a", "A", "1", "0", "%2F", "/", "=", "é", "e\u{301}", ".", " ",
    ];
    let names = letters.iter().flat_map(|one| {
        let longer = move |two: &&str| letters.map(|three| format!("{one}{two}{three}"));
        letters.iter().flat_map(longer)
    });
    let names: HashSet<String> = names.collect();
    let names = names
        .iter()
        .filter_map(|name| name.parse::<Username>().ok());
    let names: Vec<Username> = names.collect();
    let keys: Vec<key::CacheKey> = projects
        .iter()
        .flat_map(|project| {
            let project = project.parse().unwrap();
            let queries = names.iter().cloned();
            let queries = queries.map(move |username| CertQuery { project, username });
            queries.map(|query| key::CacheKey::of(&query))
        })
        .collect();
    assert!(keys.len() > 1_500, "{}", keys.len());
    for (at, one) in keys.iter().enumerate() {
        assert!(keys[at + 1..].iter().all(|other| one != other));
    }
}

proptest! {
    #[test]
    fn c14_different_questions_are_different_keys(
        one in "[a/%2F=]{1,6}", other in "[a/%2F=]{1,6}", projects in any::<(bool, bool)>(),
    ) {
        let (Ok(one), Ok(other)) = (one.parse::<Username>(), other.parse::<Username>()) else {
            return Ok(());
        };
        let project = |first: bool| {
            let id = if first { "000000000000000000000001" } else { "000000000000000000000002" };
            id.parse().unwrap()
        };
        let one = CertQuery { project: project(projects.0), username: one };
        let other = CertQuery { project: project(projects.1), username: other };
        let same = one.username.as_str() == other.username.as_str() && projects.0 == projects.1;
        let keys: HashSet<CertQuery> = [one, other].into_iter().collect();
        prop_assert_eq!(keys.len(), if same { 1 } else { 2 });
    }
}
