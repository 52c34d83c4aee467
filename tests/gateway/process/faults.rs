//! The whole program on a disk that is full, and beside another one that has its directory.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use atlas_cert_gateway::system::Clock;
use serde_json::{Value, json};

use crate::audit::alone::{small_disk, with_small_disk};
use crate::client;
use crate::client::Reply;
use crate::program::{Program, output, request, serve, world, world_with};
use crate::world::{set, token_at, whole_lines};

/// F40, G16: not a byte of a certificate without its record, and 200 again once there is room.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_everything_is_503_and_readiness_red_until_there_is_room() {
    let (_atlas, files) = world_with(|configuration| {
        let directory = small_disk().join("audit");
        set(
            configuration,
            "audit.directory",
            directory.to_str().unwrap(),
        );
    })
    .await;
    let serve = serve(files.path());
    let program = Program::run(with_small_disk(&serve).args(serve.get_args()));
    let ask = async || client::exchange(program.address, &request("close")).await;
    assert_eq!(ask().await.status, 200);
    // The shell has become the program, so its number is that of the process that sees the small disk.
    let ballast = PathBuf::from(format!("/proc/{}/cwd/ballast", program.child.id()));
    let mut filling = fs::File::create(&ballast).unwrap();
    while filling.write_all(&[b'x'; 512]).is_ok() {}
    drop(filling);
    // The last page of the file has some room left.
    let mut reply = ask().await;
    while reply.status == 200 {
        reply = ask().await;
    }
    for _ in 0..20 {
        let reply = ask().await;
        assert_eq!(
            (reply.status, &*reply.error_code()),
            (503, "SERVICE_UNAVAILABLE")
        );
        assert!(!reply.text().contains("notAfter"), "{}", reply.text());
    }
    // What is not on record is not done.
    let refused = purge(&program).await;
    assert_eq!(
        (refused.status, &*refused.error_code()),
        (503, "SERVICE_UNAVAILABLE")
    );
    let ready = readiness(&program).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("audit"), "{}", ready.text());
    fs::remove_file(&ballast).unwrap();
    let again = loop {
        let reply = ask().await;
        if reply.status == 200 {
            break reply;
        }
    };
    assert_eq!(
        again.header("x-upstream-calls"),
        Some("0"),
        "nothing was purged"
    );
    let purged = purge(&program).await;
    assert_eq!(purged.json(), json!({ "entries": 1 }), "{}", purged.text());
    assert_eq!(readiness(&program).await.status, 200);
    let journal = fs::read_dir(ballast.with_file_name("audit")).unwrap();
    let lines: Vec<Value> = journal
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .flat_map(|text| {
            whole_lines(&text)
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let gap = lines.iter().find(|line| line["action"] == "recovered");
    assert!(gap.unwrap()["unrecorded"].as_u64().unwrap() >= 21);
}

/// F50.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_on_the_same_trail_does_not_start_and_the_first_goes_on() {
    let (_atlas, files) = world().await;
    let program = Program::start(files.path());
    // The directory of its tokens' ledger has a lock of its own, and is looked at first.
    let path = files.path().join("gateway.toml");
    let configuration = fs::read_to_string(&path).unwrap();
    fs::write(&path, configuration.replace("/state\"", "/another-state\"")).unwrap();
    let second = output(&mut serve(files.path()));
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(complaint.contains("used by another process"), "{complaint}");
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
}

async fn purge(program: &Program) -> Reply {
    let now = Clock::system().now().wall.seconds();
    let (token, body) = (
        token_at(now, &json!({ "sub": "operator" })),
        r#"{"all":true}"#,
    );
    let request = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client::exchange(program.admin, request.as_bytes()).await
}

async fn readiness(program: &Program) -> Reply {
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client::exchange(program.admin, request).await
}
