//! Restarted and reloaded under load: no caller that keeps to HTTP notices.
//!
//! `RESTARTS=50 RELOADS=1000 ANSWERS=20000 cargo test --test gateway under_load -- --nocapture` is the long
//! run.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::client::Connection;
use crate::process::sockets::activated;
use crate::program::{Program, reloads as on_record, request, serve, token_now, world_with};
use crate::world::{PROJECT, certs, set, use_api_key};

/// An HTTP/2 connection.
pub(super) struct Http2 {
    sender: http2::SendRequest<Empty<Bytes>>,
    authorization: String,
}

impl Http2 {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, hyper::Error> {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            authorization: format!("Bearer {}", token_now()),
        })
    }

    /// Sends a lookup, whose answer's status comes later.
    pub(super) fn begin(&mut self) -> JoinHandle<Result<u16, hyper::Error>> {
        tokio::spawn(self.ask())
    }

    fn ask(&mut self) -> impl Future<Output = Result<u16, hyper::Error>> + use<> {
        let request = Request::get(format!("http://gateway.test{}", certs(PROJECT, "app1")))
            .header("authorization", &self.authorization)
            .body(Empty::new())
            .unwrap();
        let answer = self.sender.send_request(request);
        async move {
            let answer = answer.await?;
            let status = answer.status().as_u16();
            answer.into_body().collect().await?;
            Ok(status)
        }
    }
}

/// Callers who ask until they are told to stop.
struct Load {
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Tally>>,
}

/// What one caller has seen.
#[derive(Debug, Default)]
struct Tally {
    /// Sent again on another connection, as RFC 9112 (section 9.3.1) and RFC 9113 (section 6.8) have it:
    /// the one that was in use ended before it answered, or said that it never saw the request.
    again: usize,
    failed: Vec<String>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let count = Arc::clone(&answered);
            callers.push(tokio::spawn(over_http1(address, stop.clone(), count)));
            let count = Arc::clone(&answered);
            callers.push(tokio::spawn(over_http2(address, stop.clone(), count)));
        }
        Self {
            stop,
            answered,
            callers,
        }
    }

    /// Waits until so many more were answered.
    async fn goes_on(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        while self.answered.load(Ordering::Relaxed) < enough {
            assert!(self.callers.iter().all(|caller| !caller.is_finished()));
            tokio::task::yield_now().await;
        }
    }

    /// Ends it, without a failure.
    #[expect(clippy::print_stdout, reason = "the numbers of the long run")]
    async fn end(self, what: &str) {
        self.stop.cancel();
        let mut again = 0;
        for caller in self.callers {
            let tally = caller.await.unwrap();
            assert!(tally.failed.is_empty(), "{:?}", tally.failed);
            again += tally.again;
        }
        let answered = self.answered.load(Ordering::Relaxed);
        println!("{what}: {answered} answered, {again} of them at the second try, none failed");
    }
}

async fn over_http1(
    address: SocketAddr,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
) -> Tally {
    let mut tally = Tally::default();
    let request = request("keep-alive");
    let mut open = None;
    while !stop.is_cancelled() {
        let was_used = open.is_some();
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => Connection::open(address).await,
        };
        connection.send(&request).await;
        let reply = connection.reply(false).await;
        match reply.status {
            200 => {
                answered.fetch_add(1, Ordering::Relaxed);
                let closes = reply.header("connection") == Some("close");
                open = (!closes).then_some(connection);
            }
            0 if was_used && reply.body.is_empty() => tally.again += 1,
            _ => tally
                .failed
                .push(format!("HTTP/1.1, used {was_used}: {reply:?}")),
        }
    }
    tally
}

async fn over_http2(
    address: SocketAddr,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
) -> Tally {
    let mut tally = Tally::default();
    let mut open: Option<Http2> = None;
    while !stop.is_cancelled() {
        let mut connection = match open.take() {
            Some(connection) if !connection.sender.is_closed() => connection,
            _ => match Http2::open(address).await {
                Ok(connection) => connection,
                Err(error) => {
                    tally.failed.push(format!("HTTP/2: {error:?}"));
                    continue;
                }
            },
        };
        match connection.ask().await {
            Ok(200) => {
                answered.fetch_add(1, Ordering::Relaxed);
                open = Some(connection);
            }
            Err(error) if error.is_canceled() || never_seen(&error) => tally.again += 1,
            other => tally.failed.push(format!("HTTP/2: {other:?}")),
        }
    }
    tally
}

/// Whether the other side has said that it did not look at the request.
fn never_seen(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("REFUSED_STREAM") || text.contains("GoAway(b\"\", NO_ERROR, Remote)")
}

fn count(variable: &str, usual: usize) -> usize {
    env::var_os(variable).map_or(usual, |count| count.to_str().unwrap().parse().unwrap())
}

/// N3: the socket lives on, as systemd keeps it.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn no_caller_notices_restarts_under_load() {
    let (_atlas, files) = world_with(|config| {
        set(config, "server.limits.drain_lead", "100ms");
        // So many tokens a minute would not be minted.
        use_api_key(config);
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = || {
        let socket = listener.try_clone().unwrap().into();
        Program::run(&mut activated(&serve(files.path()), "public", vec![socket]))
    };
    let load = Load::on(listener.local_addr().unwrap());
    let (restarts, enough) = (count("RESTARTS", 3), count("ANSWERS", ENOUGH));
    for _ in 0..restarts {
        let program = start();
        load.goes_on(enough).await;
        program.signal("-TERM");
        let (code, said) = program.end();
        assert_eq!(code, Some(0), "{said:?}");
    }
    let last = start();
    load.goes_on(enough).await;
    load.end(&format!("{restarts} restarts")).await;
    drop(last);
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_a_minted_token_from_one_that_was_taken_up() {
    let (_atlas, files) = world_with(|_| ()).await;
    for (says, says_not) in [
        ("minted a token for Atlas", "took up the token"),
        ("took up the token of the process before", "minted a token"),
    ] {
        let mut program = Program::start(files.path());
        let reply = client::exchange(program.address, &request("close")).await;
        assert_eq!(reply.status, 200);
        if !program.said.iter().any(|line| line.contains(says)) {
            program.until_it_says(says);
        }
        // One that ends in order gives its token back.
        program.signal("-KILL");
        let (_, said) = program.end();
        assert!(!said.iter().any(|line| line.contains(says_not)), "{said:?}");
    }
}

/// N26: of every tenth file nothing is taken.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn no_caller_notices_reloads_under_load() {
    let (_atlas, files) = world_with(|_| {}).await;
    let file = files.path().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let mut program = Program::start(files.path());
    let load = Load::on(program.address);
    let (reloads, enough) = (count("RELOADS", 100), count("ANSWERS", ENOUGH));
    load.goes_on(enough).await;
    for number in 1..=reloads {
        let broken = number % 10 == 0;
        let ttl = if broken {
            "soon".to_owned()
        } else {
            format!("{number}s")
        };
        let mut changed: toml::Table = text.parse().unwrap();
        set(&mut changed, "cache.ttl", ttl);
        fs::write(&file, changed.to_string()).unwrap();
        program.signal("-HUP");
        program.until_it_says(if broken {
            "the old configuration stays"
        } else {
            "the configuration was read again"
        });
    }
    load.goes_on(enough).await;
    load.end(&format!("{reloads} reloads")).await;
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(0));
    assert_eq!(on_record(files.path()).len(), reloads);
}

/// Of each protocol.
const CALLERS: usize = 4;
/// Answers that make a load of it, between two restarts.
const ENOUGH: usize = 200;
