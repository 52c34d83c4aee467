//! Purges of the fleet: what lies in the engine goes first, with the right to store what is being fetched, and then
//! the replicas are told.

use std::time::Duration;

use uuid::Uuid;

use super::event::{FleetEvent, Operator, What};
use super::reply::number;
use super::{Alone, Fleet};
use crate::atlas::{CertQuery, ProjectId};
use crate::telemetry::metrics::fleet::FleetFunction;

/// What is purged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PurgeTarget<'p> {
    All,
    Project(&'p ProjectId),
    List(&'p CertQuery),
}

impl Fleet {
    /// Purges for all replicas, by the request of an operator, who is named where some of it is denied to them. Says
    /// the number of the event, by which it can be [confirmed](Fleet::confirmed).
    pub(crate) async fn purge(
        &self,
        what: PurgeTarget<'_>,
        soft: bool,
        request_id: Uuid,
        operator: Option<Operator>,
    ) -> Result<u64, Alone> {
        let (project, username) = match what {
            PurgeTarget::All => (None, None),
            PurgeTarget::Project(project) => (Some(*project), None),
            PurgeTarget::List(query) => (
                Some(query.project),
                Some(query.username.as_str().to_owned()),
            ),
        };
        let event = FleetEvent {
            replica: self.0.replica.clone(),
            request_id: Some(request_id),
            what: if soft {
                What::SoftlyPurged
            } else {
                What::Purged
            },
            project: project.map(|project| project.as_str().to_owned()),
            username,
            // A rule that denies a list denies its purge.
            operator: operator.filter(|_| !matches!(what, PurgeTarget::List(_))),
        };
        let names = &self.0.names;
        let (stream, count) = (names.of_fleet("ev"), names.of_fleet("n"));
        let (sealed, bell) = (self.seal_event(&event), names.of_fleet("bell"));
        let how = if soft { "soft" } else { "hard" };
        let reply = match what {
            PurgeTarget::All => return self.tell(&event).await,
            // The project's purges in the engine are those of all of its lists.
            PurgeTarget::Project(_) if event.operator.is_some() => return self.tell(&event).await,
            PurgeTarget::Project(project) => {
                let keys = [&*names.purges(project), &stream, &count];
                let kept = LONGEST_KEPT.as_millis().to_string();
                let arguments = [how.as_bytes(), &sealed, bell.as_bytes(), kept.as_bytes()];
                self.call(FleetFunction::PurgeProject, &keys, &arguments)
                    .await?
            }
            PurgeTarget::List(query) => {
                let list = names.list(query);
                let keys = [&*list.entry, &*list.lease, &stream, &count];
                let arguments = [how.as_bytes(), &sealed, bell.as_bytes()];
                self.call(FleetFunction::PurgeList, &keys, &arguments)
                    .await?
            }
        };
        number(reply).ok_or(Alone)
    }

    /// Tells the others that Atlas has another list than before, or that a caller has forced its fetch.
    pub(crate) async fn tell_changed(&self, query: &CertQuery, fill_id: Uuid) {
        let event = FleetEvent {
            replica: self.0.replica.clone(),
            request_id: None,
            what: What::Changed(fill_id),
            project: Some(query.project.as_str().to_owned()),
            username: Some(query.username.as_str().to_owned()),
            operator: None,
        };
        // Whoever does not hear it goes by the list that it has, until its time.
        let _ = self.tell(&event).await;
    }
}

/// A list is kept for a day and a week at most.
const LONGEST_KEPT: Duration = Duration::from_hours(8 * 24);
