//! The index of keys by project: whatever is stored and evicted, a purge finds all of a project and nothing
//! else.

use std::collections::HashSet;

use std::time::Duration;

use http::StatusCode;
use proptest::prelude::*;

use super::super::key::KeyIndex;
use super::super::*;
use super::stage::{Stage, Word, list};

/// What may happen to a key of one of three projects.
#[derive(Clone, Copy, Debug)]
enum Step {
    List,
    Absence,
    Forget,
    Read,
    Purge { soft: bool },
    PurgeAll { soft: bool },
    Shrink { bytes: u64 },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => Just(Step::List),
        10 => Just(Step::Absence),
        5 => Just(Step::Forget),
        10 => Just(Step::Read),
        2 => any::<bool>().prop_map(|soft| Step::Purge { soft }),
        1 => any::<bool>().prop_map(|soft| Step::PurgeAll { soft }),
        2 => (0_u64..20_000).prop_map(|bytes| Step::Shrink { bytes }),
        1 => Just(Step::Sweep),
    ]
}

fn query(project: usize, name: usize) -> CertQuery {
    // The second of them begins as the first one ends.
    let projects = [
        "32b6e34b3d91647abb20e7b8",
        "32b6e34b3d91647abb20e7b9",
        "ffffffffffffffffffffffff",
    ];
    // Some names stand in place in a key, some do not.
    let long = if name.is_multiple_of(3) {
        "n".repeat(60)
    } else {
        String::new()
    };
    CertQuery {
        project: projects[project].parse().unwrap(),
        username: format!("{long}{name}").parse().unwrap(),
    }
}

fn every_question() -> impl Iterator<Item = CertQuery> {
    (0..3).flat_map(|project| (0..60).map(move |name| query(project, name)))
}

/// Something to put into a store.
struct Goods {
    entry: Arc<CacheEntry>,
    error: Arc<FetchError>,
    fill_id: FillId,
}

impl Goods {
    async fn new() -> Self {
        let stage = Stage::new(Config::default());
        stage.atlas.says(list(&["one", "two"]));
        let entry = stage.ask("app").await.unwrap().entry;
        let missing = StatusCode::NOT_FOUND;
        stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
        let Err(NotFound::Fetch { error, fill_id, .. }) = stage.ask("missing").await else {
            panic!("a list was found");
        };
        Self {
            entry,
            error,
            fill_id,
        }
    }

    fn absence(&self) -> store::Absence {
        store::Absence {
            failures: 0,
            error: Arc::clone(&self.error),
            fill_id: self.fill_id,
            forced: None,
            known_at: Moment {
                elapsed: Duration::ZERO,
                wall: crate::atlas::Timestamp::default(),
            },
            ttl: Duration::ZERO,
        }
    }
}

/// What a purge of one project, or of all, is going to concern, by the segments themselves.
fn known(store: &Store, project: Option<ProjectId>) -> HashSet<CertQuery> {
    // So that nothing is displaced later on.
    store.size();
    every_question()
        .filter(|query| project.is_none_or(|project| query.project == project))
        .filter(|query| store.knows(query))
        .collect()
}

fn purge(store: &Store, project: Option<ProjectId>, soft: bool) {
    let before = known(store, project);
    let concerned = store.purge(project, soft, &|_, _| false);
    assert_eq!(concerned, u64::try_from(before.len()).unwrap());
    if soft {
        assert!(known(store, project).is_subset(&before));
    } else {
        assert_eq!(known(store, project), HashSet::new());
    }
}

fn take(store: &Store, goods: &Goods, query: &CertQuery, step: Step) {
    match step {
        Step::List => store.put(query, &goods.entry),
        Step::Absence => store.put_absence(query, goods.absence()),
        Step::Forget => {
            let was_known = store.knows(query);
            assert_eq!(store.forget(query), was_known);
        }
        Step::Read => {
            store.get(query);
        }
        Step::Purge { soft } => {
            let others = known(store, None);
            purge(store, Some(query.project), soft);
            let left = known(store, None);
            let is_other = |other: &&CertQuery| other.project != query.project;
            assert!(others.iter().filter(is_other).all(|it| left.contains(it)));
        }
        Step::PurgeAll { soft } => purge(store, None, soft),
        Step::Shrink { bytes } => store.shrink(bytes),
        Step::Sweep => store.sweep(|_| false, |absence| absence.ttl.is_zero()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_purge_concerns_what_the_store_knows_of_a_project_and_nothing_else(
        steps in prop::collection::vec((0_usize..3, 0_usize..60, step()), 1..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let goods = runtime.block_on(Goods::new());
        // Space for some forty lists, so that some are always evicted.
        let store = Store::new(64 << 10);
        for (project, name, step) in steps {
            take(&store, &goods, &query(project, name), step);
        }
        for project in 0..3 {
            purge(&store, Some(query(project, 0).project), false);
        }
        prop_assert!(known(&store, None).is_empty());
        prop_assert_eq!(store.indexed(), 0, "what is gone is forgotten");
    }
}

#[tokio::test]
async fn keys_of_what_was_displaced_do_not_pile_up() {
    let goods = Goods::new().await;
    let store = Store::new(256 << 10);
    let mut most = 0;
    for number in 0..20_000 {
        let query = CertQuery {
            project: query(0, 0).project,
            username: format!("flood-{number}").parse().unwrap(),
        };
        store.put(&query, &goods.entry);
        most = most.max(store.indexed());
    }
    // Some two hundred lists fit, and moka displaces them some five hundred at a time.
    assert!(most < 2_500, "{most} keys");
}

#[tokio::test]
async fn purges_beside_puts_leave_nothing_behind_that_a_later_one_does_not_find() {
    let goods = Arc::new(Goods::new().await);
    let store = Arc::new(Store::new(64 << 10));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (goods, store) = (Arc::clone(&goods), Arc::clone(&store));
            std::thread::spawn(move || {
                for number in 0..3_000 {
                    let query = query(number % 3, (number * 7 + thread * 13) % 60);
                    match (number + thread) % 50 {
                        0 => drop(store.purge(Some(query.project), false, &|_, _| false)),
                        1 => store.shrink(4_000),
                        2 => store.sweep(|_| false, |_| true),
                        3..10 => store.put_absence(&query, goods.absence()),
                        _ => store.put(&query, &goods.entry),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    purge(&store, None, false);
}

#[test]
fn a_purge_looks_at_the_keys_of_its_project_only() {
    let index = KeyIndex::default();
    for project in [0, 2] {
        for name in 0..1_000 {
            index.enter(&query(project, name), |_| true, || ());
        }
    }
    let project = |number| Some(query(number, 0).project);
    assert_eq!(index.slice(project(1), None).len(), 0);
    let (mut last, mut count) = (None, 0);
    loop {
        let mut keys = index.slice(project(0), last.as_ref());
        count += keys.len();
        last = keys.pop();
        if last.is_none() {
            break;
        }
    }
    assert_eq!(count, 1_000);
}

#[tokio::test]
async fn shrinking_takes_so_many_bytes_and_first_what_is_not_in_use() {
    let goods = Goods::new().await;
    let store = Store::new(1 << 20);
    let stage = Stage::new(Config::default());
    stage.atlas.says(list(&["one", "two"]));
    stage.ask("app").await.unwrap();
    // Asked for again.
    let used = stage.ask("app").await.unwrap().entry;
    for name in 0..60 {
        store.put(&query(0, name), &used);
        store.put(&query(1, name), &goods.entry);
    }
    let full = store.size().bytes;
    store.shrink(full / 4);
    let left = store.size().bytes;
    assert!(left <= full - full / 4, "{left} of {full}");
    assert!(left >= full - full / 3, "{left} of {full}");
    assert_eq!(known(&store, Some(query(0, 0).project)).len(), 60);
    store.shrink(full);
    assert_eq!(store.size().bytes, 0, "all of it, if need be");
}
