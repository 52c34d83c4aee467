//! What expires soon in a project, for a caller: the names that it may look up, from what is known already.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::spawn_blocking;

use super::awaiting_record::{InFlightGuard, LookupRecord, close_refused};
use super::{Gateway, Refusal, Rendered};
use crate::atlas::{ProjectId, Timestamp};
use crate::audit::{Arrival, Closing, InventoryQuery, Outcome, Refused, Unrecorded};
use crate::insight::{Expirations, ExpirationsQuery, Inventory, InventoryState, Which, WithinDays};
use crate::policy::Denied;
use crate::policy::allowance::AllowancesLeft;
use crate::telemetry::metrics::insight::ShownEndings;
use crate::telemetry::metrics::lookups::Present;

/// A question about what expires, as it was asked.
#[derive(Debug)]
pub(crate) struct ExpirationsRequest<'r> {
    pub(crate) token: Option<&'r [u8]>,
    pub(crate) query: InventoryQuery<'r>,
    pub(crate) within: WithinDays,
    pub(crate) which: Which,
    /// Every user that Atlas has listed, not only those that are known.
    pub(crate) is_of_all: bool,
    /// Which of what expires the answer names: from where, and how many at most.
    pub(crate) shown: (usize, usize),
}

/// What a caller is told.
pub(crate) struct FoundExpirations {
    pub(crate) expirations: Expirations,
    /// How many there are on all pages; those of this one are in `expirations`.
    pub(crate) total: usize,
}

impl Gateway {
    /// Answers what expires, once that is on record with the names that the answer has.
    pub(crate) async fn expirations<R>(
        &self,
        arrival: Arrival<'_>,
        request: &ExpirationsRequest<'_>,
        render: impl Fn(&Result<FoundExpirations, Refusal>, AllowancesLeft) -> Rendered<R>,
    ) -> Result<(R, Present), Unrecorded> {
        let arrived = arrival.at;
        let present = self.metrics.request();
        let mut entry = self.audit.entry(arrival);
        entry.set_inventory(&request.query);
        let mut record = LookupRecord {
            arrived,
            entry,
            in_flight: InFlightGuard::uncounted(&self.metrics, &self.clock, arrived),
            traced: None,
            allowances: AllowancesLeft::default(),
        };
        let resolved = AssertUnwindSafe(self.resolve_expirations(request, &mut record));
        let outcome = resolved.catch_unwind().await;
        let outcome = outcome.unwrap_or(Err(Refusal::Panicked));
        let LookupRecord {
            mut entry,
            allowances,
            ..
        } = record;
        let rendered = render(&outcome, allowances);
        let now = arrived.at(self.clock.elapsed());
        let mut closing = Closing {
            status: rendered.status,
            error_code: rendered.error_code.as_deref(),
            certificates: rendered.certificates,
            ..Closing::abandoned(now)
        };
        let mut folded = None;
        let tickets = match &outcome {
            Ok(found) => {
                closing.outcome = Outcome::Answered;
                let (names, users) = (found.usernames(), found.expirations.coverage.users);
                entry.submit_inventory(&closing, users, &names)?
            }
            Err(refusal) => {
                close_refused(&mut closing, refusal);
                match self.refuse(refusal, &mut entry, &closing) {
                    Refused::OnItsOwn => vec![entry.submit(&closing)?],
                    Refused::Folded => Vec::new(),
                    Refused::TooMany(refusals) => {
                        let refusal = Err(Refusal::TooManyRefusals(refusals));
                        folded = Some(render(&refusal, allowances));
                        Vec::new()
                    }
                }
            }
        };
        self.known_lists.metrics().question(closing.outcome);
        for ticket in tickets {
            ticket.await?;
        }
        let rendered = folded.unwrap_or(rendered);
        Ok((rendered.reply, present))
    }

    /// Shows in the metrics what is known of all projects, and of those that have a name.
    pub(crate) async fn show_expirations(&self) {
        let (known, now) = (self.known_lists.clone(), self.clock.now().wall);
        let counted = spawn_blocking(move || known.count_ending(now));
        // A panic in it has been logged.
        for (project, counts) in counted.await.unwrap_or_default() {
            let seconds = |time: Option<Timestamp>| time.map(Timestamp::seconds);
            self.known_lists.metrics().show(
                &project,
                &ShownEndings {
                    users: counts.users,
                    within: counts.within,
                    ended: counts.ended,
                    next_end: seconds(counts.next_end),
                    oldest_answer: seconds(counts.oldest_answer),
                },
            );
        }
    }

    async fn resolve_expirations(
        &self,
        request: &ExpirationsRequest<'_>,
        record: &mut LookupRecord<'_>,
    ) -> Result<FoundExpirations, Refusal> {
        let caller = self.verify(request.token, record).await?;
        record.entry.set_caller(&caller);
        if self.answers_only_hits() {
            return Err(Refusal::overloaded());
        }
        let project: ProjectId = request.query.project;
        let policy = self.policy.load_full();
        let grant = policy
            .authorize_in(&caller, &project)
            .map_err(|denied| Refusal::denied(denied, &mut record.entry))?;
        record.entry.set_rule(Some(grant.rule()));
        let now = self.clock.now();
        let limit = grant.lookups_per_minute();
        let admitted = self.allowance.admit_question(&caller, limit, now);
        record.allowances = self.allowance.left_for_questions(&caller, limit, now);
        admitted.map_err(Refusal::RateLimited)?;
        let has_inventory = grant.has_inventory();
        drop(grant);
        let inventory = if request.is_of_all {
            if !has_inventory {
                let denied = Denied::NoRule;
                return Err(Refusal::denied(denied, &mut record.entry));
            }
            Some(self.inventory(&project)?)
        } else {
            None
        };
        // Each looks at every list that is known.
        let one_of_few = self.known_lists.may_ask().ok_or_else(Refusal::overloaded)?;
        let known = self.known_lists.clone();
        let asked = ExpirationsQuery {
            project,
            within: request.within,
            which: request.which,
            inventory,
        };
        let told = spawn_blocking(move || {
            let may_look_up = |query: &_| policy.authorize(&caller, query).is_ok();
            let told = known.expirations(&asked, may_look_up, now.wall);
            drop(one_of_few);
            told
        });
        let mut expirations = told.await.map_err(|_| Refusal::Panicked)?;
        let total = expirations.endings.len();
        let (first, most) = request.shown;
        expirations.endings.drain(..first.min(total));
        expirations.endings.truncate(most);
        Ok(FoundExpirations { expirations, total })
    }
}

impl Gateway {
    fn inventory(&self, project: &ProjectId) -> Result<Inventory, Refusal> {
        let retry_after = match self.known_lists.inventories().of(project) {
            InventoryState::Made(inventory) => return Ok(inventory),
            InventoryState::None => None,
            InventoryState::UnderWay => Some(INVENTORY_PAUSE),
        };
        Err(Refusal::NoInventory { retry_after })
    }
}

impl FoundExpirations {
    /// Each user's once, in the order of the answer.
    fn usernames(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for ending in &self.expirations.endings {
            let name = ending.username.as_str();
            if seen.insert(name) {
                names.push(name);
            }
        }
        names
    }
}

/// The `Retry-After` of a caller that comes before the first inventory.
const INVENTORY_PAUSE: Duration = Duration::from_mins(1);
