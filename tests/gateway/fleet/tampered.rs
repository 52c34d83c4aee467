//! What others have put into the engine, and engines that are none.

use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::two_replicas;
use crate::harness::engine::Engine;
use crate::world::{World, set};

/// Changes an entry, which lies under the first name; another list lies under the second.
type Tamper = fn(&[u8], &[u8]) -> Vec<u8>;

/// FL11: an entry that was changed is a miss, and costs nothing but the call.
#[tokio::test]
async fn what_was_not_sealed_for_this_list_is_a_miss() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let tampers: [(&str, Tamper); 10] = [
        ("cut in the head", |entry, _| entry[..20].to_vec()),
        ("cut in the seal", |entry, _| {
            entry[..entry.len() - 1].to_vec()
        }),
        ("nothing", |_, _| Vec::new()),
        ("garbage", |entry, _| vec![b'x'; entry.len()]),
        ("another user's list", |_, other| other.to_vec()),
        ("another list under this head", |entry, other| {
            [&entry[..49], &other[49..]].concat()
        }),
        ("a bit of the key's id", |entry, _| flipped(entry, 50)),
        ("a bit of the nonce", |entry, _| flipped(entry, 56)),
        ("a bit of the text", |entry, _| flipped(entry, 90)),
        ("stored in the future", |entry, _| {
            [&entry[..17], b"9999999999999999", &entry[33..]].concat()
        }),
    ];
    for (name, tamper) in tampers {
        engine.command(&["FLUSHALL"]).await;
        for world in [&first, &second] {
            purge(world).await;
        }
        let fetched = first.ask("app1").await;
        let entry_key = only_key(&engine).await;
        first.ask("many").await;
        let entry = get(&engine, &entry_key).await;
        let other_key = keys(&engine).await;
        let other_key = other_key.iter().find(|key| **key != entry_key).unwrap();
        let other = get(&engine, other_key).await;
        set_key(&engine, &entry_key, &tamper(&entry, &other)).await;
        let calls = first.atlas.certificate_calls();
        let asked = second.ask("app1").await;
        assert_eq!((asked.status, &asked.body), (200, &fetched.body), "{name}");
        assert_eq!(asked.header("x-upstream-calls"), Some("1"), "{name}");
        assert_eq!(first.atlas.certificate_calls(), calls + 1, "{name}");
    }
    let rejected = "fleet_rejected_total{why=\"seal\"}";
    assert!(second.metric(rejected).await >= 4);
}

/// FL11: an engine that answers without bounds, or nothing that makes sense, is no engine.
#[tokio::test]
async fn an_engine_that_is_none_leaves_the_gateway_alone() {
    for said in [
        b"$536870912\r\n".as_slice(),
        b"*1000000000\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n-ERR no\r\n:1\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"",
    ] {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = [0; 1_024];
                while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(said).await.is_err() {
                        break;
                    }
                }
            }
        });
        let world = World::with(|plan| {
            let key = place.path().join("key");
            crate::world::write_private(&key, "a key of the fleet for tests, 32 and more");
            let config = &mut plan.config;
            set(config, "fleet.name", "tests");
            set(config, "fleet.replicas", 5);
            set(config, "fleet.url", format!("unix://{}", socket.display()));
            set(config, "fleet.key_files", vec![key.display().to_string()]);
        })
        .await;
        let asked = world.while_time_passes(world.ask("app1")).await;
        assert_eq!(asked.status, 200);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.metric("fleet_connected").await, 0);
        engine.abort();
    }
}

/// A wrong type, as somebody else's program may leave it.
#[tokio::test]
async fn a_value_of_another_type_costs_a_call_and_no_connection() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    let key = only_key(&engine).await;
    engine.command(&["DEL", &key]).await;
    engine.command(&["LPUSH", &key, "x"]).await;
    let asked = second.ask("app1").await;
    assert_eq!(asked.header("x-upstream-calls"), Some("1"));
    assert_eq!(second.metric("fleet_connected").await, 1);
}

fn flipped(entry: &[u8], at: usize) -> Vec<u8> {
    let mut entry = entry.to_vec();
    entry[at] ^= 1;
    entry
}

async fn purge(world: &World) {
    let token = crate::world::operator_token();
    let reply = world.admin("POST", "/cache/purge", &token, "{\"all\":true}");
    assert_eq!(reply.await.status, 200);
}

async fn keys(engine: &Engine) -> Vec<String> {
    let keys = engine.command(&["KEYS", "*}:e:*"]).await;
    redis::from_redis_value(keys).unwrap()
}

async fn only_key(engine: &Engine) -> String {
    let mut keys = keys(engine).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.remove(0)
}

async fn get(engine: &Engine, key: &str) -> Vec<u8> {
    let Value::BulkString(value) = engine.command(&["GET", key]).await else {
        panic!("there is no entry");
    };
    value
}

async fn set_key(engine: &Engine, key: &str, value: &[u8]) {
    engine.set(key, value).await;
}
