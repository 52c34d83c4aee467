//! How Atlas is asked, without a gateway around it: against a local Atlas that enforces what Atlas
//! enforces.

pub(crate) mod world;

mod answers;
mod buckets;
mod budgets;
mod causes;
mod demand;
mod digest;
mod failures;
mod lists;
mod moments;
pub(crate) mod network;
mod surroundings;
mod tokens;
