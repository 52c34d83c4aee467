//! `GET /audit/lookups?scope=fleet`: a page of the trail of all replicas.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::value::RawValue;
use tracing::warn;

use super::Admin;
use super::lookups::{LARGEST_PAGE, LookupsPage, LookupsQuery, NextPage, is_hidden};
use super::operation::Operation;
use crate::audit::database::CentralQuery;
use crate::audit::search::Incomplete;
use crate::server::response::AdminRefusal;
use crate::telemetry::Chain;

impl Admin {
    pub(super) async fn search_fleet(
        &self,
        request: &LookupsQuery,
        operation: &Operation<'_>,
    ) -> Result<LookupsPage, AdminRefusal> {
        let trail = self.gateway.audit.central();
        let trail = trail.ok_or(AdminRefusal::Query(Cow::Borrowed(WITHOUT_DATABASE)))?;
        let hidden = self.gateway.policy.load().hidden(&operation.caller);
        let gone = operation.request.gone.clone();
        let draining = self.readiness.draining();
        let is_over = move || gone.is_cancelled() || draining.load(Ordering::Relaxed);
        let query = CentralQuery {
            filter: request.filter.clone(),
            order: request.order,
            behind: request.behind,
        };
        let mut page = LookupsPage::default();
        let (mut last, mut bytes): (Option<String>, usize) = (None, 0);
        let searched = trail.search(&query, is_over.clone(), |found, place| {
            if is_hidden(found.line, &hidden) {
                return ControlFlow::Continue(());
            }
            if page.records.len() == request.limit || bytes > LARGEST_PAGE {
                page.next = last.take().map(NextPage::Place);
                return ControlFlow::Break(());
            }
            last = Some(place.to_string());
            bytes += found.line.len();
            page.records
                .extend(RawValue::from_string(found.line.to_owned()).ok());
            ControlFlow::Continue(())
        });
        let request_id = operation.request.request_id;
        let away = |why: &dyn std::fmt::Display| {
            warn!(%request_id, "the central trail was not searched: {why}");
            AdminRefusal::CentralTrailAway
        };
        let searched = self
            .gateway
            .clock
            .timeout(LONGEST_SEARCH, Box::pin(searched))
            .await;
        let searched = searched.map_err(|_| away(&"the database did not answer in time"))?;
        let coverage = searched.map_err(|error| away(&Chain(&error)))?;
        if is_over() {
            return Err(AdminRefusal::Stopping);
        }
        page.chains = coverage.chains;
        page.incomplete = coverage
            .incomplete
            .iter()
            .map(Incomplete::of_name)
            .collect();
        Ok(page)
    }
}

/// A database that hangs must not keep an operator waiting, nor the search of another one.
const LONGEST_SEARCH: Duration = Duration::from_secs(30);
const WITHOUT_DATABASE: &str = "takes `scope=fleet` only where `[audit.database]` is configured";
