//! `health`: asks a running gateway's admin listener whether it is well, and says what is ill. For health
//! checks in images that hold no shell and no `curl`.

use std::io;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use http::uri::{Parts, PathAndQuery, Scheme};
use serde::Deserialize;

use super::{ExitStatus, complain, say};
use crate::config::Source;
use crate::system::Clock;

/// What `health` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to ask: `/healthz` for whether the process serves, `/readyz` for whether it should be given
    /// requests. Plain HTTP, as the admin listener speaks it.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9090/healthz"
    )]
    url: Uri,
    /// The configuration of the gateway to ask for `/readyz`, at the address that it names.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// How long the answer may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Why a gateway does not count as healthy.
#[derive(Debug, thiserror::Error)]
enum Unhealthy {
    #[error("no address: write http://127.0.0.1:9090/healthz")]
    Address,
    #[error("it answers {status}: {body}")]
    Answer { status: String, body: String },
    #[error("it cannot be asked: {0}")]
    Silent(#[from] io::Error),
}

/// Asks.
pub fn run(arguments: &Arguments) -> ExitStatus {
    let patience = Duration::from_secs(arguments.timeout);
    let url = match &arguments.config {
        Some(file) => match Source::new(file).read() {
            Ok(config) => readiness_at(config.admin.listen),
            Err(refused) => {
                complain(&refused);
                return ExitStatus::Misconfigured;
            }
        },
        None => arguments.url.clone(),
    };
    match ask(&url, patience, &Clock::system()) {
        Ok(state) => {
            say(&state);
            ExitStatus::Well
        }
        Err(why) => {
            complain(&format_args!("{url}: {why}"));
            ExitStatus::Failed
        }
    }
}

/// Where a gateway on this host tells of its readiness, whichever addresses it listens on.
fn readiness_at(listen: SocketAddr) -> Uri {
    let host = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let authority = SocketAddr::new(host, listen.port()).to_string();
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority.parse().ok();
    parts.path_and_query = Some(PathAndQuery::from_static("/readyz"));
    Uri::from_parts(parts).unwrap_or_default()
}

fn ask(url: &Uri, patience: Duration, clock: &Clock) -> Result<String, Unhealthy> {
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(Unhealthy::Address);
    };
    let address = (host(authority.host()), authority.port_u16().unwrap_or(80));
    let addresses = address.to_socket_addrs()?;
    let until = Deadline {
        clock,
        at: clock.now().elapsed + patience,
    };
    let mut stream = connect(addresses, &until)?;
    stream.set_write_timeout(Some(until.left()?))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let answer = read(&mut stream, &until)?;
    judge(&answer)
}

/// An IPv6 address stands in brackets in a URL, and without them everywhere else.
fn host(text: &str) -> &str {
    text.trim_start_matches('[').trim_end_matches(']')
}

fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    until: &Deadline<'_>,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, until.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The answer's beginning, which holds all that is judged. A single deadline covers every read, so that
/// a listener that drips bytes does not hold the check.
fn read(stream: &mut TcpStream, until: &Deadline<'_>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while answer.len() < LONGEST_ANSWER {
        stream.set_read_timeout(Some(until.left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a socket says when its own time is over; it would read like a riddle.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Deadline::over());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn judge(answer: &[u8]) -> Result<String, Unhealthy> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let line = head.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.1 ").unwrap_or(line);
    if status.split(' ').next() == Some("200") && line.len() > status.len() {
        return Ok(state(body));
    }
    // What is not ready is told in the body, and that is what the person who looks wants to know.
    Err(Unhealthy::Answer {
        status: status.chars().filter(|sign| !sign.is_control()).collect(),
        body: body.chars().filter(|sign| !sign.is_control()).collect(),
    })
}

/// What a gateway that is well says of itself: a line, and one more for each part that is ill.
fn state(body: &str) -> String {
    let report: Report = serde_json::from_str(body).unwrap_or_default();
    let degraded = report.degraded.iter().map(|fault| {
        let line = format!("degraded: {}: {}", fault.part, fault.problem);
        line.chars().filter(|sign| !sign.is_control()).collect()
    });
    let mut lines = vec!["healthy".to_owned()];
    lines.extend(degraded);
    lines.join("\n")
}

/// What is read of the answer of `/readyz`; that of `/healthz` has none of it.
#[derive(Debug, Default, Deserialize)]
struct Report {
    degraded: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    part: String,
    problem: String,
}

/// When patience ends.
struct Deadline<'c> {
    clock: &'c Clock,
    at: Duration,
}

impl Deadline<'_> {
    /// What is left; never zero, which sockets take for "for ever".
    fn left(&self) -> io::Result<Duration> {
        let left = self.at.saturating_sub(self.clock.now().elapsed);
        if left.is_zero() {
            Err(Self::over())
        } else {
            Ok(left)
        }
    }

    fn over() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
    }
}

const LONGEST_ANSWER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::atlas::Timestamp;
    use crate::system::ManualClock;

    const PATIENCE: Duration = Duration::from_secs(2);

    /// Asks a listener that takes one request and answers with `pieces`, a second apart.
    fn ask_one_that_says(pieces: &'static [&'static str]) -> (Result<String, Unhealthy>, String) {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let listener = thread::spawn(move || answer_once(&listener, pieces, &manual_clock));
        let verdict = ask(&url.parse().unwrap(), PATIENCE, &clock);
        (verdict, listener.join().unwrap())
    }

    fn answer_once(listener: &TcpListener, pieces: &[&str], manual_clock: &ManualClock) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        for piece in pieces {
            // The other side may have lost its patience.
            let _ = stream.write_all(piece.as_bytes());
            manual_clock.advance(Duration::from_secs(1));
        }
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn a_door_that_answers_200_is_healthy_and_was_asked_for_the_path() {
        let (verdict, request) = ask_one_that_says(&["HTTP/1.1 200 OK\r\n\r\n\"ok\"\n"]);
        assert_eq!(verdict.unwrap(), "healthy");
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[test]
    fn one_that_serves_although_something_is_ill_is_healthy_and_says_what() {
        let (verdict, _) =
            ask_one_that_says(&["HTTP/1.1 200 OK\r\n\r\n{\"ready\":true,\"problems\":[],\
             \"degraded\":[{\"part\":\"keys\",\"problem\":\"none of x\"}]}\n"]);
        assert_eq!(verdict.unwrap(), "healthy\ndegraded: keys: none of x");
    }

    #[test]
    fn any_other_answer_is_unhealthy_and_says_what_is_not_ready() {
        let (verdict, _) = ask_one_that_says(&[
            "HTTP/1.1 503 Service Unavailable\r\n\r\n[{\"part\":\"audit\"}]\n",
        ]);
        let told = verdict.unwrap_err().to_string();
        assert_eq!(
            told,
            "it answers 503 Service Unavailable: [{\"part\":\"audit\"}]"
        );
        for nonsense in [&["200 OK\r\n\r\n"], &[""], &["HTTP/1.1 2000 OK\r\n\r\n"]] {
            assert!(ask_one_that_says(nonsense).0.is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn a_door_that_drips_is_left_when_patience_ends() {
        let (verdict, _) = ask_one_that_says(&["HTTP/1.1 ", "200 ", "OK\r\n", "\r\n"]);
        let Err(Unhealthy::Silent(error)) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn nobody_at_the_address_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/healthz", listener.local_addr().unwrap());
        drop(listener);
        let verdict = ask(&url.parse().unwrap(), PATIENCE, &Clock::system());
        assert!(matches!(verdict, Err(Unhealthy::Silent(_))), "{verdict:?}");
    }

    #[test]
    fn the_address_of_a_configuration_is_asked_on_this_host() {
        for (listen, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090/readyz"),
            ("0.0.0.0:9091", "http://127.0.0.1:9091/readyz"),
            ("[::]:9090", "http://[::1]:9090/readyz"),
            ("10.0.0.7:9090", "http://10.0.0.7:9090/readyz"),
        ] {
            assert_eq!(readiness_at(listen.parse().unwrap()).to_string(), url);
        }
    }

    #[test]
    fn only_plain_http_with_a_host_is_an_address() {
        for url in [
            "/healthz",
            "https://127.0.0.1:9090/healthz",
            "127.0.0.1:9090",
        ] {
            let verdict = ask(&url.parse().unwrap(), PATIENCE, &Clock::system());
            assert!(matches!(verdict, Err(Unhealthy::Address)), "{url}");
        }
        assert_eq!(host("[::1]"), "::1");
    }
}
