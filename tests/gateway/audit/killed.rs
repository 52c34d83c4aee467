//! F47, G17: killed at any instant, no answer is without its record.

use std::collections::HashMap;
use std::env;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atlas_cert_gateway::audit::Arrival;
use atlas_cert_gateway::audit::Audit;
use atlas_cert_gateway::audit::CacheUse;
use atlas_cert_gateway::audit::Closing;
use atlas_cert_gateway::audit::Config;
use atlas_cert_gateway::audit::Outcome;
use atlas_cert_gateway::audit::verify::verify;
use atlas_cert_gateway::clock::Clock;
use atlas_cert_gateway::settings::Size;
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use uuid::Uuid;

/// How many are in flight when the process is killed.
const CALLERS: usize = 200;

/// `AUDIT_KILLS=100 cargo test --test gateway killed` is the long run.
#[test]
fn killed_again_and_again_no_answer_is_without_its_record() {
    const NAME: &str = "audit::killed::killed_again_and_again_no_answer_is_without_its_record";
    if let Some(directory) = env::var_os("AUDIT_TEST_DIRECTORY") {
        return answer_until_killed(Path::new(&directory));
    }
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("audit");
    let kills =
        env::var_os("AUDIT_KILLS").map_or(5, |kills| kills.to_str().unwrap().parse().unwrap());
    let mut answered = Vec::new();
    for kill in 0..kills {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env("AUDIT_TEST_DIRECTORY", &directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Not a time but a number of answers, so that a slow machine kills no emptier process.
        let enough = 500 + 977 * kill % 4_000;
        let mut here = 0;
        while here < enough {
            let line = lines.next().expect("the child has ended").unwrap();
            if let Some(id) = line.strip_prefix("answered ") {
                answered.push(id.to_owned());
                here += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had written to the pipe was an answer that left.
        answered.extend(
            lines
                .map_while(Result::ok)
                .filter_map(|line| Some(line.strip_prefix("answered ")?.to_owned()))
                .filter(|id| id.len() == 36),
        );
    }
    // One more start mends what the last kill left.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { open(&directory).close().await });
    let mut recorded: HashMap<String, u32> = HashMap::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jsonl") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(id) = record["request_id"].as_str() {
                    *recorded.entry(id.to_owned()).or_default() += 1;
                }
            }
        }
    }
    assert!(answered.len() >= 500 * kills);
    for id in &answered {
        assert_eq!(recorded.get(id), Some(&1), "{id}");
    }
    assert_eq!(verify(&directory, 1, None).unwrap().fault, None);
}

fn answer_until_killed(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let audit = open(directory);
        let clock = Clock::system();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| tokio::spawn(answer(audit.clone(), clock.clone())))
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

async fn answer(audit: Audit, clock: Clock) {
    loop {
        let now = clock.now();
        let request_id = Uuid::now_v7();
        let mut entry = audit.entry(Arrival {
            request_id,
            peer: "127.0.0.1:1".parse().unwrap(),
            at: now,
            caller_request_id: None,
            tls_subject: None,
        });
        entry.permitted(&Arc::from("rule"));
        let closing = Closing {
            outcome: Outcome::Answered,
            status: 200,
            cache: CacheUse::Hit,
            ..Closing::abandoned(now)
        };
        if entry.close(closing).await.is_ok() {
            // One write, as an answer is: what the pipe has, the caller has.
            let line = format!("answered {request_id}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
    }
}

fn open(directory: &Path) -> Audit {
    let config = Config {
        directory: directory.to_owned(),
        rotate_size: Size::kibibytes(512),
        sync_interval: Duration::from_millis(100),
        ..Config::default()
    };
    Audit::open(&config, "test", Clock::system(), AuditMetrics::default()).unwrap()
}
