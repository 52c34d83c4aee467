//! An engine that is followed by another one (FL07), and clocks that are wrong (FL12).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{two_replicas, until_connected, until_connected_is};
use atlas_cert_gateway::atlas::Timestamp;
use serde_json::json;

use crate::client::Reply;
use crate::harness::engine::Engine;
use crate::world::{NOW, OTHER_PROJECT, PROJECT, World, certs, every, set, token_at};

/// The address that leads to the engine that is the primary.
struct Front(PathBuf);

impl Front {
    fn to(engine: &Engine) -> Self {
        let front = Self(engine.socket().with_file_name("front"));
        front.lead_to(engine);
        front
    }

    fn lead_to(&self, engine: &Engine) {
        let next = self.0.with_extension("next");
        symlink(engine.socket(), &next).unwrap();
        fs::rename(&next, &self.0).unwrap();
    }

    fn url(&self) -> String {
        format!("unix://{}", self.0.display())
    }
}

fn age(reply: &Reply) -> u64 {
    reply.header("age").unwrap().parse().unwrap()
}

async fn told(engine: &Engine, words: &[&str]) -> String {
    format!("{:?}", engine.command(words).await)
}

#[tokio::test]
async fn fl07_a_failover_that_loses_the_last_writes_costs_a_call_for_each_of_them() {
    let (Some(mut primary), Some(secondary)) = (Engine::start().await, Engine::start().await)
    else {
        return;
    };
    let front = Front::to(&primary);
    let [first, second] = two_replicas(&primary, |plan| {
        set(&mut plan.config, "fleet.url", front.url());
    })
    .await;
    first.ask("app1").await;
    // What has been written so far is there; what follows is lost.
    copy(&primary, &secondary).await;
    first.ask("many").await;
    let calls = first.atlas.certificate_calls();
    primary.kill();
    front.lead_to(&secondary);
    until_connected_is(&first, 0).await;
    until_connected_is(&second, 0).await;
    first.advance(Duration::from_secs(1));
    until_connected(&first).await;
    until_connected(&second).await;
    first.advance(Duration::from_secs(20));
    let adopted = second.ask("app1").await;
    assert_eq!(adopted.status, 200);
    assert!(age(&adopted) >= 20, "{}", age(&adopted));
    assert_eq!(first.atlas.certificate_calls(), calls);
    // The other one is read again, once; both readings are true.
    let pages = calls - 1;
    for world in [&first, &second] {
        assert_eq!(world.ask("many").await.json()["totalCount"], 1_203);
    }
    assert_eq!(first.atlas.certificate_calls(), calls + pages);
    assert_eq!(first.atlas.mints(), 1);
}

/// Brings all that one engine holds into another, as replication does.
async fn copy(from: &Engine, to: &Engine) {
    let redis::Value::Array(keys) = from.command(&["KEYS", "*"]).await else {
        panic!("keys are a list");
    };
    for key in keys {
        let redis::Value::BulkString(key) = key else {
            panic!("a key is a text");
        };
        let key = String::from_utf8(key).unwrap();
        from.copy(&key, to).await;
    }
    assert_ne!(told(to, &["DBSIZE"]).await, "int(0)");
}

#[tokio::test]
async fn fl12_an_engine_whose_clock_is_set_makes_no_list_younger() {
    let Some(shim) = Shim::build() else {
        return;
    };
    for hours in [1, -1] {
        shim.set(0);
        let Some(engine) = Engine::start_with(&shim.environment()).await else {
            return;
        };
        let [first, second] = two_replicas(&engine, |_| {}).await;
        first.ask("app1").await;
        let calls = first.atlas.certificate_calls();
        first.advance(Duration::from_secs(30));
        shim.set(hours * 3_600);
        // Of a clock that was set back the bucket is empty, and fills as fast as ever.
        let reply = answered(&second, "app1", hours < 0).await;
        let is_fetched = first.atlas.certificate_calls() > calls;
        assert!(
            is_fetched || age(&reply) >= 30,
            "{hours} h: {}",
            age(&reply)
        );
        assert!(first.atlas.certificate_calls() <= calls + 1);
        // Both go on to share.
        let target = certs(OTHER_PROJECT, "app1");
        assert_eq!(first.get(&target, &[]).await.status, 200);
        let calls = first.atlas.certificate_calls();
        assert_eq!(second.get(&target, &[]).await.status, 200);
        assert_eq!(first.atlas.certificate_calls(), calls, "{hours} h");
    }
}

/// The answer to a lookup, which may have to wait.
async fn answered(world: &World, username: &str, may_wait: bool) -> Reply {
    let mut glances = every(Duration::from_millis(50));
    loop {
        let reply = world.ask(username).await;
        if reply.status == 200 {
            return reply;
        }
        assert_eq!((reply.status, may_wait), (429, true), "{}", reply.text());
        glances.tick().await;
        world.advance(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn fl12_a_replica_whose_clock_is_wrong_makes_no_list_younger() {
    for minutes in [5, -5] {
        let Some(engine) = Engine::start().await else {
            return;
        };
        let [first, second] = two_replicas(&engine, |_| {}).await;
        let off = Timestamp::parse(NOW).unwrap();
        let span = Duration::from_mins(5);
        let off = if minutes > 0 {
            off.plus(span)
        } else {
            off.minus(span)
        };
        let wrong = first
            .beside_at(off, |plan| super::join(&engine, plan, "gateway-3"))
            .await;
        until_connected(&wrong).await;
        // What the others have fetched.
        first.ask("app1").await;
        first.advance(Duration::from_secs(7));
        wrong.advance(Duration::from_secs(7));
        let calls = first.atlas.certificate_calls();
        let token = token_at(off.seconds(), &json!({"sub": "payments-api"}));
        let target = certs(PROJECT, "app1");
        let reply = wrong.send("GET", &target, &token, &[]).await;
        let is_fetched = first.atlas.certificate_calls() > calls;
        assert!(is_fetched || age(&reply) >= 7, "{minutes}: {}", age(&reply));
        // What it has fetched.
        let target = certs(PROJECT, "many");
        assert_eq!(wrong.send("GET", &target, &token, &[]).await.status, 200);
        first.advance(Duration::from_secs(9));
        let calls = first.atlas.certificate_calls();
        let reply = second.ask("many").await;
        let is_fetched = first.atlas.certificate_calls() > calls;
        assert!(is_fetched || age(&reply) >= 9, "{minutes}: {}", age(&reply));
    }
}

/// A library that moves the system's clock for a program, by so many seconds as a file says.
struct Shim {
    place: tempfile::TempDir,
}

impl Shim {
    /// `None` where there is no C compiler; the build needs one, too.
    fn build() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/clock_shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler
            .arg(place.path().join("shim.so"))
            .arg(source)
            .arg("-ldl");
        let built = compiler.output().ok()?;
        assert!(built.status.success(), "{built:?}");
        let shim = Self { place };
        shim.set(0);
        Some(shim)
    }

    fn set(&self, seconds: i64) {
        fs::write(self.offset(), seconds.to_ne_bytes()).unwrap();
    }

    fn offset(&self) -> PathBuf {
        self.place.path().join("offset")
    }

    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.place.path().join("shim.so")),
            ("CLOCK_OFFSET_FILE", self.offset()),
        ]
    }
}
