//! The moment of a request goes in, its id comes out.

use crate::atlas::Timestamp;
use crate::audit::RequestId;
use crate::clock::Ids;

/// Makes request ids.
#[derive(Debug, Default)]
pub struct RequestIds(Ids);

impl RequestIds {
    /// The id of a request that came at `time`.
    pub fn at(&self, time: Timestamp) -> RequestId {
        self.0.at(time).into()
    }
}
