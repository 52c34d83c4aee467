//! The cache as its callers see it: scripted walks, a clock that the test moves, no sockets.

mod bounds;
mod expiry;
mod explain;
mod flights;
mod freshness;
mod model;
mod project_index;
mod purge;
mod stage;
