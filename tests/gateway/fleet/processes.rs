//! Replicas of one fleet, each the program itself, in front of one Atlas that counts. Time is the system's.

use std::time::Duration;

use atlas_simulator::Simulator;
use tempfile::TempDir;

use super::join_config;
use crate::client::{self, Reply};
use crate::harness::engine::Engine;
use crate::program::{Program, files_in_front_of, request_for, token_now, world_with};
use crate::world::{PROJECT, every, set};

/// Running replicas; each can be killed and started again.
pub(super) struct Replicas {
    pub(super) atlas: Simulator,
    pub(super) programs: Vec<Program>,
    files: Vec<TempDir>,
}

impl Replicas {
    /// Starts so many, in front of an Atlas in which `user0` and so on have a certificate each.
    pub(super) async fn start(engine: &Engine, count: usize, users: usize) -> Self {
        Self::with(engine, count, users, |_| {}).await
    }

    /// The same, with changes to the configuration of each.
    pub(super) async fn with(
        engine: &Engine,
        count: usize,
        users: usize,
        change: impl Fn(&mut toml::Table),
    ) -> Self {
        let of = |number: usize| {
            let change = &change;
            move |config: &mut toml::Table| {
                join_config(engine, config, &format!("gateway-{number}"));
                // A machine that is busy with other tests is no engine that is gone, nor an Atlas that is late.
                set(config, "fleet.silence", "1s");
                set(config, "atlas.limits.first_byte", "20s");
                set(config, "atlas.limits.page", "20s");
                set(config, "atlas.limits.fetch", "1m");
                set(config, "atlas.limits.queue_wait", "30s");
                set(config, "server.limits.request", "1m");
                change(config);
            }
        };
        let (atlas, first) = world_with(of(1)).await;
        atlas.world(|world| {
            let mut project = world.project(PROJECT);
            for number in 0..users {
                project.user(&format!("user{number}")).certificates(1);
            }
        });
        let mut files = vec![first];
        files.extend((2..=count).map(|number| files_in_front_of(&atlas, of(number))));
        let programs = files.iter().map(|files| Program::start(files.path()));
        let replicas = Self {
            programs: programs.collect(),
            atlas,
            files,
        };
        for program in &replicas.programs {
            until(program, "fleet_connected", 1).await;
        }
        replicas
    }

    /// Asks one replica.
    pub(super) async fn ask(&self, replica: usize, username: &str) -> Reply {
        let request = request_for(username, &token_now(), "close");
        client::exchange(self.programs[replica].address, &request).await
    }

    /// Starts a replica that was killed.
    pub(super) async fn start_again(&mut self, replica: usize) {
        self.programs[replica] = Program::start(self.files[replica].path());
        until(&self.programs[replica], "fleet_connected", 1).await;
    }

    /// How many functions of the engine came to nothing at all replicas, whatever they were.
    pub(super) async fn failed_operations(&self) -> u64 {
        let mut failed = 0;
        for program in &self.programs {
            let page = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let page = client::exchange(program.admin, page).await.text();
            let operations = page
                .lines()
                .filter(|line| line.starts_with("atlas_cert_gateway_fleet_operations_total{"));
            let not_ok = operations.filter(|line| !line.contains("result=\"ok\""));
            failed += not_ok
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
                .sum::<u64>();
        }
        failed
    }
}

/// Waits until a metric has a value.
pub(super) async fn until(program: &Program, metric: &str, value: u64) {
    let mut glances = every(Duration::from_millis(5));
    while program.metric(metric).await != Some(value) {
        glances.tick().await;
    }
}
