//! The fetches of the model, with a log of what was read when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::{KEYS, asked};
use crate::atlas::{Certificate, CertificateList, Timestamp};
use crate::cache::*;
use crate::system::ManualClock;
use crate::upstream::{AtlasAnswer, FetchErrorKind, FetchStats, HeldBack};

/// What Atlas says of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    /// So many certificates, one of which ends in so many seconds.
    List {
        certificates: u8,
        first_ends_in: u16,
    },
    Denied,
    Missing,
    Down,
    Limited,
    /// Nothing: the fetch's task ends half-way.
    Dies,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) key: usize,
    /// Where in the order of all events the fetch began and ended.
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    pub(super) read_at: Moment,
    pub(super) ended_at: Duration,
    pub(super) word: Word,
}

pub(super) struct Scene {
    pub(super) words: [Word; KEYS.len()],
    /// Counts events, so that "before" and "after" are exact although the clock stands still.
    pub(super) event: u64,
    pub(super) fetches: HashMap<FillId, Log>,
    pub(super) under_way: [u32; KEYS.len()],
}

impl Scene {
    pub(super) fn next(&mut self) -> u64 {
        self.event += 1;
        self.event
    }

    /// The fetch of a key that ended last.
    pub(super) fn last_of(&self, key: usize) -> Option<&Log> {
        let of_key = self.fetches.values().filter(|log| log.key == key);
        of_key
            .filter(|log| log.ended.is_some())
            .max_by_key(|log| log.ended)
    }
}

impl Log {
    pub(super) fn age(&self, now: Moment) -> Duration {
        let passed = now.elapsed.saturating_sub(self.read_at.elapsed);
        let dated = now.wall.since(self.read_at.wall);
        if dated > passed + Duration::from_mins(1) {
            dated
        } else {
            passed
        }
    }

    /// What Atlas brings in the end.
    fn outcome(&self) -> Result<Fetched, FetchError> {
        let cost = FetchStats {
            credential: "platform".into(),
            calls: 1,
            pages: 1,
            duration: Duration::ZERO,
            status: None,
        };
        let atlas = |status, code: &str| {
            FetchErrorKind::Atlas(AtlasAnswer {
                status,
                body: Bytes::new(),
                error_code: Some(code.into()),
                retry_after: None,
            })
        };
        let reason = match self.word {
            Word::List { .. } => {
                return Ok(Fetched {
                    list: self.list(),
                    answered_at: self.read_at,
                    stats: cost,
                    shared: None,
                });
            }
            Word::Denied => atlas(StatusCode::FORBIDDEN, "USER_CANNOT_ACCESS_GROUP"),
            Word::Missing => atlas(StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
            Word::Down => FetchErrorKind::Unreachable,
            Word::Limited => FetchErrorKind::HeldBack {
                why: HeldBack::OwnShare,
                calls_per_minute: 250,
                retry_after: Duration::from_secs(1),
            },
            // Like a panic, but says nothing.
            Word::Dies => std::panic::resume_unwind(Box::new("the fetch dies")),
        };
        Err(FetchError {
            reason,
            stats: cost,
        })
    }

    fn list(&self) -> CertificateList {
        let (key, ends) = (self.key, self.certificates());
        let texts: Vec<String> = ends
            .iter()
            .map(|end| format!("{{\"key\":{key},\"notAfter\":{}}}", end.seconds()))
            .collect();
        let certificates = texts.iter().zip(&ends).map(|(json, end)| Certificate {
            json,
            not_after: *end,
        });
        CertificateList::join(certificates).unwrap()
    }

    /// The `notAfter` of each certificate that Atlas listed.
    pub(super) fn certificates(&self) -> Vec<Timestamp> {
        let Word::List {
            certificates,
            first_ends_in,
        } = self.word
        else {
            return Vec::new();
        };
        let read_at = self.read_at.wall.seconds();
        (0..certificates)
            .map(|at| {
                let lasts = if at == 0 {
                    first_ends_in.into()
                } else {
                    1_000_000
                };
                Timestamp::from_seconds(read_at + lasts)
            })
            .collect()
    }
}

/// One fetch: reads what Atlas says as it begins, and ends when the gate lets it.
pub(super) async fn scripted_fetch(
    scene: Arc<Mutex<Scene>>,
    gate: Arc<Semaphore>,
    manual_clock: ManualClock,
    (key, request): (usize, FetchRequest),
) -> Result<Fetched, FetchError> {
    assert_eq!(request.query, asked(key));
    let log = {
        let mut scene = scene.lock().unwrap();
        scene.under_way[key] += 1;
        assert_eq!(scene.under_way[key], 1, "two fetches of one key at once");
        let log = Log {
            key,
            began: scene.next(),
            ended: None,
            read_at: manual_clock.now(),
            ended_at: Duration::ZERO,
            word: scene.words[key],
        };
        scene.fetches.insert(request.fill_id, log);
        log
    };
    gate.acquire().await.unwrap().forget();
    {
        let mut scene = scene.lock().unwrap();
        scene.under_way[key] -= 1;
        let event = scene.next();
        let log = scene.fetches.get_mut(&request.fill_id).unwrap();
        log.ended = Some(event);
        log.ended_at = manual_clock.now().elapsed;
    }
    log.outcome()
}
