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

impl super::NotFound {
    fn status(&self) -> Option<super::CacheStatus> {
        match self {
            Self::Fetch { status, .. } => Some(*status),
            Self::NotAdmitted(_) | Self::TooManyWaiters { .. } | Self::FetchDied => None,
        }
    }
}
