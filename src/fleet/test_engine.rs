//! A real engine whose time a test sets, and a replica that is connected to it.

#[expect(dead_code, reason = "other tests stop and kill it")]
#[path = "../../tests/harness/engine.rs"]
mod engine;
#[expect(dead_code, reason = "other tests need other servers")]
#[path = "../../tests/harness/servers.rs"]
mod servers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::engine::Engine;
use super::{Fleet, LIBRARY, ReplicaIdentity};
use crate::atlas::Timestamp;
use crate::system::{Clock, ManualClock};
use crate::telemetry::metrics::fleet::FleetMetrics;

/// A replica that is connected, until it is dropped.
pub(crate) struct Joined {
    pub(crate) fleet: Fleet,
    _clock: ManualClock,
    _stop: DropGuard,
}

impl Joined {
    pub(crate) async fn to(engine: &Engine) -> Self {
        set_time(engine, START).await;
        let library = LIBRARY.replace(
            "redis.call('TIME')",
            "redis.call('HMGET', 'time', 'seconds', 'micros')",
        );
        assert_ne!(library, LIBRARY);
        engine
            .command(&["FUNCTION", "LOAD", "REPLACE", &library])
            .await;
        let key = engine.socket().with_file_name("key");
        fs::write(&key, "a key of the fleet for tests, 32 and more").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "name = 'tests'\nreplicas = 5\nurl = '{}'\nkey_files = ['{}']",
            engine.url(),
            key.display()
        );
        let identity = ReplicaIdentity {
            replica: "gateway-1",
            atlas: ["https://cloud.mongodb.com", "v2"],
            fingerprint: "00".to_owned(),
            fetches_per_project: 4,
        };
        // It stands still: the engine is waited for however slow it is.
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
        let config = toml::from_str(&config).unwrap();
        let fleet = Fleet::build(&config, &identity, clock, FleetMetrics::default()).unwrap();
        let stop = CancellationToken::new();
        let (running, until) = (fleet.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        while !fleet.is_connected() {
            tokio::task::yield_now().await;
        }
        Self {
            fleet,
            _clock: manual_clock,
            _stop: stop.drop_guard(),
        }
    }
}

pub(crate) async fn set_time(engine: &Engine, now: Duration) {
    at_time(engine, "", now).await;
}

/// Does something in the engine, and sets its time in the same moment: the replica goes on calling it.
pub(crate) async fn at_time(engine: &Engine, what: &str, now: Duration) {
    let set = "redis.call('HSET', 'time', 'seconds', ARGV[1], 'micros', ARGV[2])";
    let (seconds, micros) = (now.as_secs().to_string(), now.subsec_micros().to_string());
    let script = format!("{what} {set}");
    engine
        .command(&["EVAL", &script, "0", &seconds, &micros])
        .await;
}

/// As late as the engine's clock is, by which a float has to count microseconds.
pub(crate) const START: Duration = Duration::from_hours(500_000);
