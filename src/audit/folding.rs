//! Once a minute, and at the end, folded refusals become records, through the same journal and chain as all
//! others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::system::{Clock, Moment};
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::disk::Disk;
use super::journal::Journal;
use super::record::{Body, Kind, name, room};
use super::refusals::{Fold, Refusals, TooManyRefusals, Who, next_minute};

/// The refusals of one trail.
#[derive(Debug)]
pub(super) struct Folding {
    refusals: Mutex<Refusals>,
    disk: Arc<Disk>,
    metrics: AuditMetrics,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// Writes what is due each minute; the only one who takes it out.
#[derive(Debug)]
pub(super) struct Minutes {
    pub(super) folding: Arc<Folding>,
    pub(super) journal: Weak<Journal>,
    /// The members `replica` and `chain`, as they stand in every record.
    pub(super) identity: Box<[u8]>,
    pub(super) clock: Clock,
}

impl Folding {
    pub(super) fn disk_is_short(&self) -> bool {
        self.disk.is_short()
    }

    pub(super) fn new(per_minute: u32, disk: Arc<Disk>, metrics: AuditMetrics) -> Self {
        Self {
            refusals: Mutex::new(Refusals::new(per_minute)),
            disk,
            metrics,
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Counts one refusal: `None` if it has a record of its own, else it is folded.
    pub(super) fn refuse(&self, who: Who, code: &str, now: Moment) -> Option<TooManyRefusals> {
        let is_short = self.disk.is_short();
        let folded = self.lock().refuse(who, code, now, is_short);
        if folded.is_some() {
            self.metrics.refusals_folded.inc();
        }
        folded
    }

    /// Waits until all that is folded is on record; from then on nothing more is folded.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, Refusals> {
        // Counting cannot panic half-way.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minutes {
    /// Goes on until it is told to stop, or there is no journal.
    pub(super) async fn keep(self) {
        // However it ends, nobody waits for it in vain.
        let _stopped = self.folding.stopped.clone().drop_guard();
        loop {
            let Some(journal) = self.journal.upgrade() else {
                return;
            };
            if self.folding.stop.is_cancelled() {
                return self.finish(&journal).await;
            }
            let now = self.clock.now();
            // What cannot be written now stays due.
            if journal.health().is_writable() {
                let due = self.folding.lock().take_due(now.elapsed);
                self.write(due, &journal, now).await;
            }
            drop(journal);
            tokio::select! {
                () = self.folding.stop.cancelled() => {}
                () = self.clock.sleep_until(next_minute(now.elapsed)) => {}
            }
        }
    }

    async fn finish(&self, journal: &Arc<Journal>) {
        let due = self.folding.lock().close();
        self.write(due, journal, self.clock.now()).await;
        let lost = self.folding.lock().close();
        let lost: u64 = lost.values().map(|fold| fold.count).sum();
        if lost > 0 {
            tracing::error!(count = lost, "refused requests are not on record");
        }
    }

    async fn write(&self, due: HashMap<Who, Fold>, journal: &Arc<Journal>, now: Moment) {
        let mut due = due.into_iter().peekable();
        // Few at a time, so that they do not take the room of the questions that come meanwhile.
        while due.peek().is_some() {
            let some = due.by_ref().take(AT_A_TIME);
            let records = some.map(|(who, fold)| self.write_one(who, fold, journal, now));
            if join_all(records).await.iter().any(Result::is_err) {
                break;
            }
        }
        for (who, fold) in due {
            self.folding.lock().put_back(who, fold);
        }
    }

    async fn write_one(
        &self,
        who: Who,
        fold: Fold,
        journal: &Arc<Journal>,
        now: Moment,
    ) -> Result<(), Unrecorded> {
        let submitted = Body::compose(
            now.wall,
            Kind::Refusals,
            |body| {
                body.put(&self.identity);
                write(body, &who, &fold);
            },
            |body| journal.submit(body, now),
        );
        let recorded = match submitted {
            Ok(ticket) => ticket.await,
            Err(problem) => Err(problem),
        };
        match recorded {
            Ok(()) => say(&who, &fold),
            Err(Unrecorded::Unwritable) => self.folding.lock().put_back(who, fold),
            // It is written when the disk comes back; a second record would count twice.
            Err(Unrecorded::TooLate) => {}
        }
        recorded
    }
}

fn write(body: &mut Body<'_>, who: &Who, fold: &Fold) {
    body.word(name!("scope"), scope(who));
    body.number(name!("count"), fold.count);
    let codes = fold.codes.iter().map(|(code, count)| (&**code, *count));
    body.counts(name!("codes"), codes);
    body.word(name!("first"), &fold.first.to_string());
    body.word(name!("last"), &fold.last.to_string());
    match who {
        Who::Source(network) => body.word(name!("peer"), &spelt(*network)),
        Who::Caller { issuer, subject } => {
            body.text(name!("subject"), subject, room::SUBJECT);
            body.text(name!("issuer"), issuer, room::ISSUER);
        }
        Who::OtherSources | Who::OtherCallers | Who::Everybody => {}
    }
}

/// One line a minute stands for those that were not written.
fn say(who: &Who, fold: &Fold) {
    let peer = match who {
        Who::Source(network) => Some(spelt(*network)),
        Who::Caller { .. } | Who::OtherSources | Who::OtherCallers | Who::Everybody => None,
    };
    let count = fold.count;
    tracing::info!(
        peer,
        scope = scope(who),
        count,
        "refused requests are folded into one record"
    );
}

fn scope(who: &Who) -> &'static str {
    match who {
        Who::Source(_) => "source",
        Who::Caller { .. } => "caller",
        Who::OtherSources => "other_sources",
        Who::OtherCallers => "other_callers",
        Who::Everybody => "everybody",
    }
}

fn spelt(network: IpAddr) -> String {
    match network {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(prefix) => format!("{prefix}/64"),
    }
}

const AT_A_TIME: usize = 64;
