//! Which of a project's certificates end within a time, by what is known of them.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::certificate::KnownCertificate;
use super::inventory::Inventory;
use super::known_lists::{KnownList, KnownLists};
use crate::atlas::{CertQuery, ProjectId, Timestamp, Username};

/// Within how many whole days a certificate ends; 0: it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WithinDays(pub(crate) u32);

/// Which certificates of a user count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Each that ends.
    Every,
    /// The one that ends last: of a user that has a newer one nothing is said.
    Last,
}

/// What is asked of a project.
#[derive(Clone, Debug)]
pub(crate) struct ExpirationsQuery {
    pub(crate) project: ProjectId,
    pub(crate) within: WithinDays,
    pub(crate) which: Which,
    /// Of its users; `None`: of those that are known.
    pub(crate) inventory: Option<Inventory>,
}

/// What ends, the first first.
#[derive(Clone, Debug)]
pub(crate) struct Expirations {
    pub(crate) as_of: Timestamp,
    pub(crate) coverage: Coverage,
    pub(crate) endings: Vec<Ending>,
}

/// What an answer is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Users that the caller may look up and of whom something is known.
    pub(crate) users: usize,
    /// The oldest of Atlas's answers about them.
    pub(crate) oldest_answer: Option<Timestamp>,
    /// When the users were listed by Atlas; `None` where they are those that somebody has asked about.
    pub(crate) listed_at: Option<Timestamp>,
    /// How many users of that list the caller may look up of whom nothing is known.
    pub(crate) unknown: usize,
}

/// A certificate that ends, or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) username: Username,
    pub(crate) id: i64,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) not_after: Timestamp,
    /// How many certificates the user has that have not ended.
    pub(crate) certificates: usize,
    /// When Atlas said so.
    pub(crate) answered_at: Timestamp,
    /// To which fetch.
    pub(crate) fill_id: Uuid,
}

impl KnownLists {
    /// What ends of the users that the caller may look up: of those that are in the inventory, if there is one,
    /// else of those that are known.
    pub(crate) fn expirations(
        &self,
        asked: &ExpirationsQuery,
        may_look_up: impl Fn(&CertQuery) -> bool,
        now: Timestamp,
    ) -> Expirations {
        let (project, inventory) = (&asked.project, asked.inventory.as_ref());
        let is_listed = |query: &CertQuery| {
            inventory.is_none_or(|inventory| inventory.users.contains(&query.username))
        };
        let mut coverage = Coverage {
            listed_at: inventory.map(|inventory| inventory.listed_at),
            ..Coverage::default()
        };
        let listed = inventory
            .iter()
            .flat_map(|inventory| inventory.users.iter());
        for username in listed {
            let query = CertQuery {
                project: *project,
                username: username.clone(),
            };
            let is_unknown = !self.has(&query) && may_look_up(&query);
            coverage.unknown += usize::from(is_unknown);
        }
        let mut endings = Vec::new();
        let end = now.plus(asked.within.span());
        let known = self.of_project(project, now);
        let known = known.filter(|(query, _)| is_listed(query) && may_look_up(query));
        for (query, list) in known {
            coverage.add(&list);
            let newest = list.newest().into_iter();
            let each = list.certificates.iter();
            let (newest, each) = match asked.which {
                Which::Last => (Some(newest), None),
                Which::Every if list.certificates.is_empty() => (Some(newest), None),
                Which::Every => (None, Some(each)),
            };
            let ending = newest
                .into_iter()
                .flatten()
                .chain(each.into_iter().flatten());
            let ending = ending.filter(|it| it.not_after <= end);
            endings.extend(ending.map(|it| Ending::of(&query.username, &list, it, now)));
        }
        endings.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        Expirations {
            as_of: now,
            coverage,
            endings,
        }
    }
}

impl WithinDays {
    pub(crate) const LONGEST: u32 = 800;

    fn span(self) -> Duration {
        Duration::from_hours(24) * self.0
    }
}

impl Coverage {
    fn add(&mut self, list: &KnownList) {
        self.users += 1;
        let oldest = self.oldest_answer.unwrap_or(list.answered_at);
        self.oldest_answer = Some(oldest.min(list.answered_at));
    }
}

impl Ending {
    fn of(
        username: &Username,
        list: &KnownList,
        certificate: &KnownCertificate,
        now: Timestamp,
    ) -> Self {
        let unexpired = list.certificates.iter().filter(|it| it.not_after > now);
        Self {
            username: username.clone(),
            id: certificate.id,
            subject: list.subject(certificate.id).cloned(),
            not_after: certificate.not_after,
            certificates: unexpired.count(),
            answered_at: list.answered_at,
            fill_id: list.fill_id,
        }
    }

    /// Negative once it has ended.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> i64 {
        self.not_after.seconds().saturating_sub(now.seconds())
    }

    fn order(&self) -> (Timestamp, &Username, i64) {
        (self.not_after, &self.username, self.id)
    }
}
