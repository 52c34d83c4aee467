//! Lists and fetches of the fleet: one call of the engine says *here is the list*, *you fetch it* or *another
//! replica does*.
//!
//! A lease saves calls, and nothing else hangs on it: two replicas that fetch the same list cost one call more. It
//! lasts a second and is renewed while the fetch goes on, so that a replica that dies holds up nobody for longer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;

use super::lease::{AFTER_LEASE, LEASE, millis};
use super::names::ListNames;
use super::reply::{number, text, word};
use super::turns::Turn;
use super::{Alone, Fleet};
use crate::atlas::CertQuery;
use crate::telemetry::metrics::fleet::{FleetFunction, FleetRejection};

/// What a fetch wants of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A list that is fresh for longer than this.
    Fresh(Duration),
    /// A list of a forced fetch that began within this time.
    Forced(Duration),
}

/// What the fleet has for a fetch.
#[derive(Debug)]
pub(crate) enum ListAnswer {
    /// A list that will do; another replica fetched it.
    Found {
        entry: SharedEntry,
        /// Whether this replica has waited for that fetch.
        has_waited: bool,
    },
    /// This replica is to fetch it. What there was before may be served if Atlas fails.
    Lease {
        lease: Lease,
        old: Option<SharedEntry>,
    },
    /// The fetch that was waited for has failed like this.
    Failed(Vec<u8>),
    /// The engine cannot be asked.
    Alone,
}

/// An entry as another replica has left it, opened.
#[derive(Debug)]
pub(crate) struct SharedEntry {
    /// What was [stored](Lease::store).
    pub(crate) text: Vec<u8>,
    /// For how long at most it has been stored.
    pub(crate) age: Duration,
}

/// The right to fetch a list for the fleet.
pub(crate) struct Lease {
    fleet: Fleet,
    query: CertQuery,
    names: ListNames,
    id: String,
    _turn: Turn,
}

/// The fetches of this replica that wait for one of another.
#[derive(Debug, Default)]
pub(super) struct ListWaiters(Mutex<WaitersByName>);

type WaitersByName = HashMap<String, Arc<Notify>>;

/// One of them.
struct ListWaiter<'w> {
    waiters: &'w ListWaiters,
    name: String,
    rung: Arc<Notify>,
}

/// The reply of `open`.
enum Opened {
    Found(SharedEntry),
    Lease(Option<SharedEntry>),
    /// No lease was asked for, and none is held.
    Free,
    Failed(Vec<u8>),
    Held {
        lease: String,
        left: Duration,
    },
}

impl Fleet {
    /// Whether lists are shared at all.
    pub(crate) fn shares_lists(&self) -> bool {
        self.0.config.lists
    }

    /// What the fleet has for a list. Waits for another replica's fetch, in turn with the other fetches of the project.
    pub(crate) async fn open_list(&self, query: &CertQuery, wanted: Wanted) -> ListAnswer {
        let names = self.0.names.list(query);
        let (mut awaited, mut has_waited): (Option<String>, bool) = (None, false);
        let mut turn = self.0.turns.try_take(query.project);
        loop {
            // A lease without a turn would hold up the other replicas until this one can fetch.
            let id = turn.as_ref().map_or_else(String::new, |_| new_id());
            // Before the engine is asked: it may ring before its reply has come.
            let waiter = self.0.list_waiters.join(&names.bell);
            let opened = self.open(query, &names, (wanted, &id), awaited.as_deref());
            match opened.await {
                Err(Alone) => return ListAnswer::Alone,
                Ok(Opened::Found(entry)) => return ListAnswer::Found { entry, has_waited },
                Ok(Opened::Failed(failure)) => return ListAnswer::Failed(failure),
                Ok(Opened::Lease(old)) => {
                    if has_waited {
                        self.0.metrics.takeovers.inc();
                    }
                    let (fleet, query) = (self.clone(), query.clone());
                    let lease = Lease {
                        fleet,
                        query,
                        names,
                        id,
                        _turn: turn.expect("a lease is asked for with a turn in hand"),
                    };
                    return ListAnswer::Lease { lease, old };
                }
                Ok(Opened::Free) => turn = Some(self.0.turns.take(query.project).await),
                Ok(Opened::Held { lease, left }) => {
                    turn = None;
                    let longest = left + AFTER_LEASE;
                    // Whether it was rung or the lease has ended, the engine knows.
                    let _ = self.0.clock.timeout(longest, waiter.rung.notified()).await;
                    (awaited, has_waited) = (Some(lease), true);
                }
            }
        }
    }

    async fn open(
        &self,
        query: &CertQuery,
        names: &ListNames,
        (wanted, id): (Wanted, &str),
        awaited: Option<&str>,
    ) -> Result<Opened, Alone> {
        let (word, span) = match wanted {
            Wanted::Fresh(span) => ("fresh", span),
            Wanted::Forced(span) => ("forced", span),
        };
        let failure = awaited.map(|lease| self.0.names.failure(&query.project, lease));
        let mut keys = vec![&*names.entry, &*names.lease, &*names.purges];
        keys.extend(failure.as_deref());
        let (span, lease) = (millis(span), millis(LEASE));
        let [hard, soft] = self.0.events.purged(query);
        let arguments = [word, &span, id, &lease, &hard, &soft].map(str::as_bytes);
        let began = self.0.clock.elapsed();
        let reply = self.call(FleetFunction::Open, &keys, &arguments).await?;
        let took = self.0.clock.elapsed().saturating_sub(began);
        let opened = self.read_opened(query, reply, took);
        opened.ok_or_else(|| {
            self.0.metrics.rejected(FleetRejection::Reply);
            Alone
        })
    }

    fn read_opened(&self, query: &CertQuery, reply: Value, took: Duration) -> Option<Opened> {
        let Value::Array(parts) = reply else {
            return None;
        };
        let mut parts = parts.into_iter();
        let what = text(parts.next()?)?;
        let now = number(parts.next()?)?;
        let value = text(parts.next()?)?;
        let entry = |value: &[u8]| {
            let stored: u64 = str::from_utf8(value.get(STORED)?).ok()?.parse().ok()?;
            let age = now.checked_sub(stored)?;
            let text = self.open_sealed(query, ENTRY, value.get(HEAD..)?)?;
            let age = Duration::from_millis(age).saturating_add(took);
            Some(SharedEntry { text, age })
        };
        match &*what {
            // What is not ours is not there: the lease is taken when it is asked for again.
            b"list" => entry(&value).map(Opened::Found),
            b"lease" => Some(Opened::Lease(entry(&value))),
            b"free" => Some(Opened::Free),
            b"failed" => self.open_sealed(query, FAILURE, &value).map(Opened::Failed),
            b"held" => {
                let left = number(parts.next()?).unwrap_or(0);
                Some(Opened::Held {
                    lease: word(parts.next()?)?,
                    left: Duration::from_millis(left).min(LEASE),
                })
            }
            _ => None,
        }
    }

    fn open_sealed(&self, query: &CertQuery, kind: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let opened = self.0.keys.open(&self.about(query, kind), sealed).ok();
        if opened.is_none() {
            self.0.metrics.rejected(FleetRejection::Seal);
        }
        opened
    }

    /// What a sealed text is about: this fleet, the kind, the project and the user.
    fn about(&self, query: &CertQuery, kind: &str) -> Vec<u8> {
        let CertQuery { project, username } = query;
        self.0
            .names
            .of_fleet(&format!("{kind} 1\0{project}\0{}", username.as_str()))
            .into_bytes()
    }
}

impl Lease {
    /// Keeps the lease while `fetch` goes on.
    pub(crate) async fn keep<T>(&self, fetch: impl Future<Output = T>) -> T {
        let lease = (&*self.names.lease, &*self.id);
        self.fleet.keep_lease(lease, fetch).await
    }

    /// Stores what was fetched: fresh for `fresh`, and kept for `keep`. Says whether the engine took it: not if
    /// the list was purged meanwhile, or the lease was lost.
    pub(crate) async fn store(self, text: Vec<u8>, fresh: Duration, keep: Duration) -> bool {
        let about = self.fleet.about(&self.query, ENTRY);
        let sealed = self.fleet.0.keys.seal(&about, text);
        if sealed.len() > LONGEST_ENTRY || keep.is_zero() {
            self.fail(None).await;
            return false;
        }
        let (fresh, keep) = (millis(fresh), millis(keep));
        let [hard, soft] = self.fleet.0.events.purged(&self.query);
        let channel = self.fleet.0.names.of_fleet("bell");
        let arguments = [
            self.id.as_bytes(),
            hard.as_bytes(),
            soft.as_bytes(),
            fresh.as_bytes(),
            keep.as_bytes(),
            &sealed,
            channel.as_bytes(),
            self.names.bell.as_bytes(),
        ];
        let ListNames {
            entry,
            lease,
            purges,
            ..
        } = &self.names;
        let stored = self
            .fleet
            .call(FleetFunction::Store, &[entry, lease, purges], &arguments);
        stored.await == Ok(Value::Int(1))
    }

    /// Ends the lease of a fetch that has brought no list; those who wait for it get `failure`, or fetch the list
    /// themselves.
    pub(crate) async fn fail(self, failure: Option<Vec<u8>>) {
        let about = self.fleet.about(&self.query, FAILURE);
        let sealed = failure.map(|failure| self.fleet.0.keys.seal(&about, failure));
        let sealed = sealed.unwrap_or_default();
        let names = &self.fleet.0.names;
        let failure = names.failure(&self.query.project, &self.id);
        let (keep, channel) = (millis(FAILURE_KEPT), names.of_fleet("bell"));
        let arguments = [
            self.id.as_bytes(),
            &sealed,
            keep.as_bytes(),
            channel.as_bytes(),
            self.names.bell.as_bytes(),
        ];
        let keys = [&*self.names.lease, &failure];
        // It ends by itself otherwise.
        let _ = self
            .fleet
            .call(FleetFunction::Fail, &keys, &arguments)
            .await;
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

impl ListWaiters {
    fn join(&self, name: &str) -> ListWaiter<'_> {
        let rung = Arc::clone(self.lock().entry(name.to_owned()).or_default());
        ListWaiter {
            waiters: self,
            name: name.to_owned(),
            rung,
        }
    }

    /// A fetch of another replica has ended.
    pub(super) fn ring(&self, name: &[u8]) {
        let Ok(name) = str::from_utf8(name) else {
            return;
        };
        if let Some(waiter) = self.lock().get(name) {
            waiter.notify_one();
        }
    }

    /// The connection is lost: nothing will be rung any more.
    pub(super) fn ring_all(&self) {
        self.lock().values().for_each(|waiter| waiter.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, WaitersByName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListWaiter<'_> {
    fn drop(&mut self) {
        self.waiters.lock().remove(&self.name);
    }
}

fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

const FAILURE_KEPT: Duration = Duration::from_secs(2);
/// Sealed. A longer one is only this replica's.
const LONGEST_ENTRY: usize = 1 << 20;
/// Of the part in clear that stands before a sealed entry: all of it, and where it says when it was stored.
const HEAD: usize = 49;
const STORED: std::ops::Range<usize> = 17..33;
const ENTRY: &str = "entry";
const FAILURE: &str = "failure";
