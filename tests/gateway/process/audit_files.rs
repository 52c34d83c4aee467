//! SIGHUP begins a new audit file, whatever becomes of the configuration.

use std::fs;

use crate::client;
use crate::program::{Program, reloads, world};

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_begins_a_new_audit_file_whatever_becomes_of_the_configuration() {
    let (_atlas, files) = world().await;
    let file = files.path().join("gateway.toml");
    let good = fs::read_to_string(&file).unwrap();
    let mut program = Program::start(files.path());
    for (number, (text, said)) in [
        ("no TOML [", "the old configuration stays"),
        ("[cache]\nttl = \"soon\"\n", "the old configuration stays"),
        (&*good, "the configuration was read again"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&file, text).unwrap();
        program.signal("-HUP");
        program.until_it_says(said);
        while rotations(&program).await <= number {
            tokio::task::yield_now().await;
        }
    }
    fs::remove_file(&file).unwrap();
    program.signal("-HUP");
    program.until_it_says("the old configuration stays");
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(0));
    assert_eq!(reloads(files.path()).len(), 4);
}

async fn rotations(program: &Program) -> usize {
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let page = client::exchange(program.admin, request).await.text();
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("atlas_cert_gateway_audit_rotations_total "));
    count.unwrap().parse().unwrap()
}
