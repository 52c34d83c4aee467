//! What the simulator saw: every request, how it was answered, and how many there were.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::sync::watch;

use crate::credential::Credential;
use crate::held::Held;
use crate::target::Endpoint;

/// A request as it arrived, and what became of it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// Its number, counted from 0.
    pub number: usize,
    /// When its body had arrived, by the simulator's clock.
    pub at: SystemTime,
    /// The protocol it came with.
    pub version: Version,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Its method.
    pub method: Method,
    /// Its target, byte for byte.
    pub target: String,
    /// All its headers.
    pub headers: HeaderMap,
    /// Its body, up to 64 KiB.
    pub body: Bytes,
    /// What it was for.
    pub endpoint: Endpoint,
    /// The project in its path.
    pub project: Option<String>,
    /// The username in its path, decoded once.
    pub username: Option<String>,
    /// The page it asked for; 1 if it did not say.
    pub page: u32,
    /// What it proved about its sender.
    pub credential: Credential,
    /// The status of its answer, also of one that the script then cut off or broke; `None` while it
    /// waits, or when its client has gone before it was answered.
    pub status: Option<StatusCode>,
}

impl SeenRequest {
    fn shows(&self, needle: &[u8]) -> bool {
        let mut headers = self.headers.iter();
        contains(self.target.as_bytes(), needle)
            || contains(self.method.as_str().as_bytes(), needle)
            || contains(&self.body, needle)
            || headers.any(|(name, value)| {
                contains(name.as_str().as_bytes(), needle) || contains(value.as_bytes(), needle)
            })
    }
}

/// The record, and the counts that outlive it.
#[derive(Debug)]
pub(crate) struct Recorder {
    kept: Held<Kept>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug)]
struct Kept {
    requests: VecDeque<SeenRequest>,
    limit: usize,
    next: usize,
}

/// How many requests arrived for each endpoint, and how many were answered with each status.
#[derive(Debug, Default)]
struct Counts {
    arrived: BTreeMap<Endpoint, usize>,
    answered: BTreeMap<u16, usize>,
}

impl Recorder {
    pub(crate) fn keeping(limit: usize) -> Self {
        let kept = Kept {
            requests: VecDeque::new(),
            limit: limit.max(1),
            next: 0,
        };
        Self {
            kept: Held::new(kept),
            counts: watch::Sender::default(),
        }
    }

    /// Takes a request down and returns its number.
    pub(crate) fn arrived(&self, mut request: SeenRequest) -> usize {
        let endpoint = request.endpoint;
        let number = self.kept.with(|kept| {
            request.number = kept.next;
            kept.next += 1;
            if kept.requests.len() >= kept.limit {
                kept.requests.pop_front();
            }
            kept.requests.push_back(request);
            kept.next - 1
        });
        self.counts
            .send_modify(|counts| *counts.arrived.entry(endpoint).or_default() += 1);
        number
    }

    pub(crate) fn identified(&self, number: usize, credential: Credential) {
        self.amend(number, |request| request.credential = credential);
    }

    pub(crate) fn answered(&self, number: usize, status: StatusCode) {
        self.amend(number, |request| request.status = Some(status));
        self.counts
            .send_modify(|counts| *counts.answered.entry(status.as_u16()).or_default() += 1);
    }

    fn amend(&self, number: usize, amend: impl FnOnce(&mut SeenRequest)) {
        self.kept.with(|kept| {
            let forgotten = kept.next - kept.requests.len();
            let place = number.checked_sub(forgotten);
            // A request that waited at a gate may have been forgotten meanwhile.
            if let Some(request) = place.and_then(|place| kept.requests.get_mut(place)) {
                amend(request);
            }
        });
    }

    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.kept
            .with(|kept| kept.requests.iter().cloned().collect())
    }

    pub(crate) fn forget(&self) {
        self.kept.with(|kept| kept.requests.clear());
        self.counts.send_replace(Counts::default());
    }

    pub(crate) fn saw(&self, needle: &str) -> bool {
        self.kept.with(|kept| {
            kept.requests
                .iter()
                .any(|seen| seen.shows(needle.as_bytes()))
        })
    }

    pub(crate) fn calls(&self, endpoint: Endpoint) -> usize {
        self.counts
            .borrow()
            .arrived
            .get(&endpoint)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn all_calls(&self) -> usize {
        self.counts.borrow().arrived.values().sum()
    }

    pub(crate) fn answers(&self, status: u16) -> usize {
        self.counts
            .borrow()
            .answered
            .get(&status)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) async fn wait_for_calls(&self, endpoint: Endpoint, count: usize) {
        let mut counts = self.counts.subscribe();
        let enough = |counts: &Counts| {
            counts
                .arrived
                .get(&endpoint)
                .is_some_and(|arrived| *arrived >= count)
                || count == 0
        };
        // The sender lives as long as the recorder, so waiting cannot fail.
        let _ = counts.wait_for(enough).await;
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || hay.windows(needle.len()).any(|window| window == needle)
}
