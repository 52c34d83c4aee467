//! `health`: asks a running gateway's admin listener whether it is well, and says what is ill. For health
//! checks in images that hold no shell and no `curl`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{io, iter};

use bytes::Bytes;
use clap::Args;
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_util::task::AbortOnDropHandle;

use super::{ExitStatus, complain, say};
use crate::config::ConfigSource;
use crate::system::{Clock, Elapsed};

/// What `health` is told.
#[derive(Debug, Args)]
pub(crate) struct HealthArguments {
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

#[derive(Debug, thiserror::Error)]
enum Unhealthy {
    #[error("no address: write http://127.0.0.1:9090/healthz")]
    Address,
    #[error("it answers {status}: {body}")]
    Answer { status: StatusCode, body: String },
    #[error("it cannot be asked: {0}")]
    Broken(#[from] hyper::Error),
    #[error("it cannot be asked: {0}")]
    Silent(#[from] io::Error),
}

pub(crate) fn run(arguments: &HealthArguments) -> ExitStatus {
    let patience = Duration::from_secs(arguments.timeout);
    let url = match &arguments.config {
        Some(file) => match ConfigSource::new(file).read() {
            Ok(config) => readiness_at(config.admin.listen),
            Err(refused) => {
                complain(&refused);
                return ExitStatus::Misconfigured;
            }
        },
        None => arguments.url.clone(),
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let clock = Clock::system();
    let asked = runtime.map_err(Unhealthy::Silent);
    match asked.and_then(|runtime| runtime.block_on(ask(&url, patience, &clock))) {
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
    let url = format!("http://{}/readyz", SocketAddr::new(host, listen.port()));
    url.parse().expect("an address makes a URL")
}

/// Asks by one deadline for all, so that a listener that drips bytes does not hold the check.
async fn ask(url: &Uri, patience: Duration, clock: &Clock) -> Result<String, Unhealthy> {
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(Unhealthy::Address);
    };
    match clock.timeout(patience, exchange(url, authority)).await {
        Ok(Ok((status, body))) => judge(status, &body),
        Ok(Err(error)) => Err(error),
        Err(Elapsed) => {
            let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            Err(late.into())
        }
    }
}

async fn exchange(url: &Uri, authority: &Authority) -> Result<(StatusCode, Bytes), Unhealthy> {
    let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("the parts of a URL make a request");
    // An IPv6 address stands in brackets in a URL, and without them everywhere else.
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await;
    Ok((head.status, body.map_err(io::Error::other)?.to_bytes()))
}

/// What a gateway that is well says of itself: a line, and one more for each part that is ill.
fn judge(status: StatusCode, body: &[u8]) -> Result<String, Unhealthy> {
    let printable = |text: &str| text.chars().filter(|sign| !sign.is_control()).collect();
    if status != StatusCode::OK {
        // What is not ready is told in the body, and that is what the person who looks wants to know.
        let body = printable(&String::from_utf8_lossy(body));
        return Err(Unhealthy::Answer { status, body });
    }
    // The answer of `/healthz` has none of it.
    let report: HealthReport = serde_json::from_slice(body).unwrap_or_default();
    let degraded = report.degraded.iter();
    let degraded = degraded.map(|it| printable(&format!("degraded: {}: {}", it.part, it.problem)));
    let lines: Vec<String> = iter::once("healthy".to_owned()).chain(degraded).collect();
    Ok(lines.join("\n"))
}

#[derive(Debug, Default, Deserialize)]
struct HealthReport {
    degraded: Vec<DegradedPart>,
}

#[derive(Debug, Deserialize)]
struct DegradedPart {
    part: String,
    problem: String,
}

const LONGEST_ANSWER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
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
        let verdict = ask_now(&url, &clock);
        (verdict, listener.join().unwrap())
    }

    fn ask_now(url: &str, clock: &Clock) -> Result<String, Unhealthy> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .unwrap()
            .block_on(ask(&url.parse().unwrap(), PATIENCE, clock))
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
    fn a_listener_that_answers_200_is_healthy_and_was_asked_for_the_path() {
        let (verdict, request) = ask_one_that_says(&["HTTP/1.1 200 OK\r\n\r\n\"ok\"\n"]);
        assert_eq!(verdict.unwrap(), "healthy");
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:"));
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
    fn a_listener_that_drips_is_left_when_patience_ends() {
        let (verdict, _) = ask_one_that_says(&["HTTP/1.1 ", "200 ", "OK\r\n", "\r\n"]);
        let Err(Unhealthy::Silent(error)) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_address_without_a_listener_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/healthz", listener.local_addr().unwrap());
        drop(listener);
        let verdict = ask_now(&url, &Clock::system());
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
            let verdict = ask_now(url, &Clock::system());
            assert!(matches!(verdict, Err(Unhealthy::Address)), "{url}");
        }
    }
}
