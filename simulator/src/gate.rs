//! A gate in front of an answer: the test learns that a request has arrived, and lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds requests until the test releases them. Clones are the same gate.
///
/// ```no_run
/// # async fn test(atlas: atlas_simulator::Simulator) {
/// use atlas_simulator::Asked;
///
/// let gate = atlas.on(Asked::certificates()).hold();
/// // ... fifty callers ask the gateway ...
/// gate.arrived(1).await;
/// assert_eq!(atlas.certificate_calls(), 1);
/// gate.open();
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    arrived: watch::Sender<usize>,
    released: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until `count` requests have arrived in all, those already released included.
    pub async fn arrived(&self, count: usize) {
        wait_until(&self.0.arrived, |arrived| *arrived >= count).await;
    }

    /// How many requests have arrived in all.
    pub fn arrivals(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Lets one more request through, in the order of arrival; it may still have to arrive. One whose
    /// client has gone keeps its turn.
    pub fn release_one(&self) {
        self.0
            .released
            .send_modify(|released| *released = released.saturating_add(1));
    }

    /// Opens the gate for those that wait and all that come.
    pub fn open(&self) {
        self.0.released.send_replace(usize::MAX);
    }

    pub(crate) async fn pass(&self) {
        let mut place = 0;
        self.0.arrived.send_modify(|arrived| {
            *arrived += 1;
            place = *arrived;
        });
        wait_until(&self.0.released, |released| *released >= place).await;
    }
}

async fn wait_until(count: &watch::Sender<usize>, enough: impl FnMut(&usize) -> bool) {
    // The sender lives as long as the gate, so waiting cannot fail.
    let _ = count.subscribe().wait_for(enough).await;
}
