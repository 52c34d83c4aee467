//! The text of a snapshot: what tells its age, and one list after the other.
//!
//! Whoever reads it judges each list as a page of Atlas's, and by its own clocks: on the same run of the machine an
//! age is exact, whatever became of the calendar; else the calendar says it, and a list is never fresh.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atlas::{CertQuery, Timestamp};
use crate::cache::{FillId, KeyedEntry, RestoredList};
use crate::gateway::shared_list::{LONGEST_LIST, ListForm, read_list, write_list};
use crate::system::{BootMoment, Moment};
use crate::telemetry::metrics::cache::NotRestored;
use crate::upstream::{FetchStats, Fetched, SharedFetch};

/// When a snapshot was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct SnapshotHead {
    /// By the calendar, in microseconds.
    pub(super) on: i64,
    /// By the run of the machine, and for how many microseconds that had lasted.
    boot: Option<Uuid>,
    up: u64,
    /// The last event of the fleet that had been heard.
    pub(super) place: Option<String>,
}

/// What stands before each list.
#[derive(Debug, Deserialize, Serialize)]
struct ListHead {
    project: String,
    username: String,
    /// When Atlas answered, by the calendar, and how many microseconds before the snapshot.
    on: i64,
    age: u64,
    /// Whether its fresh life had been ended.
    stale: bool,
    /// The fetch, the credential, and the replica if it was another one.
    id: Uuid,
    credential: String,
    replica: Option<String>,
    pages: u32,
    form: ListForm,
}

/// The time by which a snapshot is judged.
#[derive(Clone, Debug)]
pub(super) struct ReadingTime {
    pub(super) now: Moment,
    pub(super) boot: BootMoment,
}

/// A whole file.
pub(super) struct ReadSnapshot {
    pub(super) head: SnapshotHead,
    pub(super) lists: Vec<ReadList>,
}

/// A list out of a snapshot.
pub(super) struct ReadList {
    pub(super) query: CertQuery,
    pub(super) list: Result<RestoredList, NotRestored>,
}

impl SnapshotHead {
    pub(super) fn new(time: &ReadingTime, place: Option<String>) -> Self {
        Self {
            on: time.now.wall.micros(),
            boot: time.boot.boot,
            up: micros(time.boot.elapsed),
            place,
        }
    }

    /// How long ago it was written; `None` if only the calendar could tell.
    fn exact_age(&self, boot: &BootMoment) -> Option<Duration> {
        let is_same = self.boot.is_some() && self.boot == boot.boot;
        let passed = boot.elapsed.checked_sub(Duration::from_micros(self.up));
        passed.filter(|_| is_same)
    }

    /// When Atlas answered with a list, by the clock of this process, and whether that is exact.
    fn answered_at(&self, list: &ListHead, time: &ReadingTime) -> Option<(Moment, bool)> {
        let on = Timestamp::from_micros(list.on);
        let now = time.now;
        let at = |age: Duration| Moment {
            elapsed: now.elapsed.saturating_sub(age),
            wall: on,
        };
        match self.exact_age(&time.boot) {
            Some(age) => Some((
                at(age.saturating_add(Duration::from_micros(list.age))),
                true,
            )),
            None if on > now.wall || Timestamp::from_micros(self.on) > now.wall => None,
            None => Some((at(now.wall.since(on)), false)),
        }
    }
}

/// Writes a snapshot down.
pub(super) fn write(
    into: &mut impl Write,
    head: &SnapshotHead,
    lists: &[&KeyedEntry],
    now: Moment,
) -> io::Result<()> {
    write_json(into, head)?;
    for (query, entry) in lists {
        // A larger one could not be read again.
        let written = write_list(entry.list()).filter(|(_, pages)| pages.len() <= LONGEST_LIST);
        let Some((form, pages)) = written else {
            continue;
        };
        let (answered_at, cost) = (entry.answered_at(), entry.cost());
        let list = ListHead {
            project: query.project.as_str().to_owned(),
            username: query.username.as_str().to_owned(),
            on: answered_at.wall.micros(),
            age: micros(now.elapsed.saturating_sub(answered_at.elapsed)),
            stale: entry.is_softly_purged(),
            id: entry.fill_id().uuid(),
            credential: cost.credential.to_string(),
            replica: cost.replica.as_ref().map(ToString::to_string),
            pages: cost.pages,
            form,
        };
        write_json(into, &list)?;
        write_part(into, &pages)?;
    }
    write_part(into, &[])
}

/// Reads a snapshot to its end. What breaks off, or is no snapshot, is an error, whatever stood before.
pub(super) fn read(from: &mut impl Read, time: &ReadingTime) -> io::Result<ReadSnapshot> {
    let head: SnapshotHead = read_json(from)?.ok_or_else(no_snapshot)?;
    let mut lists = Vec::new();
    while let Some(list) = read_json::<ListHead>(from)? {
        let pages = read_part(from, LONGEST_LIST)?;
        lists.push(read_one(&head, &list, &pages, time).ok_or_else(no_snapshot)?);
    }
    match from.read(&mut [0])? {
        0 => Ok(ReadSnapshot { head, lists }),
        _ => Err(no_snapshot()),
    }
}

fn read_one(
    head: &SnapshotHead,
    list: &ListHead,
    pages: &[u8],
    time: &ReadingTime,
) -> Option<ReadList> {
    let query = CertQuery {
        project: list.project.parse().ok()?,
        username: list.username.parse().ok()?,
    };
    let restored = || {
        let content = read_list(&list.form, pages, &query.project).ok_or(NotRestored::Content)?;
        let answered_at = head.answered_at(list, time).ok_or(NotRestored::Future)?;
        let (answered_at, is_exact) = answered_at;
        let shared = list.replica.as_deref().map(|replica| SharedFetch {
            fill_id: list.id,
            replica: Arc::from(replica),
        });
        Ok(RestoredList {
            fetched: Fetched {
                list: content,
                answered_at,
                stats: FetchStats {
                    credential: Arc::from(&*list.credential),
                    calls: 0,
                    pages: list.pages,
                    duration: Duration::ZERO,
                    status: None,
                },
                shared,
            },
            fill_id: FillId::from(list.id),
            is_stale: list.stale || !is_exact,
        })
    };
    let list = restored();
    Some(ReadList { query, list })
}

fn write_json(into: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(value).expect("a head is plain data");
    write_part(into, &json)
}

/// Its length, and what it is. One of no length ends the lists.
fn write_part(into: &mut impl Write, part: &[u8]) -> io::Result<()> {
    let length = u32::try_from(part.len()).map_err(|_| no_snapshot())?;
    into.write_all(&length.to_be_bytes())?;
    into.write_all(part)
}

fn read_json<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let json = read_part(from, LONGEST_HEAD)?;
    if json.is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_slice(&json).map_err(|_| no_snapshot())?;
    Ok(Some(value))
}

fn read_part(from: &mut impl Read, longest: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| no_snapshot())?;
    if length > longest {
        return Err(no_snapshot());
    }
    let mut part = vec![0; length];
    from.read_exact(&mut part)?;
    Ok(part)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("no machine runs for 584,000 years")
}

fn no_snapshot() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no snapshot of lists")
}

/// A username has 1,024 bytes at most, which JSON may write with six each.
const LONGEST_HEAD: usize = 64 << 10;
