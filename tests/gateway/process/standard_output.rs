//! The second sink on standard output: whole lines, and nobody who does not read them delays an answer.

use std::fs;
use std::io::{BufRead, BufReader, pipe};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use rustix::fs::{OFlags, fcntl_setfl};

use crate::client;
use crate::program::{Program, request, serve, signal, world_with};
use crate::world::set;

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn standard_output_gets_the_lines_of_the_journal_whole() {
    // Of a pipe that says "later" instead of waiting, too: its other end may have made it so.
    for waits in [true, false] {
        let (_atlas, files) = world_with(to_standard_output).await;
        let (read, write) = pipe().unwrap();
        if !waits {
            fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
        }
        let mut program = Program::run(serve(files.path()).stdout(write));
        // More than a pipe holds, so that the program has to wait for its reader.
        for _ in 0..200 {
            assert_eq!(ask(&program).await, 200);
        }
        let reading = std::thread::spawn(|| BufReader::new(read).lines().collect::<Vec<_>>());
        program.signal("-TERM");
        assert_eq!(program.child.wait().unwrap().code(), Some(0));
        let lines: Result<Vec<String>, _> = reading.join().unwrap().into_iter().collect();
        let lines = lines.unwrap();
        let journal = journal(files.path());
        // The journal's first line says that it was opened, which was before there was a sink.
        assert_eq!(lines, journal[1..]);
    }
}

/// F49: the reader is stopped, goes on, and is gone.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_or_goes_away_delays_nothing_and_what_it_misses_is_counted() {
    let (_atlas, files) = world_with(|configuration| {
        to_standard_output(configuration);
        set(configuration, "audit.second.queue", "64KiB");
    })
    .await;
    let mut reader = Reader::start();
    let input = reader.0.stdin.take().unwrap();
    let program = Program::run(serve(files.path()).stdout(input));
    let mut shown = BufReader::new(reader.0.stdout.take().unwrap()).lines();
    assert_eq!(ask(&program).await, 200);
    let line = shown.next().unwrap().unwrap();
    assert!(journal(files.path()).contains(&line));
    signal(&reader.0, "-STOP");
    // The pipe, the queue, and then there is no room.
    let mut asked = 0;
    while dropped(&program).await == 0 {
        assert_eq!(ask(&program).await, 200);
        asked += 1;
        assert!(asked < 2_000, "nothing is dropped");
    }
    // What waited arrives when the reader goes on, in whole lines; then what is new.
    let older = journal(files.path());
    signal(&reader.0, "-CONT");
    let (see, seeing) = channel();
    std::thread::spawn(move || shown.map_while(Result::ok).try_for_each(|it| see.send(it)));
    let mut seen: Vec<String> = Vec::new();
    let mut asked = 0;
    while seen.last().is_none_or(|line| older.contains(line)) {
        assert_eq!(ask(&program).await, 200);
        asked += 1;
        assert!(asked < 2_000, "nothing arrives");
        seen.extend(seeing.try_iter());
    }
    let all = journal(files.path());
    assert!(seen.iter().all(|line| all.contains(line)));
    assert!(older[2..].iter().any(|line| !seen.contains(line)));
    // Gone for good: a write to it fails instead of waiting.
    drop(reader);
    let before = dropped(&program).await;
    let mut asked = 0;
    while dropped(&program).await == before {
        assert_eq!(ask(&program).await, 200);
        asked += 1;
        assert!(asked < 2_000, "nothing is dropped");
    }
}

/// A process that shows what it reads.
struct Reader(Child);

impl Reader {
    fn start() -> Self {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ask(program: &Program) -> u16 {
    client::exchange(program.address, &request("close"))
        .await
        .status
}

async fn dropped(program: &Program) -> u64 {
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let page = client::exchange(program.admin, request).await.text();
    page.lines()
        .find_map(|line| line.strip_prefix("atlas_cert_gateway_audit_sink_dropped_total "))
        .map_or(0, |count| count.parse().unwrap())
}

fn to_standard_output(configuration: &mut toml::Table) {
    set(configuration, "audit.second.to", "stdout");
}

/// The lines of the one file that there is.
fn journal(files: &Path) -> Vec<String> {
    let journal = fs::read_dir(files.join("audit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "jsonl"))
        .unwrap();
    let text = fs::read_to_string(journal).unwrap();
    text.lines().map(str::to_owned).collect()
}
