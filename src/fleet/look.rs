//! What the engine has of one list, for an operator. Looking changes nothing there.

use std::time::Duration;

use redis::Value;

use super::reply::{number, parts};
use super::{Alone, Fleet};
use crate::atlas::CertQuery;
use crate::telemetry::metrics::fleet::{FleetFunction, FleetRejection};

/// What the engine has of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListView {
    /// What a fetch has brought, if it may still be adopted.
    pub(crate) entry: Option<EntryView>,
    /// For how long a lease lasts, if a replica is fetching the list.
    pub(crate) lease_left: Option<Duration>,
}

/// An entry, by the engine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryView {
    /// How long ago it was stored.
    pub(crate) stored_ago: Duration,
    /// For how long it is fresh still.
    pub(crate) fresh_for: Duration,
}

impl Fleet {
    /// What the engine has of a list now.
    pub(crate) async fn look_at_list(&self, query: &CertQuery) -> Result<ListView, Alone> {
        let names = self.0.names.list(query);
        let keys = [&*names.entry, &*names.lease, &*names.purges];
        let [hard, soft] = self.0.events.purged(query);
        let arguments = [hard.as_bytes(), soft.as_bytes()];
        let reply = self.call(FleetFunction::Look, &keys, &arguments).await?;
        read_view(reply).ok_or_else(|| {
            self.0.metrics.rejected(FleetRejection::Reply);
            Alone
        })
    }
}

fn read_view(reply: Value) -> Option<ListView> {
    let [has_entry, stored_ago, fresh_for, lease_left] = parts(reply)?;
    let span = |value| Some(Duration::from_millis(number(value)?));
    let entry = EntryView {
        stored_ago: span(stored_ago)?,
        fresh_for: span(fresh_for)?,
    };
    Some(ListView {
        entry: (number(has_entry)? == 1).then_some(entry),
        lease_left: span(lease_left).filter(|left| !left.is_zero()),
    })
}
