//! Waiting for the gateway, with and without time that passes.

use std::time::Duration;

use super::super::client::Connection;
use super::{World, every, other_threads};

impl World {
    /// What comes of `work`, if it comes before a thousand answers were given to others: for what would
    /// never come from a gateway that does not do what is tested.
    pub(crate) async fn soon<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let others = async {
            for _ in 0..1_000 {
                self.admin("GET", "/healthz", "", "").await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = others => None,
        }
    }

    /// Whether a connection is closed, and soon.
    pub(crate) async fn closes(&self, connection: &mut Connection) -> bool {
        self.soon(connection.is_closed()).await == Some(true)
    }

    /// Waits for something that only shows in what the gateway has written.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let mut glances = every(Duration::from_millis(2));
        while !is_so(self) {
            glances.tick().await;
        }
    }

    /// Lets time pass, fifty milliseconds at a time, until `work` is done: for what waits for the
    /// clock between its calls, such as a retry.
    pub(crate) async fn while_time_passes<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut glances = every(Duration::from_millis(5));
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                _ = glances.tick() => {
                    other_threads().await;
                    self.advance(Duration::from_millis(50));
                }
            }
        }
    }
}
