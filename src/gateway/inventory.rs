//! The inventories of named projects: each day, or as often as is configured, every user that Atlas lists is asked
//! about once, so that what expires is known of users that no caller asks about, too.
//!
//! It costs one call for each user of whom nothing newer is known, at the lowest urgency: while less than two fifths
//! of a project's bucket are left it waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use super::Gateway;
use crate::atlas::{CertQuery, ProjectId, Username};
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::cache::FetchRequest;
use crate::insight::Inventory;
use crate::telemetry::Chain;
use crate::upstream::{FetchError, FetchErrorKind, Urgency};

impl Gateway {
    /// Makes an inventory of each project whenever one is due.
    pub(crate) async fn make_inventories(&self) {
        let inventories = self.known_lists.inventories().clone();
        if inventories.interval().is_zero() {
            return;
        }
        loop {
            for project in inventories.due(self.clock.now().wall) {
                if let Err(error) = self.make_inventory(project).await {
                    // The next round tries again.
                    warn!(%project, "no inventory can be made: {}", Chain(&error));
                }
            }
            self.clock.sleep(BETWEEN_ROUNDS).await;
        }
    }

    async fn make_inventory(&self, project: ProjectId) -> Result<(), FetchError> {
        let listed_at = self.clock.now().wall;
        let users = self.upstream.managed_users(&project).await?;
        let mut failed = 0_usize;
        for username in &users {
            failed += usize::from(!self.take_stock(project, username).await);
        }
        let count = users.len();
        info!(%project, users = count, failed, "an inventory of the project's certificates was made");
        let record = AdminRecord {
            group_id: Some(project.as_str()),
            entries: u64::try_from(count).ok(),
            ..AdminRecord::bare(AdminAction::Inventory, Outcome::Answered, self.clock.now())
        };
        if self.audit.record_admin(&record).await.is_err() {
            warn!(%project, "an inventory is not on record");
        }
        let users: HashSet<Username> = users.into_iter().collect();
        let users = Arc::new(users);
        let inventories = self.known_lists.inventories();
        inventories.made(project, Inventory { listed_at, users });
        Ok(())
    }

    /// Has one user's list fetched, unless it is known well enough; false where it could not be had.
    async fn take_stock(&self, project: ProjectId, username: &Username) -> bool {
        let query = CertQuery {
            project,
            username: username.clone(),
        };
        let interval = self.known_lists.inventories().interval();
        loop {
            let now = self.clock.now();
            let answered = self.known_lists.answered_at(&query);
            if answered.is_some_and(|at| now.wall.since(at) < interval) {
                return true;
            }
            let fetch = self.fetch(Uuid::now_v7().into());
            let fetched = fetch(FetchRequest {
                query: query.clone(),
                fill_id: self.ids.at(now.wall).into(),
                urgency: Urgency::Inventory,
                forced: false,
                after_failure: false,
            });
            match fetched.await.result.map_err(|error| error.reason) {
                Ok(_) => return true,
                Err(
                    FetchErrorKind::HeldBack { retry_after, .. }
                    | FetchErrorKind::BreakerOpen { retry_after },
                ) => self.clock.sleep(retry_after.max(SHORTEST_WAIT)).await,
                Err(_) => return false,
            }
        }
    }
}

const BETWEEN_ROUNDS: Duration = Duration::from_mins(10);
/// The bucket fills by a call each few hundred milliseconds; others are to have them first.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
