//! AU01: whatever is killed, at whatever moment, each record arrives once.

use std::env;
use std::fs;
use std::time::Duration;

use atlas_simulator::Simulator;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Connection;
use crate::harness::postgres::Postgres;
use crate::program::{Program, command, output, request, world_with};
use crate::world::{every, set, use_api_key, whole_lines};

/// `AUDIT_KILLS=100 cargo test --test gateway au01 -- --nocapture` is the long run.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn au01_killed_at_any_moment_each_record_is_in_the_database_once() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let kills = env::var_os("AUDIT_KILLS")
        .map_or(KILLS, |kills| kills.into_string().unwrap().parse().unwrap());
    let mut replicas = Vec::new();
    for number in 0..CHAINS {
        replicas.push(Replica::start(&postgres, number).await);
    }
    for kill in 0..kills {
        for replica in &replicas {
            replica.ask(20 + kill * 37 % 90).await;
        }
        let replica = &mut replicas[kill % CHAINS];
        match kill % 4 {
            0 => replica.restart(),
            1 => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway_audit'";
                postgres.execute(all).await;
            }
            2 => {
                postgres.stop(Signal::QUIT);
                replica.ask(10).await;
                postgres.resume().await;
            }
            _ => {
                // Both, and a reader besides.
                postgres.stop(Signal::INT);
                replica.restart();
                postgres.resume().await;
            }
        }
    }
    let mut records = 0;
    for replica in &mut replicas {
        records += replica.end_shipped(&postgres).await;
    }
    let twice = "SELECT count(*) FROM (SELECT FROM audit.record GROUP BY chain, seq HAVING count(*) > 1) AS twice";
    assert_eq!(postgres.number(twice).await, 0);
    let rows = postgres.number("SELECT count(*) FROM audit.record").await;
    assert_eq!(rows, records);
    let verified = postgres.command("auditor", &["verify", "--database"]);
    assert!(verified.status.success(), "{verified:?}");
    println!("{kills} kills of {CHAINS} replicas and their database: {rows} records, each once");
}

struct Replica {
    program: Option<Program>,
    files: TempDir,
    _atlas: Simulator,
}

impl Replica {
    async fn start(postgres: &Postgres, number: usize) -> Self {
        let (atlas, files) = world_with(|config| {
            use_api_key(config);
            set(config, "audit.replica", format!("replica-{number}"));
            set(config, "audit.sync", "interval");
            set(config, "audit.sync_interval", "100ms");
            set(config, "audit.rotate_size", "64KiB");
            set(config, "audit.compress_after", "0s");
            set(config, "audit.database.url", postgres.url("gateway_audit"));
            set(config, "audit.database.interval", "100ms");
        })
        .await;
        Self {
            program: Some(Program::start(files.path())),
            files,
            _atlas: atlas,
        }
    }

    async fn ask(&self, times: usize) {
        let program = self.program.as_ref().unwrap();
        let mut connection = Connection::open(program.address).await;
        for _ in 0..times {
            connection.send(&request("keep-alive")).await;
            assert_eq!(connection.reply(false).await.status, 200);
        }
    }

    /// Killed, and begun again.
    fn restart(&mut self) {
        drop(self.program.take());
        self.program = Some(Program::start(self.files.path()));
    }

    /// Waits until the database has all of it, and compares; how many records there are.
    async fn end_shipped(&mut self, postgres: &Postgres) -> i64 {
        let program = self.program.as_ref().unwrap();
        let (chain, written) = self.last_written();
        let end = format!("SELECT coalesce(max(seq), 0) FROM audit.chain WHERE name = '{chain}'");
        let mut glances = every(Duration::from_millis(20));
        while postgres.number(&end).await < written {
            glances.tick().await;
        }
        program.signal("-TERM");
        let program = self.program.take().unwrap();
        let (code, said) = program.end();
        assert_eq!(code, Some(0));
        let lines = self.lines();
        let shipped = shipped_lines(postgres, &chain).await;
        assert_eq!(shipped.lines().count(), lines.lines().count(), "{said:#?}");
        assert!(shipped == lines, "other lines were shipped");
        lines.lines().count().try_into().unwrap()
    }

    /// The chain, and the number of its last record so far.
    fn last_written(&self) -> (String, i64) {
        let listed = fs::read_dir(self.files.path().join("audit")).unwrap();
        let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|it| it == "jsonl"));
        files.sort_by_key(|file| crate::audit::trail::number(file));
        // The newest is never packed.
        let text = fs::read_to_string(files.last().unwrap()).unwrap();
        let line = whole_lines(&text).lines().next_back().unwrap();
        let record: Value = serde_json::from_str(line).unwrap();
        let chain = record["chain"].as_str().unwrap().to_owned();
        (chain, record["seq"].as_i64().unwrap())
    }

    /// Those of the journal's files, which packing does not change.
    fn lines(&self) -> String {
        let directory = self.files.path().join("audit");
        let verified = output(command().args(["audit", "verify"]).arg(&directory));
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
        let listed = fs::read_dir(&directory).unwrap();
        let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.starts_with("lookups-") && !name.contains(".torn")
        });
        files.sort_by_key(|file| crate::audit::trail::number(file));
        // What was being packed when it ended is there twice.
        files.dedup_by_key(|file| crate::audit::trail::number(file));
        let contents = files.iter().map(|file| {
            let content = fs::read(file).unwrap();
            let is_packed = file.extension().unwrap() == "zst";
            let lines = is_packed.then(|| zstd::stream::decode_all(&*content).unwrap());
            String::from_utf8(lines.unwrap_or(content)).unwrap()
        });
        contents.collect()
    }
}

/// The lines of a chain's batches, unpacked.
async fn shipped_lines(postgres: &Postgres, chain: &str) -> String {
    let owner = postgres.client("owner").await;
    let batches = format!(
        "SELECT lines, bytes FROM audit.batch JOIN audit.chain ON chain.id = batch.chain WHERE name = '{chain}' ORDER BY first"
    );
    let rows = owner.query(&batches, &[]).await.unwrap();
    let lines = rows.iter().map(|row| {
        let (packed, bytes): (&[u8], i32) = (row.get(0), row.get(1));
        let lines = zstd::bulk::decompress(packed, bytes.try_into().unwrap());
        String::from_utf8(lines.unwrap()).unwrap()
    });
    lines.collect()
}

const CHAINS: usize = 5;
const KILLS: usize = 8;
