//! Where a record stands in the trail of all replicas: by its time, and of one time by chain and number.

use std::fmt;
use std::str::FromStr;

use crate::atlas::Timestamp;
use crate::audit::search::Order;

/// Where a record stands among those of all chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// When it was recorded.
    pub time: Timestamp,
    /// The number of its chain in the database.
    pub chain: i32,
    /// Its number in the chain.
    pub seq: u64,
}

/// A record's line, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct PlacedLine {
    pub(super) place: RecordPlace,
    pub(super) line: String,
}

impl RecordPlace {
    /// Whether it is shown before the other.
    pub(super) fn is_before(self, other: Self, order: Order) -> bool {
        match order {
            Order::NewestFirst => self > other,
            Order::OldestFirst => self < other,
        }
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.time, self.chain, self.seq)
    }
}

impl FromStr for RecordPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(NO_PLACE);
        Ok(Self {
            time: Timestamp::parse(next()?).ok_or(NO_PLACE)?,
            chain: next()?.parse().map_err(|_| NO_PLACE)?,
            seq: next()?.parse().map_err(|_| NO_PLACE)?,
        })
    }
}

const NO_PLACE: &str = "what `next` of the page before it says";
