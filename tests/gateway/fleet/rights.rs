//! FL19: what `fleet functions` prints is enough for the gateway, and for nothing else.

use atlas_simulator::Simulator;
use serde_json::{Value as Json, json};

use super::{join_config, replica, until_connected};
use crate::harness::engine::Engine;
use crate::program::{command, output, world_with};
use crate::world::{set, write_private};

const PASSWORD: &str = "the-password-of-tests";
const GATEWAY: (&str, &str) = ("gateway", PASSWORD);

#[tokio::test]
async fn a_replica_works_with_the_rights_that_are_printed() {
    let Some(engine) = prepared().await else {
        return;
    };
    let password_file = password_file(&engine);
    let world = replica(&engine, "gateway-1", |plan| {
        set(&mut plan.config, "fleet.username", "gateway");
        set(&mut plan.config, "fleet.password_file", password_file);
    })
    .await;
    until_connected(&world).await;
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!(world.atlas.mints(), 1);
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let calls = page
        .lines()
        .filter(|line| line.contains("fleet_operations_total"));
    let mut refused = calls.filter(|line| line.contains("refused") && !line.ends_with(" 0"));
    assert_eq!(refused.next(), None);
    for words in FUNCTIONS {
        let mut call = vec!["FCALL"];
        call.extend(words.split(' '));
        let reply = engine.command_as(GATEWAY, &call).await;
        assert!(reply.is_ok(), "{words}: {reply:?}");
    }
}

#[tokio::test]
async fn its_user_is_refused_all_else() {
    let Some(engine) = prepared().await else {
        return;
    };
    for words in [
        "EVAL return{} 0",
        "SCRIPT LOAD return{}",
        "FUNCTION LIST",
        "FUNCTION DELETE acg1",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET save",
        "FLUSHALL",
        "ACL LIST",
        "CLIENT LIST",
        "MONITOR",
        "SAVE",
        "SHUTDOWN",
        "GET other",
        "SET other x",
        "FCALL acg1_renew 1 other id 1000",
        "PUBLISH other x",
        "BLPOP acg1:list 1",
        "XREAD BLOCK 1 STREAMS other $",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let reply = engine.command_as(GATEWAY, &words).await;
        let code = reply.as_ref().err().and_then(|error| error.code());
        assert_eq!(code, Some("NOPERM"), "{words:?}: {reply:?}");
    }
    // It is off in an engine of the usual configuration, whoever asks.
    let debug = ["ACL", "DRYRUN", "gateway", "DEBUG", "SLEEP", "0"];
    let said = format!("{:?}", engine.command(&debug).await);
    assert!(said.contains("no permissions"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_says_what_it_finds_of_the_fleet() {
    let Some(mut engine) = prepared().await else {
        return;
    };
    let password_file = password_file(&engine);
    let (_atlas, files): (Simulator, _) = world_with(|config| {
        join_config(&engine, config, "gateway-1");
        set(config, "fleet.username", "gateway");
        set(config, "fleet.password_file", password_file);
    })
    .await;
    let found = || {
        let mut check = command();
        check.args(["check", "--online", "--format", "json", "--config"]);
        let said = output(check.arg(files.path().join("gateway.toml"))).stdout;
        let all: Vec<Json> = serde_json::from_slice(&said).unwrap();
        let of_fleet = all.into_iter().filter_map(|finding| {
            let what = finding["what"].as_str()?;
            let what = what.strip_prefix("fleet")?.trim().to_owned();
            Some((
                what,
                finding["well"] == json!(true),
                finding["found"].to_string(),
            ))
        });
        of_fleet.collect::<Vec<_>>()
    };
    let good = found();
    let said: Vec<&str> = good.iter().map(|(what, ..)| what.as_str()).collect();
    assert_eq!(
        said,
        ["", "functions", "rights", "clock", "persistence", "members"]
    );
    assert!(good.iter().all(|(_, is_well, _)| *is_well), "{good:?}");
    assert!(
        good[0].2.contains("connected to") && good[1].2.contains("are loaded"),
        "{good:?}"
    );
    assert!(
        good[2].2.contains("no scripts") && good[3].2.contains("agrees"),
        "{good:?}"
    );
    // A user who may do everything, and an engine that writes and has no functions.
    let all = "ACL SETUSER gateway allcommands allkeys allchannels";
    engine.command(&all.split(' ').collect::<Vec<_>>()).await;
    engine.command(&["FUNCTION", "FLUSH"]).await;
    engine.command(&["CONFIG", "SET", "save", "60 1"]).await;
    let bad = found();
    assert!(bad.iter().all(|(_, is_well, _)| *is_well), "{bad:?}");
    assert!(
        bad[1].2.contains("not loaded") && bad[2].2.contains("may do more"),
        "{bad:?}"
    );
    assert!(bad[4].2.contains("writes to a disk"), "{bad:?}");
    engine.kill();
    let gone = found();
    assert_eq!((gone.len(), gone[0].1), (1, false), "{gone:?}");
}

/// An engine with the library and the user that `fleet functions` prints.
async fn prepared() -> Option<Engine> {
    let engine = Engine::start().await?;
    let printed = output(command().args(["fleet", "functions"])).stdout;
    let library = String::from_utf8(printed).unwrap();
    let loaded = engine
        .command(&["FUNCTION", "LOAD", "REPLACE", &library])
        .await;
    assert_eq!(loaded, redis::Value::BulkString(b"acg1".to_vec()));
    let rights = library
        .lines()
        .find_map(|line| line.strip_prefix("-- ACL "));
    let rights = rights.unwrap().replace("PASSWORD", PASSWORD);
    let mut words = vec!["ACL"];
    words.extend(rights.split(' '));
    engine.command(&words).await;
    Some(engine)
}

fn password_file(engine: &Engine) -> String {
    let file = engine.socket().with_file_name("password");
    write_private(&file, PASSWORD);
    file.display().to_string()
}

/// Every function, with arguments that lead it through its commands.
const FUNCTIONS: [&str; 18] = [
    "acg1_open 3 acg1:a:e acg1:a:l acg1:a:p fresh 0 lease 1000 0 0",
    "acg1_open 3 acg1:a:e acg1:a:l acg1:a:p fresh 0 other 1000 0 0",
    "acg1_look 3 acg1:a:e acg1:a:l acg1:a:p 0 0",
    "acg1_renew 1 acg1:a:l lease 1000",
    "acg1_store 3 acg1:a:e acg1:a:l acg1:a:p lease 0 0 1000 1000 list acg1:bell name",
    "acg1_open 3 acg1:a:e acg1:a:l acg1:a:p forced 1 lease 1000 0 0",
    "acg1_fail 2 acg1:a:l acg1:a:r lease failure 1000 acg1:bell name",
    "acg1_purge_list 4 acg1:a:e acg1:a:l acg1:ev acg1:n soft event acg1:bell",
    "acg1_purge_list 4 acg1:a:e acg1:a:l acg1:ev acg1:n hard event acg1:bell",
    "acg1_purge_project 3 acg1:a:p acg1:ev acg1:n hard event acg1:bell 1000",
    "acg1_tell 2 acg1:ev acg1:n kind event acg1:bell",
    "acg1_here 1 acg1:who replica 1 abc acg1:bell",
    "acg1_heard 1 acg1:who 1",
    "acg1_leave 1 acg1:who replica",
    "acg1_token 4 acg1:a:t acg1:a:l2 acg1:a:z acg1:a:r2 id 1000 own want 0 5 80",
    "acg1_store_token 3 acg1:a:t acg1:a:l2 acg1:a:r2 id 0123456789abcdef0123456789abcdef 0 1000 sealed acg1:bell",
    "acg1_keep_token 2 acg1:a:t acg1:a:z one 0 0 two 0 1",
    "acg1_fail_token 2 acg1:a:l2 acg1:a:z id unsent acg1:bell",
];
