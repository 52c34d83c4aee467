//! An attack from its beginning to its end.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Pid, setpriority_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::LAST;
use crate::Request;
use crate::callers;
use crate::callers::{Counts, Kind};
use crate::frames::{
    END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, SETTINGS, block, frame,
};
use crate::runtime;
use crate::site::{Site, Users};
use crate::tokens;

/// Who attacks.
pub(crate) enum Attackers {
    /// This process.
    Ours(Kind),
    /// slowhttptest, in the mode that these arguments choose.
    Slowhttptest(&'static [&'static str]),
}

impl Attackers {
    /// Begins the attack; it ends when the result is dropped. `None` where its program is missing.
    pub(crate) fn begin(
        &self,
        callers: usize,
        requests: &Arc<Requests>,
        gateway: SocketAddr,
    ) -> Option<Raging> {
        match *self {
            Self::Ours(kind) => {
                let runtime = runtime(LAST, None);
                let counts = callers::attack(kind, callers, requests, gateway, runtime.handle());
                Some(Raging::Ours(Some(runtime), counts))
            }
            Self::Slowhttptest(mode) => {
                let url = format!("http://{gateway}{}", target(&requests.large));
                let program = Command::new("slowhttptest")
                    .args(mode)
                    .args(["-c", &callers.to_string()])
                    .args(["-r", "1000", "-l", "600", "-p", "600", "-u", &url])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .ok()?;
                let _ = setpriority_process(Some(Pid::from_child(&program)), LAST);
                Some(Raging::Program(program))
            }
        }
    }
}

/// An attack that goes on until it is dropped.
pub(crate) enum Raging {
    Ours(Option<Runtime>, Arc<Counts>),
    Program(Child),
}

impl Raging {
    /// Connections that are open, and those that were ended by the gateway, if they can be known.
    pub(crate) fn counts(&self) -> Option<(usize, usize)> {
        match self {
            Self::Ours(_, counts) => Some((counts.open(), counts.ended())),
            Self::Program(_) => None,
        }
    }
}

impl Drop for Raging {
    fn drop(&mut self) {
        match self {
            Self::Ours(runtime, _) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
            Self::Program(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// What is asked for: a list of two certificates, and one of five thousand.
pub(crate) struct Requests {
    pub(crate) small: Request,
    pub(crate) large: Request,
    /// With a token without a valid signature.
    pub(crate) unsigned: Request,
    /// For a user that a rule denies.
    pub(crate) denied: Request,
    /// An operator's.
    pub(crate) search: Request,
    /// Settings without a window, and a hundred streams.
    pub(crate) unread: Request,
    keys: AtomicUsize,
}

impl Requests {
    pub(crate) fn new(site: &Site) -> Self {
        let tokens = site.tokens(1);
        let of = |name, certificates| {
            let users = Users {
                name,
                count: 1,
                certificates,
            };
            site.asks(users, &tokens).remove(0).http1()
        };
        let large = of("payments-attack-many", 5_000);
        // All attacks together take longer than a usual token lives.
        let operator = site.forge("operator", |_, claims| {
            claims["exp"] = json!(claims["iat"].as_i64().unwrap() + 3 * 3_600);
        });
        let denied = target(&large).replace("payments-attack-many-0", "root");
        let (signed, _) = tokens[0].rsplit_once('.').unwrap();
        Self {
            small: of("payments-attack", 2),
            unsigned: get(target(&large), &format!("{signed}.{}", "A".repeat(342))),
            denied: get(&denied, &tokens[0]),
            search: get("/audit/lookups?limit=1000", &operator),
            unread: unread(target(&large), &tokens[0]).into(),
            large,
            keys: AtomicUsize::new(0),
        }
    }

    /// With a token that names a key which was never named before.
    pub(crate) fn of_unknown_key(&self) -> Vec<u8> {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": format!("unknown-{number}")});
        let claims = json!({"iss": SILENT, "sub": "payments-api", "aud": tokens::AUDIENCE,
                            "iat": 1_700_000_000, "exp": 4_000_000_000_u64});
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let token = format!("{}.{}.{}", part(header), part(claims), "A".repeat(342));
        get(target(&self.large), &token).to_vec()
    }
}

fn get(target: &str, token: &str) -> Request {
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    head.into()
}

/// Streams that may not be sent a byte of their answers.
fn unread(target: &str, token: &str) -> Vec<u8> {
    let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &[0; 4]].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &window));
    let head = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", &format!("{target}?pretty=true")),
        ("authorization", &format!("Bearer {token}")),
    ]);
    for stream in 0..100 {
        bytes.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream * 2 + 1,
            &head,
        ));
    }
    bytes
}

/// An issuer whose keys never come.
pub(crate) const SILENT: &str = "https://silent.test";

/// Of a request.
fn target(request: &Request) -> &str {
    let line = std::str::from_utf8(request)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    line.split(' ').nth(1).unwrap()
}
