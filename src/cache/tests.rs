//! The cache as its callers see it: scripted fetches, a clock that the test moves, no sockets.

mod bounds;
mod expiry;
mod explain;
mod in_flight;
mod freshness;
mod model;
mod project_index;
mod purge;
mod stage;
