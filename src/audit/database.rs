//! The central trail: the records of all replicas, in PostgreSQL.
//!
//! The journal stays the only thing that an answer waits for. [`shipper`] reads the journal's files, and writes
//! records together with the new end of their chain in one transaction, so that each record arrives exactly
//! once. The end that the database knows is a second witness: a journal that was written anew, or cut off, does
//! not continue it.
//!
//! [`config`] says where the database is, [`connection`] opens a connection, over [`tls`], and [`schema`] makes the
//! tables.

mod config;
mod connection;
mod schema;
mod tls;

pub use config::{DatabaseConfig, DatabaseUrl};
pub(crate) use connection::{Connection, DatabaseError};
pub(crate) use schema::{prepare, script};
