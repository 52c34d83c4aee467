//! The cache as its callers see it: scripted walks, a clock that the test moves, no sockets.

mod expiry;
mod flights;
mod freshness;
mod purge;
mod stage;
