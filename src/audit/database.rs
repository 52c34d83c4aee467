//! The central trail: the records of all replicas, in PostgreSQL.
//!
//! The journal stays the only thing that an answer waits for. [`shipper`] reads the journal's files, and writes
//! records together with the new end of their chain in one transaction, so that each record arrives exactly
//! once. The end that the database knows is a second witness: a journal that was written anew, or cut off, does
//! not continue it.
//!
//! [`config`] says where the database is, [`connection`] opens a connection, over [`tls`], and [`schema`] makes the
//! tables. [`journal_reader`] finds what comes next, [`shipment`] makes rows of it, [`chain_end`] is the transaction,
//! and [`progress`] what others want to know of it all.
//!
//! [`central`] reads it back, with what directories have beyond it, which is their [`tail`]: [`conditions`] are a filter
//! in SQL, [`search`] finds records and [`lines`] what was written of them, [`place`] is where they stand; [`usage`] and
//! [`mod@verify`] are as of directories.

mod central;
mod chain_end;
mod check;
mod checkpoint;
mod conditions;
mod config;
mod connection;
mod copy;
mod error;
mod head_shipping;
mod instant;
mod journal_reader;
mod lines;
mod members;
mod place;
mod progress;
mod schema;
mod search;
mod shipment;
mod shipper;
mod tail;
mod tls;
mod usage;
mod verify;

pub use central::{CentralCoverage, CentralError, CentralTrail};
pub(crate) use check::check;
pub use config::{DatabaseConfig, DatabaseUrl};
pub use connection::Connection;
pub use error::DatabaseError;
pub use place::RecordPlace;
pub(super) use progress::ShippingProgress;
pub(crate) use schema::prepare;
pub use schema::script;
pub use search::{CentralQuery, ChainStatus};
pub(super) use shipper::{ShippedJournal, Shipper};
pub(crate) use verify::{CentralVerdict, verify};
