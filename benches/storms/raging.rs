//! A storm from its beginning to its end.

use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::Pid;
use rustix::process::setpriority_process;
use tokio::runtime::Runtime;

use crate::LAST;
use crate::Request;
use crate::callers;
use crate::callers::Counts;
use crate::callers::Kind;
use crate::runtime;
use crate::site::Site;
use crate::site::Users;

/// Who storms.
pub(crate) enum Attackers {
    /// This process.
    Ours(Kind),
    /// slowhttptest, in the mode that these arguments choose.
    Slowhttptest(&'static [&'static str]),
}

impl Attackers {
    /// Begins the storm; it ends when the result is dropped. `None` where its program is missing.
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

/// A storm that goes on until it is dropped.
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
        Self {
            small: of("payments-storm", 2),
            large: of("payments-storm-many", 5_000),
        }
    }
}

/// Of a request.
fn target(request: &Request) -> &str {
    let line = std::str::from_utf8(request)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    line.split(' ').nth(1).unwrap()
}
