//! The last list of each user, as far as it is compared with the next one and asked about when certificates end.
//!
//! Apart from the cache, which forgets a list after minutes. Bounded in bytes: of a list that was evicted, or that
//! an earlier process has fetched, every serial number has appeared.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ahash::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::certificate::{CertificatesRead, KnownCertificate, Subjects, read};
use super::changes::{Changes, compare};
use super::config::Config;
use super::inventory::Inventories;
use crate::atlas::{CertQuery, CertificateList, ProjectId, Timestamp};
use crate::cache::{FetchRequest, Purge, Tag};
use crate::system::Moment;
use crate::telemetry::metrics::insight::{DAYS, InsightMetrics};
use crate::upstream::{FetchError, Fetched, Verdict};

/// The last list of each user of each project. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct KnownLists {
    lists: Cache<CertQuery, Arc<KnownList>, RandomState>,
    /// Of those who look at all of them.
    askers: Arc<Semaphore>,
    /// The projects that have a name in metrics.
    named: Arc<[Named]>,
    inventories: Inventories,
    metrics: InsightMetrics,
    /// Memory is short.
    saves: Arc<AtomicBool>,
}

/// A project, and its name in metrics.
type Named = (ProjectId, Arc<str>);

/// What a fetch has found.
#[derive(Clone, Debug)]
pub(super) struct KnownList {
    pub(super) fill_id: Uuid,
    /// When Atlas answered, by the wall clock.
    pub(super) answered_at: Timestamp,
    tag: Tag,
    /// By serial number, ascending.
    pub(super) certificates: Arc<[KnownCertificate]>,
    subjects: Arc<Subjects>,
    /// The last one to have ended, where there is none that has not.
    ended: Option<KnownCertificate>,
    /// It stays to be compared with the next list, and no caller is told of it.
    is_purged: bool,
}

/// Of the project with this name in metrics; of all of them without one.
pub(crate) type NamedCounts = (Arc<str>, EndingCounts);

/// How many users' newest certificates end, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndingCounts {
    /// Users of whom a list is known that has, or had, a certificate.
    pub(crate) users: u64,
    /// Of them, those whose newest certificate ends within so many days, in the order of [`DAYS`].
    pub(crate) within: [u64; DAYS.len()],
    /// Those whose newest has ended.
    pub(crate) ended: u64,
    /// Those whose newest ends in each of the next weeks.
    pub(crate) by_week: [u64; WEEKS],
    /// When the first of the users' newest certificates ends.
    pub(crate) next_end: Option<Timestamp>,
    /// The oldest answer of Atlas's that this is from.
    pub(crate) oldest_answer: Option<Timestamp>,
}

impl KnownLists {
    /// As many as `config` has memory for.
    pub(crate) fn new(config: &Config, metrics: InsightMetrics) -> Self {
        let weigher = |query: &CertQuery, list: &Arc<KnownList>| {
            let name = query.username.as_str().len();
            let subjects = list.subjects.weight();
            let weight = OVERHEAD + name + subjects + size_of_val(&*list.certificates);
            u32::try_from(weight).expect("a list is smaller than 4 GiB")
        };
        let lists = Cache::builder()
            .max_capacity(config.max_size.0)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigher)
            .build_with_hasher(RandomState::new());
        Self {
            lists,
            askers: Arc::new(Semaphore::new(ASKERS)),
            metrics,
            saves: Arc::default(),
            inventories: Inventories::new(config.named().map(|(id, _)| id), config.inventory),
            named: config.named().map(|(id, name)| (id, name.into())).collect(),
        }
    }

    /// Leave to look at all lists at once, which only a few have at a time.
    pub(crate) fn may_ask(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.askers).try_acquire_owned().ok()
    }

    /// Whether memory is short, so that of no further users anything is remembered.
    pub(crate) fn save(&self, saves: bool) {
        self.saves.store(saves, Ordering::Relaxed);
    }

    /// What is counted of it.
    pub(crate) fn metrics(&self) -> &InsightMetrics {
        &self.metrics
    }

    /// The inventories of projects that have them.
    pub(crate) fn inventories(&self) -> &Inventories {
        &self.inventories
    }

    /// When Atlas last said what is known of a user's certificates.
    pub(crate) fn answered_at(&self, query: &CertQuery) -> Option<Timestamp> {
        let list = self.lists.get(query).filter(|list| !list.is_purged)?;
        Some(list.answered_at)
    }

    /// Whether there is something of a user, be it that it has no certificates.
    pub(super) fn has(&self, query: &CertQuery) -> bool {
        self.lists.contains_key(query)
    }

    /// Compares what was `fetched` until `now` with the list before, and remembers it for the next one.
    pub(crate) fn compare(
        &self,
        request: &FetchRequest,
        fetched: &Result<Fetched, FetchError>,
        now: Moment,
    ) -> Changes {
        let nothing = CertificateList::default();
        let (list, answered_at) = match fetched {
            Ok(fetched) => (&fetched.list, fetched.answered_at),
            // There is no such user any more.
            Err(error) if error.verdict() == Verdict::Missing => (&nothing, now),
            // Nothing was learnt.
            Err(_) => return Changes::default(),
        };
        let before = self.lists.get(&request.query);
        if fetched.is_err() && before.is_none() {
            // Names of no user must not evict those of users.
            return Changes::default();
        }
        let wall = now.wall;
        let tag = Tag::of(list.unexpired(wall));
        let mut changes = Changes {
            list: fetched.is_ok().then(|| *tag.as_bytes()),
            before: before.as_ref().map(|before| before.fill_id),
            ..Changes::default()
        };
        let CertificatesRead {
            certificates,
            subjects,
        } = match &before {
            // The very same certificates need not be read.
            Some(before) if before.tag == tag => CertificatesRead {
                certificates: Arc::clone(&before.certificates),
                subjects: Arc::clone(&before.subjects),
            },
            _ => {
                let read = read(list, wall);
                let known = before.as_ref().map(|before| &*before.certificates);
                changes.serials = compare(known.unwrap_or(&[]), &read.certificates, wall);
                read
            }
        };
        let shared = fetched.as_ref().ok().and_then(|it| it.shared.as_ref());
        let this = KnownList {
            fill_id: shared.map_or_else(|| request.fill_id.uuid(), |shared| shared.fill_id),
            answered_at: wall.minus(now.since(answered_at)),
            tag,
            ended: before
                .as_ref()
                .filter(|before| fetched.is_ok() && !before.is_purged && certificates.is_empty())
                .and_then(|before| before.newest().filter(|it| it.not_after <= wall).copied()),
            // Of the one that has ended it is that of the list before.
            subjects: match &before {
                Some(before) if certificates.is_empty() => Arc::clone(&before.subjects),
                _ => subjects,
            },
            certificates,
            is_purged: false,
        };
        // While memory is short no more of it is taken.
        if before.is_some() || !self.saves.load(Ordering::Relaxed) {
            self.lists.insert(request.query.clone(), Arc::new(this));
        }
        changes
    }

    /// Tells of what is purged no more, until it is fetched again; what `is_kept` names, by project and username,
    /// stays as it is.
    pub(crate) fn purge_except(&self, what: &Purge, is_kept: impl Fn(&str, &str) -> bool) {
        let purge = |query: &CertQuery, list: &KnownList| {
            if !list.is_purged && !is_kept(query.project.as_str(), query.username.as_str()) {
                self.purge_list(query, list);
            }
        };
        match what {
            Purge::Key(query) => {
                if let Some(list) = self.lists.get(query) {
                    purge(query, &list);
                }
            }
            Purge::Project(project) => {
                let lists = self.lists.iter();
                for (query, list) in lists.filter(|(query, _)| query.project == *project) {
                    purge(&query, &list);
                }
            }
            Purge::All => self
                .lists
                .iter()
                .for_each(|(query, list)| purge(&query, &list)),
        }
    }

    fn purge_list(&self, query: &CertQuery, list: &KnownList) {
        let purged = KnownList {
            ended: None,
            is_purged: true,
            ..list.clone()
        };
        self.lists.insert(query.clone(), Arc::new(purged));
    }

    /// Of how many users of each project something is known.
    pub(crate) fn users_by_project(&self) -> HashMap<ProjectId, usize> {
        let mut users = HashMap::new();
        for (query, _) in &self.lists {
            *users.entry(query.project).or_default() += 1;
        }
        users
    }

    /// What may be told of a project's users at `now`, in no order.
    pub(super) fn of_project(
        &self,
        project: &ProjectId,
        now: Timestamp,
    ) -> impl Iterator<Item = (CertQuery, Arc<KnownList>)> {
        self.told(now)
            .filter(move |(query, _)| query.project == *project)
    }

    /// What may be told of every user at `now`.
    fn told(&self, now: Timestamp) -> impl Iterator<Item = (CertQuery, Arc<KnownList>)> {
        let lists = self.lists.iter();
        lists
            .map(|(query, list)| (CertQuery::clone(&query), list))
            .filter(move |(_, list)| list.is_told(now))
    }

    /// How many users' newest certificates end soon, by what is known at `now`: of all projects together, which
    /// have no name, and of each that has one.
    pub(crate) fn count_ending(&self, now: Timestamp) -> Vec<NamedCounts> {
        let mut all = EndingCounts::default();
        let mut each = vec![EndingCounts::default(); self.named.len()];
        for (query, list) in self.told(now) {
            all.add(&list, now);
            let at = self.named.iter().position(|(id, _)| *id == query.project);
            if let Some(counts) = at.and_then(|at| each.get_mut(at)) {
                counts.add(&list, now);
            }
        }
        let names = self.named.iter().map(|(_, name)| Arc::clone(name));
        let all = std::iter::once((Arc::from(""), all));
        all.chain(names.zip(each)).collect()
    }
}

impl KnownList {
    /// The certificate that ends last, maybe in the past.
    pub(super) fn newest(&self) -> Option<&KnownCertificate> {
        let newest = self.certificates.iter().max_by_key(|it| it.not_after);
        newest.or(self.ended.as_ref())
    }

    fn is_told(&self, now: Timestamp) -> bool {
        let newest = self.newest();
        !self.is_purged && newest.is_some_and(|it| it.not_after > now.minus(KEPT_AFTER_END))
    }

    /// The subject of one of the certificates.
    pub(super) fn subject(&self, id: i64) -> Option<&Arc<str>> {
        self.subjects.of(id)
    }
}

impl EndingCounts {
    /// Users whose newest certificate ends within four weeks and has not ended.
    pub(crate) fn within_four_weeks(&self) -> u64 {
        let at = DAYS.iter().position(|days| *days == 28);
        let within = at.and_then(|at| self.within.get(at)).copied();
        within.unwrap_or(0).saturating_sub(self.ended)
    }

    fn add(&mut self, list: &KnownList, now: Timestamp) {
        let Some(newest) = list.newest() else { return };
        self.users += 1;
        if newest.not_after <= now {
            self.ended += 1;
        }
        let weeks = newest.not_after.since(now).as_secs() / (7 * DAY.as_secs());
        let week = usize::try_from(weeks)
            .ok()
            .filter(|_| newest.not_after > now);
        if let Some(users) = week.and_then(|week| self.by_week.get_mut(week)) {
            *users += 1;
        }
        for (counted, days) in self.within.iter_mut().zip(DAYS) {
            *counted += u64::from(newest.not_after <= now.plus(DAY * days));
        }
        let earlier =
            |known: Option<Timestamp>, other| Some(known.map_or(other, |it| it.min(other)));
        self.next_end = earlier(self.next_end, newest.not_after);
        self.oldest_answer = earlier(self.oldest_answer, list.answered_at);
    }
}

/// What a list takes besides its name, its subjects and its certificates.
const OVERHEAD: usize = 520;
/// For how long it is told that a user's newest certificate has ended.
const KEPT_AFTER_END: Duration = Duration::from_hours(30 * 24);
/// Each takes a processor for milliseconds.
const ASKERS: usize = 2;
/// A quarter of a year, Atlas's usual life of a certificate.
const WEEKS: usize = 13;
const DAY: Duration = Duration::from_hours(24);
