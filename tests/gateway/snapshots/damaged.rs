//! What lies in a snapshot's place is believed if this gateway has written it, all of it, with the same secret.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use atlas_simulator::CLIENT_SECRET;
use serde_json::json;

use super::{ask, atlas_is_down, cache_status, refused, snapshots, world};
use crate::world::{OTHER_PROJECT, PROJECT, World, certs, operator_token, set, write_private};

async fn restarted(damage: impl FnOnce(&Path)) -> World {
    let world = world(|_| {}).await;
    ask(&world, "app1").await;
    atlas_is_down(&world);
    world.restart(|files, _| damage(&snapshots(files)[0])).await
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_refused_whole() {
    for (how, reason) in [
        ("as it is", None),
        ("a bit", Some("damaged")),
        ("cut", Some("damaged")),
        ("empty", Some("damaged")),
        ("longer", Some("damaged")),
        ("huge", Some("damaged")),
        ("link", Some("unfit")),
        ("directory", Some("unfit")),
        ("open", Some("unfit")),
    ] {
        let world = restarted(|path| match how {
            "a bit" => change(path, |content| {
                let middle = content.len() / 2;
                content[middle] ^= 4;
            }),
            "cut" => change(path, |content| content.truncate(content.len() - 7)),
            "empty" => change(path, Vec::clear),
            "longer" => change(path, |content| content.push(0)),
            "huge" => {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(8 << 30).unwrap();
            }
            "link" => {
                let target = path.with_extension("target");
                fs::rename(path, &target).unwrap();
                symlink(target, path).unwrap();
            }
            "directory" => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }
            "open" => fs::set_permissions(path, Permissions::from_mode(0o622)).unwrap(),
            _ => {}
        })
        .await;
        let reply = ask(&world, "app1").await;
        let Some(reason) = reason else {
            assert_eq!(reply.status, 200);
            continue;
        };
        assert!(reply.status >= 500, "{how}: {}", reply.status);
        assert_eq!(refused(&world, reason).await, 1, "{how}");
        assert_eq!(world.metric("cache_restored_total").await, 0, "{how}");
        // It is in nothing's way.
        world.atlas.clear_script();
        world.advance(Duration::from_mins(2));
        assert_eq!(ask(&world, "app1").await.status, 200, "{how}");
        let world = world.restart(|_, _| {}).await;
        assert_eq!(world.metric("cache_restored_total").await, 1, "{how}");
    }
}

#[tokio::test]
async fn a_snapshot_is_its_owners_alone_and_shows_nothing() {
    let world = world(|_| {}).await;
    let list = ask(&world, "app1").await.text();
    let subject = list.split("\"subject\":\"").nth(1).unwrap();
    let subject = subject.split('"').next().unwrap().to_owned();
    world
        .restart(|files, _| {
            let path = &snapshots(files)[0];
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
            let content = fs::read(path).unwrap();
            for text in [&subject, "app1", PROJECT, "BEGIN CERTIFICATE"] {
                let text = text.as_bytes();
                assert!(!content.windows(text.len()).any(|it| it == text));
            }
        })
        .await;
}

#[tokio::test]
async fn a_rotated_secret_loses_the_lists_of_its_credential_and_no_others() {
    let world = world(|plan| {
        let directory = plan.config["atlas"]["state_directory"].as_str().unwrap();
        let secrets = Path::new(directory).parent().unwrap().to_owned();
        write_private(secrets.join("other-key"), "another-private-key");
        let mut second = plan.config["atlas"]["credentials"][0].clone();
        let credentials = plan.config["atlas"]["credentials"].as_array_mut().unwrap();
        let first = credentials[0].as_table_mut().unwrap();
        first.insert("projects".to_owned(), vec![PROJECT].into());
        let second = second.as_table_mut().unwrap();
        second.insert("name".to_owned(), "second".into());
        let key = second["api_key"].as_table_mut().unwrap();
        key.insert("public_key".to_owned(), "otherkey".into());
        let file = secrets.join("other-key").display().to_string();
        key.insert("private_key_file".to_owned(), file.into());
        credentials.push(toml::Value::Table(second.clone()));
        let other = atlas_simulator::ApiKey::new("otherkey", "another-private-key");
        plan.atlas.rules.api_keys.push(other);
    })
    .await;
    let other = certs(OTHER_PROJECT, "app1");
    assert_eq!(ask(&world, "app1").await.status, 200);
    let reply = world.while_time_passes(world.get(&other, &[])).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    atlas_is_down(&world);
    let world = world
        .restart(|files, _| {
            assert_eq!(snapshots(files).len(), 2);
            write_private(files.join("other-key"), CLIENT_SECRET);
        })
        .await;
    assert_eq!(ask(&world, "app1").await.status, 200);
    let reply = world.while_time_passes(world.get(&other, &[])).await;
    assert!(reply.status >= 500, "{}", reply.text());
    assert_eq!(refused(&world, "damaged").await, 1);
}

/// Nothing tells an older file of the same secret from the newer one: but its lists are as old as they are.
#[tokio::test]
async fn an_older_file_put_back_is_taken_for_as_old_as_it_is() {
    let world = world(|_| {}).await;
    let first = ask(&world, "app1").await;
    let mut older = Vec::new();
    let world = world
        .restart(|files, _| older = fs::read(&snapshots(files)[0]).unwrap())
        .await;
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("app1").certificates(1);
    });
    world.advance(Duration::from_secs(400));
    let second = ask(&world, "app1").await;
    assert_ne!(first.text(), second.text());
    atlas_is_down(&world);
    let world = world
        .restart(|files, _| fs::write(&snapshots(files)[0], &older).unwrap())
        .await;
    let reply = ask(&world, "app1").await;
    assert_eq!(reply.text(), first.text());
    let age: u64 = reply.header("age").unwrap().parse().unwrap();
    assert!(age >= 400, "{age}");
    assert!(cache_status(&reply).ends_with("; detail=stale-if-error-restored"));
}

#[tokio::test]
async fn what_cannot_be_written_is_told_and_costs_no_lookup_anything() {
    let world = world(|_| {}).await;
    let lists = world.files.path().join("state/lists");
    let written = |world: &World| !snapshots(world.files.path()).is_empty();
    ask(&world, "app1").await;
    world.while_time_passes(world.until(written)).await;
    let readyz = async || world.admin("GET", "/readyz", "", "").await;
    assert_eq!(readyz().await.json()["degraded"], json!([]));
    let moved = lists.with_extension("moved");
    fs::rename(&lists, &moved).unwrap();
    fs::write(&lists, "").unwrap();
    let degraded = async || {
        while readyz().await.json()["degraded"] == json!([]) {
            tokio::task::yield_now().await;
        }
    };
    world.while_time_passes(degraded()).await;
    let reply = readyz().await;
    assert_eq!(
        (reply.status, &reply.json()["degraded"][0]["part"]),
        (200, &json!("snapshot"))
    );
    assert!(world.metric("cache_snapshot_failures_total").await > 0);
    assert_eq!(ask(&world, "app1").await.status, 200);
    // A purge that would come back is not answered as done.
    let body = json!({ "all": true }).to_string();
    let purge = async || {
        world
            .admin("POST", "/cache/purge", &operator_token(), &body)
            .await
    };
    assert_eq!(purge().await.status, 503);
    fs::remove_file(&lists).unwrap();
    fs::rename(&moved, &lists).unwrap();
    assert_eq!(purge().await.status, 200);
    assert!(!written(&world));
    ask(&world, "app1").await;
    world.while_time_passes(world.until(written)).await;
    while readyz().await.json()["degraded"] != json!([]) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_larger_than_half_of_the_memory_is_kept_in_part() {
    let world = world(|plan| {
        set(&mut plan.config, "cache.max_size", "1MiB");
        let mut project = plan.atlas.world.project(PROJECT);
        for number in 0..400 {
            project.user(&format!("u{number}")).certificates(4);
        }
    })
    .await;
    for number in 0..400 {
        assert_eq!(world.ask(&format!("u{number}")).await.status, 200);
    }
    let world = world.restart(|_, _| {}).await;
    let restored = world.metric("cache_restored_total").await;
    assert!((100..400).contains(&restored), "{restored}");
}
