//! The server to compare with: hyper, and nothing behind it; or nothing but Atlas.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use atlas_simulator::{CLIENT_ID, CLIENT_SECRET};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::load::Protocol;

/// The argument that makes this binary the bare server.
pub(crate) const MODE: &str = "--bare";

/// Where Atlas is, for a bare server that asks it each time, and hands on what it says.
pub(crate) struct Behind {
    pub(crate) base_url: String,
    /// A token of Atlas's.
    pub(crate) token: String,
}

impl Behind {
    /// The simulated Atlas at `base_url`, which gives a token for it.
    pub(crate) async fn of(base_url: String) -> Self {
        let request = reqwest::Client::new()
            .post(format!("{base_url}/api/oauth/token"))
            .basic_auth(CLIENT_ID, Some(CLIENT_SECRET))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body("grant_type=client_credentials");
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        Self {
            base_url,
            token: answer["access_token"].as_str().unwrap().to_owned(),
        }
    }
}

/// Starts this binary as the bare server that answers every request with `answer`, a whole HTTP/1.1
/// response as the gateway gave it; with Atlas behind it, with Atlas's body.
pub(crate) fn command(answer: &Path, protocol: Protocol, behind: Option<&Behind>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let protocol = match protocol {
        Protocol::Http1 => "1",
        Protocol::Http2 => "2",
    };
    command.arg(MODE).arg(answer).arg(protocol);
    if let Some(Behind { base_url, token }) = behind {
        command.arg(base_url).arg(token);
    }
    command
}

/// Serves for ever; the address is printed. The arguments are those of [`command`], behind the first.
pub(crate) fn serve(arguments: &[String]) {
    let [answer, protocol, behind @ ..] = arguments else {
        panic!("an answer and a protocol")
    };
    let answer = response(&fs::read(answer).unwrap());
    let is_http2 = protocol == "2";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    // Spawned, as the gateway's accept loop is: the thread that blocks here is no worker.
    let served = if let [base_url, token] = behind {
        let asker = Requester::new(base_url, token);
        runtime.spawn(listen(is_http2, move |request| {
            let (asker, answer) = (asker.clone(), answer.clone());
            async move { Ok(asker.ask(&request, answer).await) }
        }))
    } else {
        runtime.spawn(listen(is_http2, move |_| {
            let answer = answer.clone();
            async move { Ok(answer) }
        }))
    };
    runtime.block_on(served).unwrap();
}

async fn listen<H, F>(is_http2: bool, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("\"listen\":\"{}\"", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = service_fn(handler.clone());
        let io = TokioIo::new(stream);
        tokio::spawn(async move {
            // The generator hangs up when it is done.
            if is_http2 {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        });
    }
}

/// The least that a client of Atlas does: no more than the library, set up as the gateway sets it up.
#[derive(Clone)]
struct Requester {
    client: reqwest::Client,
    base_url: Arc<str>,
    authorization: HeaderValue,
}

impl Requester {
    fn new(base_url: &str, token: &str) -> Self {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .referer(false)
            .no_proxy()
            .user_agent("bare")
            .tcp_nodelay(true);
        Self {
            client: client.build().unwrap(),
            base_url: base_url.into(),
            authorization: HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
        }
    }

    async fn ask(&self, request: &Request<Incoming>, answer: Answer) -> Answer {
        let path = request.uri().path();
        let query = "itemsPerPage=500&includeCount=true&pageNum=1";
        let url = format!("{}{path}?{query}", self.base_url).parse().unwrap();
        let mut asking = reqwest::Request::new(Method::GET, url);
        let version = HeaderValue::from_static("application/vnd.atlas.2023-01-01+json");
        let headers = asking.headers_mut();
        headers.insert(ACCEPT, version);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        let said = self.client.execute(asking).await.unwrap();
        assert_eq!(said.status(), StatusCode::OK);
        let body = said.bytes().await.unwrap();
        answer.map(|_| Full::new(body))
    }
}

type Answer = Response<Full<Bytes>>;

fn response(raw: &[u8]) -> Answer {
    let end = memchr::memmem::find(raw, b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let body = Bytes::copy_from_slice(&raw[end + 4..]);
    let mut response = Response::new(Full::new(body));
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        // hyper writes these itself, as it does for the gateway.
        if name != "date" && name != "content-length" {
            response.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
    }
    response
}
