//! The central trail, in a PostgreSQL of the test's own. Debian's package `postgresql` is needed. Where it is not,
//! nothing is tried, unless `CI` is set.

mod chance;
mod checkpoints;
mod connecting;
mod fleet;
mod killed;
mod postgres;
mod roles;
mod searched;
mod verified;
mod shipped;
