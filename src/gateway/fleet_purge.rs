//! Purges of a fleet: what this replica tells the others, and what it does when it is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::warn;

use super::{Gateway, PurgeError};
use crate::atlas::{CertQuery, Timestamp};
use crate::audit::{AdminAction, AdminRecord, Outcome, RequestId};
use crate::cache::Purge;
use crate::fleet::{Alone, Confirmed, FleetEvent, Operator, PurgeTarget, What};
use crate::identity::{Caller, RuleListNumber};
use crate::policy::Hidden;

impl Gateway {
    /// Purges what the fleet shares, and tells the other replicas; `None` without a fleet. What is cached here is
    /// not concerned. `operator` is who asks for it, if a rule denies them anything.
    pub(crate) async fn tell_purge(
        &self,
        what: &Purge,
        soft: bool,
        request_id: RequestId,
        operator: Option<&Caller>,
    ) -> Option<Result<u64, Alone>> {
        let purged = match what {
            Purge::All => PurgeTarget::All,
            Purge::Project(project) => PurgeTarget::Project(project),
            Purge::Key(query) => PurgeTarget::List(query),
        };
        let fleet = self.fleet.as_ref()?;
        let operator = operator.map(named);
        let told = fleet.purge(purged, soft, request_id.uuid(), operator);
        Some(told.await)
    }

    /// How many replicas have done what they were told; this one has.
    pub(crate) async fn confirm_purge(
        &self,
        told: Option<Result<u64, Alone>>,
    ) -> Option<Confirmed> {
        let (fleet, told) = (self.fleet.as_ref()?, told?);
        let confirmed = match told {
            Ok(event) => fleet.confirmed(event).await,
            Err(alone) => Err(alone),
        };
        Some(confirmed.unwrap_or_else(|_| Confirmed {
            replicas: fleet.replicas().into(),
            confirmed: 1,
        }))
    }

    /// Does what the other replicas tell.
    pub(crate) fn listen_to_fleet(self: &Arc<Self>) {
        let Some(fleet) = &self.fleet else { return };
        let gateway = Arc::downgrade(self);
        fleet.on_denied(Box::new(move |operator, query| {
            let (project, username) = (query.project.as_str(), query.username.as_str());
            let hidden = gateway.upgrade().map(|gateway| gateway.hidden(operator));
            hidden.is_some_and(|hidden| hidden.has(Some(project), Some(username)))
        }));
        let gateway = Arc::downgrade(self);
        fleet.on_event(Box::new(move |event| {
            let gateway = gateway.upgrade();
            async move {
                if let Some(gateway) = gateway {
                    gateway.hear(event).await;
                }
            }
            .boxed()
        }));
    }

    async fn hear(&self, event: Option<FleetEvent>) {
        let Some(event) = event else {
            // Something was lost, so each list is asked of the fleet before it is served again.
            self.forget(Purge::All, true, None).await;
            return;
        };
        let Some(what) = purge_of(&event) else {
            warn!(
                replica = event.replica,
                "an event of another replica cannot be read"
            );
            self.forget(Purge::All, true, None).await;
            return;
        };
        let soft = match (event.what, &what) {
            (What::Changed(fill_id), Purge::Key(query)) => {
                self.cache.mark_changed(query, fill_id);
                return;
            }
            (What::Changed(_) | What::SoftlyPurged, _) => true,
            (What::Purged, _) => false,
        };
        let (project, username) = (event.project.clone(), event.username.clone());
        let hidden = event.operator.as_ref().map(|it| self.hidden(it));
        let entries = self.forget(what, soft, hidden).await;
        let record = AdminRecord {
            request_id: event.request_id.map(RequestId::from),
            group_id: project.as_deref(),
            username: username.as_deref(),
            entries: Some(entries),
            told_by: Some(&event.replica),
            ..AdminRecord::bare(AdminAction::Purge, Outcome::Answered, self.clock.now())
        };
        if self.audit.record_admin(&record).await.is_err() {
            warn!(
                replica = event.replica,
                "a purge of another replica is not on record"
            );
        }
    }

    /// What this replica's rules deny an operator.
    fn hidden(&self, operator: &Operator) -> Hidden {
        self.policy.load().hidden(&Arc::new(caller(operator)))
    }

    async fn forget(&self, what: Purge, soft: bool, hidden: Option<Hidden>) -> u64 {
        loop {
            let hidden = hidden.clone();
            let stays = move |project: &str, username: &str| {
                let hidden = hidden.as_ref();
                hidden.is_some_and(|hidden| hidden.has(Some(project), Some(username)))
            };
            match self.purge(what.clone(), soft, stays).await {
                Ok(entries) => return entries,
                // It has been logged.
                Err(PurgeError::Panicked) => return 0,
                // Until it is gone nothing that comes after is heard, and this purge is not confirmed.
                Err(PurgeError::SnapshotStays(_)) => self.clock.sleep(BETWEEN_REMOVALS).await,
            }
        }
    }
}

/// An operator as the other replicas are told of them.
fn named(caller: &Caller) -> Operator {
    Operator {
        subject: caller.subject.clone(),
        issuer: Box::from(&*caller.issuer),
        client_id: caller.client_id.clone(),
        scopes: caller.scopes.clone(),
    }
}

/// An operator that another replica has told of. It holds no token here, and is asked about by rules alone.
fn caller(operator: &Operator) -> Caller {
    Caller {
        subject: operator.subject.clone(),
        issuer: Arc::from(&*operator.issuer),
        client_id: operator.client_id.clone(),
        token_id: None,
        key_id: None,
        scopes: operator.scopes.clone(),
        expires_at: Timestamp::from_seconds(0),
        rule_list: RuleListNumber::default(),
    }
}

/// What an event is about; `None` if that is no project and user.
fn purge_of(event: &FleetEvent) -> Option<Purge> {
    let Some(project) = &event.project else {
        return Some(Purge::All);
    };
    let project = project.parse().ok()?;
    let Some(username) = &event.username else {
        return Some(Purge::Project(project));
    };
    let username = username.parse().ok()?;
    Some(Purge::Key(CertQuery { project, username }))
}

const BETWEEN_REMOVALS: Duration = Duration::from_secs(1);
