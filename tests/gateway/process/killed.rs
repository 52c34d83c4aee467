//! F47, G17: `kill -9` at any moment. A ledger on the side of the callers holds every answer that arrived;
//! each has its one record, every file parses, and the chain is whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use atlas_cert_gateway::system::Clock;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::sync::mpsc::UnboundedSender;

use crate::client::Connection;
use crate::program::{Program, command, output, request_for, world_with};
use crate::world::{set, token_at, use_api_key};

/// `AUDIT_KILLS=100 cargo test --test gateway killed -- --nocapture` is the long run.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn killed_with_requests_in_flight_no_answer_is_without_its_record() {
    let kills = env::var_os("AUDIT_KILLS")
        .map_or(KILLS, |kills| kills.into_string().unwrap().parse().unwrap());
    let (_atlas, files) = world_with(|configuration| {
        // Tokens can only be minted so often, whichever process is killed.
        use_api_key(configuration);
        set(configuration, "audit.sync", "interval");
        // Small enough that some are killed while a file is begun.
        set(configuration, "audit.rotate_size", "256KiB");
    })
    .await;
    let mut ledger: HashMap<String, u16> = HashMap::new();
    for kill in 0..kills {
        let mut program = Program::start(files.path());
        let in_flight = Arc::new(AtomicUsize::new(0));
        let (arrived, mut arriving) = mpsc::unbounded_channel();
        for caller in 0..CALLERS {
            let asking = Asking {
                address: program.address,
                requests: requests(),
                next: caller,
                in_flight: Arc::clone(&in_flight),
                arrived: arrived.clone(),
            };
            tokio::spawn(asking.until_it_ends());
        }
        drop(arrived);
        // Not a time but a number of answers, so that a slow machine kills no emptier process.
        let mut enough = CALLERS + 977 * kill % 4_000;
        while enough > 0 || in_flight.load(Ordering::SeqCst) < IN_FLIGHT {
            let (id, status) = arriving.recv().await.expect("the program has ended");
            assert_eq!(ledger.insert(id, status), None, "an id was given twice");
            enough = enough.saturating_sub(1);
        }
        program.child.kill().unwrap();
        // What came over after that was an answer that had left.
        while let Some((id, status)) = arriving.recv().await {
            assert_eq!(ledger.insert(id, status), None, "an id was given twice");
        }
    }
    // What the last kill has torn is mended by the next start.
    drop(Program::start(files.path()));
    let directory = files.path().join("audit");
    let verified = output(command().args(["audit", "verify"]).arg(&directory));
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let recorded = recorded(&directory);
    // A 503 was given because the disk took longer than a second; what was held back may be on record.
    let late = |status: u16| status == 503;
    for (id, status) in ledger.iter().filter(|(_, status)| !late(**status)) {
        assert_eq!(recorded.get(id), Some(&vec![*status]), "{id}");
    }
    let of = |wanted: u16| ledger.values().filter(|status| **status == wanted).count();
    println!(
        "{kills} kills, each with at least {IN_FLIGHT} requests in flight; {} answers arrived ({} of \
         200, {} of 401, {} of 403), each with its one record among {}; {}",
        ledger.len(),
        of(200),
        of(401),
        of(403),
        recorded.len(),
        String::from_utf8_lossy(&verified.stdout)
            .lines()
            .next()
            .unwrap()
    );
    assert!(of(200) > 0 && of(401) > 0 && of(403) > 0);
}

/// One caller: asks until the program is gone.
struct Asking {
    address: SocketAddr,
    requests: [Vec<u8>; 4],
    next: usize,
    in_flight: Arc<AtomicUsize>,
    arrived: UnboundedSender<(String, u16)>,
}

impl Asking {
    async fn until_it_ends(mut self) {
        let Some(mut connection) = Connection::try_open(self.address).await else {
            return;
        };
        loop {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            connection.send(&self.requests[self.next % 4]).await;
            self.next += 1;
            let reply = connection.reply(false).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            // The head is enough to have learnt something, whatever became of the body.
            let Some(id) = reply.header("x-request-id") else {
                return;
            };
            self.arrived.send((id.to_owned(), reply.status)).unwrap();
        }
    }
}

/// What is answered from memory, twice, what is denied, and what nobody verifies.
fn requests() -> [Vec<u8>; 4] {
    let now = Clock::system().now().wall.seconds();
    let good = token_at(now, &json!({ "sub": "payments-api" }));
    let expired = token_at(now - 86_400, &json!({ "sub": "payments-api" }));
    [
        request_for("app1", &good, "keep-alive"),
        request_for("secret-1", &good, "keep-alive"),
        request_for("app1", &good, "keep-alive"),
        request_for("app1", &expired, "keep-alive"),
    ]
}

/// The statuses on record, by request id. Every line of every file has to parse.
fn recorded(directory: &Path) -> HashMap<String, Vec<u16>> {
    let mut recorded: HashMap<String, Vec<u16>> = HashMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            if let (Some(id), Some(status)) =
                (record["request_id"].as_str(), record["status"].as_u64())
            {
                let status = status.try_into().unwrap();
                recorded.entry(id.to_owned()).or_default().push(status);
            }
        }
    }
    recorded
}

/// More than have to be in flight: a few are always between one request and the next.
const CALLERS: usize = 250;
const IN_FLIGHT: usize = 200;
const KILLS: usize = 4;
