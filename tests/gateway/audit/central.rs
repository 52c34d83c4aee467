//! The central trail, in a PostgreSQL of the test's own. Where it is not installed, nothing is tried, unless `CI`
//! is set.

mod chance;
mod checkpoints;
mod connecting;
mod fleet;
mod killed;
mod postgres;
mod recipes;
mod roles;
mod searched;
mod verified;
mod views;
mod shipped;
