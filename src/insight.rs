//! What is known of certificates beyond the cache's time: which appeared and vanished since the fetch before, and
//! which end soon.
//!
//! It is filled by fetches that are made anyway and costs Atlas no call. The cache forgets a list after minutes;
//! here the serial numbers and the ends of a list stay, bounded in bytes, until it is purged or its user is gone.

mod certificate;
mod changes;
mod config;
mod expirations;
mod inventory;
mod known_lists;

pub use config::Config;

pub(crate) use changes::Changes;
pub(crate) use expirations::{Ending, Expirations, ExpirationsQuery, Which, WithinDays};
pub(crate) use inventory::{Inventory, InventoryState};
pub(crate) use known_lists::{EndingCounts, KnownLists};
