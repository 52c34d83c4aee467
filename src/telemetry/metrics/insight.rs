//! Metrics of what expires, without names: of users whose newest certificate ends.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Register;
use super::lookups::{Outcome, of};

/// Handles to the metrics of what expires. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InsightMetrics {
    questions: [Counter; Outcome::ALL.len()],
    changed: [Counter; CertificateChange::ALL.len()],
    users: Family<Labels, Gauge>,
    ending: Family<EndingLabels, Gauge>,
    ended: Family<Labels, Gauge>,
    next_end: Family<Labels, Gauge<f64, AtomicU64>>,
    oldest_answer: Family<Labels, Gauge<f64, AtomicU64>>,
}

/// Within how many days users are counted whose certificates end: the lives of certificates that Atlas offers begin
/// at a month, three months is the usual one.
pub(crate) const DAYS: [u32; 5] = [1, 7, 14, 28, 90];

/// What the gauges show of a project, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownEndings {
    pub(crate) users: u64,
    /// In the order of [`DAYS`].
    pub(crate) within: [u64; DAYS.len()],
    pub(crate) ended: u64,
    /// In seconds since the epoch.
    pub(crate) next_end: Option<i64>,
    /// The same.
    pub(crate) oldest_answer: Option<i64>,
}

words! {
    /// What became of a certificate between two fetches.
    pub(crate) enum CertificateChange {
        /// Only the second list has it.
        Appeared = "appeared",
        /// It has left the list before it expired.
        Vanished = "vanished",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    project: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabels {
    project: Arc<str>,
    within: String,
}

impl InsightMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            questions: registry.add_counters(
                "expirations_questions",
                "Questions about what expires, by what became of them",
                "outcome",
                Outcome::ALL,
            ),
            changed: registry.add_counters(
                "certificates_changed",
                "Certificates that a fetch found in a user's list and the one before did not, or the other way round",
                "change",
                CertificateChange::ALL,
            ),
            users: registry.add(
                "certificates_users",
                "Users of whose certificates something is known, by named project, and of all projects without a name",
                Family::default(),
            ),
            ending: registry.add(
                "certificates_users_ending",
                "Users whose newest known certificate ends within this time, or has ended",
                Family::default(),
            ),
            ended: registry.add(
                "certificates_users_ended",
                "Users whose newest known certificate has ended",
                Family::default(),
            ),
            next_end: registry.add(
                "certificates_next_end_timestamp_seconds",
                "When the first of the users' newest certificates ends",
                Family::default(),
            ),
            oldest_answer: registry.add(
                "certificates_oldest_answer_timestamp_seconds",
                "When Atlas gave the oldest of the answers that this is known from",
                Family::default(),
            ),
        };
        // All are on the first page.
        metrics.show(&Arc::from(""), &ShownEndings::default());
        metrics
    }

    /// Counts a question about what expires.
    pub(crate) fn question(&self, outcome: Outcome) {
        of(&Outcome::ALL, &self.questions, &outcome).inc();
    }

    /// Counts so many certificates that have appeared, or vanished.
    pub(crate) fn changed(&self, change: CertificateChange, certificates: usize) {
        let count = u64::try_from(certificates).expect("fewer than memory has bytes");
        of(&CertificateChange::ALL, &self.changed, &change).inc_by(count);
    }

    /// Shows what is known of a project by its name; of all of them without one.
    pub(crate) fn show(&self, project: &Arc<str>, shown: &ShownEndings) {
        let gauge = |number: u64| i64::try_from(number).expect("fewer than memory has bytes");
        let labels = &Labels {
            project: Arc::clone(project),
        };
        self.users.get_or_create(labels).set(gauge(shown.users));
        self.ended.get_or_create(labels).set(gauge(shown.ended));
        for (days, users) in DAYS.into_iter().zip(shown.within) {
            let labels = EndingLabels {
                project: Arc::clone(project),
                within: format!("{days}d"),
            };
            self.ending.get_or_create(&labels).set(gauge(users));
        }
        for (family, seconds) in [
            (&self.next_end, instant(shown.next_end)),
            (&self.oldest_answer, instant(shown.oldest_answer)),
        ] {
            family.get_or_create(labels).set(seconds);
        }
    }
}

/// Without one it is never.
fn instant(seconds: Option<i64>) -> f64 {
    let seconds = seconds.map(|seconds| u64::try_from(seconds).unwrap_or_default());
    seconds.map_or(f64::INFINITY, |it| Duration::from_secs(it).as_secs_f64())
}
