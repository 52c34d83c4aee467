//! Five real gateways that share an engine, in front of one Atlas that counts what they ask (FL01, FL02, FL03, FL05,
//! FL13).

use std::env;
use std::fs;
use std::time::Duration;

use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Asked, Settings, Simulator};
use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::join_config;
use crate::client::Connection;
use crate::harness::engine::Engine;
use crate::program::{Program, records, request_for, token_now};
use crate::world::{PROJECT, configuration, every, set, write_private, write_secrets};

const REPLICAS: usize = 5;

struct Replica {
    program: Option<Program>,
    files: TempDir,
}

/// Replicas of one fleet, by the system's clock.
struct Replicas {
    atlas: Simulator,
    all: Vec<Replica>,
}

impl Replicas {
    /// So many users, each with two certificates, and five replicas; `change` is told which of them it is.
    async fn start(
        engine: &Engine,
        users: usize,
        change: impl Fn(usize, &mut toml::Table),
    ) -> Self {
        let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
        for number in 0..users {
            let mut project = world.project(PROJECT);
            project.user(&user(number)).certificates(2);
        }
        let mut settings = Settings::with_world(world);
        settings.rules.bucket.capacity = 100_000;
        let atlas = Simulator::start(settings).await.unwrap();
        let all = (0..REPLICAS).map(|number| {
            let files = tempfile::tempdir().unwrap();
            write_secrets(&files);
            let mut config = configuration(&files);
            set(&mut config, "atlas.base_url", atlas.base_url());
            set(&mut config, "atlas.limits.capacity", 100_000);
            set(&mut config, "atlas.limits.concurrency", 64);
            join_config(engine, &mut config, &format!("gateway-{number}"));
            change(number, &mut config);
            fs::write(files.path().join("gateway.toml"), config.to_string()).unwrap();
            Replica {
                program: Some(Program::start(files.path())),
                files,
            }
        });
        let replicas = Self {
            all: all.collect(),
            atlas,
        };
        for number in 0..REPLICAS {
            replicas.until(number, "fleet_connected", 1).await;
        }
        replicas
    }

    fn program(&self, number: usize) -> &Program {
        self.all[number].program.as_ref().unwrap()
    }

    async fn until(&self, number: usize, metric: &str, value: u64) {
        let mut glances = every(Duration::from_millis(5));
        while self.program(number).metric(metric).await != Some(value) {
            glances.tick().await;
        }
    }

    /// The sum of a metric over all replicas.
    async fn sum(&self, metric: &str) -> u64 {
        let each = (0..REPLICAS).map(|number| self.program(number).metric(metric));
        join_all(each).await.into_iter().flatten().sum()
    }

    /// A lookup that is under way at a replica.
    async fn ask(&self, number: usize, username: &str) -> Connection {
        let mut connection = Connection::open(self.program(number).address).await;
        let request = request_for(username, &token_now(), "keep-alive");
        connection.send(&request).await;
        connection
    }

    /// Which replica fetches: the one that has led once more than `before`.
    async fn leader(&self, before: &[u64]) -> usize {
        let mut glances = every(Duration::from_millis(5));
        loop {
            let now = self.led().await;
            let mut each = now.iter().zip(before);
            if let Some(leader) = each.position(|(now, before)| now > before) {
                return leader;
            }
            glances.tick().await;
        }
    }

    async fn led(&self) -> Vec<u64> {
        let each = (0..REPLICAS).map(|number| self.program(number).metric(LED));
        join_all(each).await.into_iter().map(Option::unwrap).collect()
    }

    fn restart(&mut self, number: usize) {
        let replica = &mut self.all[number];
        drop(replica.program.take());
        replica.program = Some(Program::start(replica.files.path()));
    }

    /// Ends all of them; each trail is whole.
    fn end(self) {
        for mut replica in self.all {
            let program = replica.program.take().unwrap();
            program.signal("-TERM");
            assert_eq!(program.end().0, Some(0));
            records(replica.files.path(), "lookup");
        }
    }
}

const LED: &str = "fleet_lists_total{result=\"led\"}";

fn user(number: usize) -> String {
    format!("user{number}")
}

fn number_from(variable: &str, usual: usize) -> usize {
    env::var_os(variable).map_or(usual, |number| number.into_string().unwrap().parse().unwrap())
}

/// `FLEET_LISTS=1000` is the long run.
#[tokio::test(flavor = "multi_thread")]
async fn fl01_a_list_that_all_replicas_are_asked_for_at_once_costs_one_call() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let lists = number_from("FLEET_LISTS", 100);
    let replicas = Replicas::start(&engine, lists + 1, |_, _| {}).await;
    let lanes = (0..REPLICAS * LANES).map(|lane| {
        let (replicas, mine) = (&replicas, (lane / REPLICAS..lists).step_by(LANES));
        async move {
            let address = replicas.program(lane % REPLICAS).address;
            let mut connection = Connection::open(address).await;
            for number in mine {
                let request = request_for(&user(number), &token_now(), "keep-alive");
                connection.send(&request).await;
                assert_eq!(connection.reply(false).await.status, 200);
            }
        }
    });
    join_all(lanes).await;
    assert_eq!(replicas.atlas.certificate_calls(), lists);
    assert_eq!(replicas.atlas.mints(), 1);
    // Forty callers of one list at each replica, half of whom leave.
    let last = user(lists);
    let held = replicas.atlas.on(Asked::certificates().user(&last)).hold();
    let asking = (0..REPLICAS * 40).map(|number| replicas.ask(number % REPLICAS, &last));
    let mut connections = join_all(asking).await;
    held.arrived(1).await;
    let mut glances = every(Duration::from_millis(5));
    while replicas.sum("cache_waiters").await < 200 {
        glances.tick().await;
    }
    connections.truncate(100);
    held.open();
    for connection in &mut connections {
        assert_eq!(connection.reply(false).await.status, 200);
    }
    assert_eq!(replicas.atlas.certificate_calls(), lists + 1);
    // A healthy engine is never given up, however much is asked at once (FL05).
    for result in ["silent", "alone", "refused"] {
        for operation in ["open", "store", "take", "observe", "renew"] {
            let metric = format!("fleet_operations_total{{operation=\"{operation}\",result=\"{result}\"}}");
            assert_eq!(replicas.sum(&metric).await, 0, "{metric}");
        }
    }
    replicas.end();
}

/// `FLEET_KILLS=100` is the long run.
#[tokio::test(flavor = "multi_thread")]
async fn fl02_a_replica_that_is_killed_during_its_fetch_costs_one_call_more() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let kills = number_from("FLEET_KILLS", 3);
    let mut replicas = Replicas::start(&engine, kills, |_, _| {}).await;
    for kill in 0..kills {
        let name = user(kill);
        let held = replicas.atlas.on(Asked::certificates().user(&name)).hold();
        let before = replicas.led().await;
        let calls = replicas.atlas.certificate_calls();
        let asking = (0..REPLICAS).map(|number| replicas.ask(number, &name));
        let mut connections = join_all(asking).await;
        held.arrived(1).await;
        let leader = replicas.leader(&before).await;
        drop(replicas.all[leader].program.take());
        // Another one fetches as soon as the lease has ended.
        held.arrived(2).await;
        held.open();
        connections.remove(leader);
        for connection in &mut connections {
            assert_eq!(connection.reply(false).await.status, 200);
        }
        assert_eq!(replicas.atlas.certificate_calls(), calls + 2, "kill {kill}");
        replicas.restart(leader);
        replicas.until(leader, "fleet_connected", 1).await;
    }
    replicas.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn fl03_a_replica_that_was_stopped_during_its_fetch_cannot_store_it_any_more() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let replicas = Replicas::start(&engine, 1, |_, _| {}).await;
    let name = user(0);
    let held = replicas.atlas.on(Asked::certificates().user(&name)).hold();
    let before = replicas.led().await;
    let mut first = replicas.ask(0, &name).await;
    held.arrived(1).await;
    assert_eq!(replicas.leader(&before).await, 0);
    replicas.program(0).signal("-STOP");
    let mut second = replicas.ask(1, &name).await;
    held.arrived(2).await;
    // What the stopped one has asked for is answered first, and is older.
    held.release_one();
    replicas.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user(&name).certificates(1);
    });
    held.release_one();
    assert_eq!(second.reply(false).await.json()["totalCount"], 3);
    replicas.program(0).signal("-CONT");
    let reply = first.reply(false).await;
    assert_eq!(reply.status, 200);
    let mut third = replicas.ask(2, &name).await;
    assert_eq!(third.reply(false).await.json()["totalCount"], 3);
    assert_eq!(replicas.atlas.certificate_calls(), 2);
    let files = &replicas.all[2].files;
    let lookups = records(files.path(), "lookup");
    let lookup: &Value = lookups.last().unwrap();
    assert_eq!(lookup["fill_replica"], "gateway-1");
    replicas.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn fl13_a_rotated_key_and_another_configuration_cost_two_fetches_at_most() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let new = engine.socket().with_file_name("new-key");
    write_private(&new, "another key of the fleet, 32 characters and more");
    let replicas = Replicas::start(&engine, 20, |number, config| {
        let old = config["fleet"]["key_files"][0].as_str().unwrap().to_owned();
        let new = new.display().to_string();
        // In the middle of a rotation: some have the new key first, some the old one.
        let files = if number < 3 { [old, new] } else { [new, old] };
        set(config, "fleet.key_files", files.to_vec());
        if number == 4 {
            set(config, "cache.ttl", "4m");
        }
    })
    .await;
    for number in 0..20 {
        for replica in 0..REPLICAS {
            let mut connection = replicas.ask(replica, &user(number)).await;
            assert_eq!(connection.reply(false).await.status, 200);
        }
    }
    let calls = replicas.atlas.certificate_calls();
    assert!(calls <= 40, "{calls}");
    replicas.until(4, "fleet_config_differs", 4).await;
    replicas.until(0, "fleet_config_differs", 1).await;
    assert_eq!(replicas.atlas.mints(), 1);
    replicas.end();
}

/// Connections to each replica.
const LANES: usize = 10;
