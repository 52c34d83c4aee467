//! What survives the process: the token for the next one, and the ledger on the disk.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Account;
use super::MARGIN;
use crate::atlas::Timestamp;
use crate::secret::Secret;
use crate::telemetry::say;
use crate::upstream::sealed;
use crate::upstream::token::Minted;

impl Account {
    /// Keeps a token for the next process; comes before anybody uses it.
    pub(super) fn keep(&self, token: &Secret, expires: Timestamp, secret: &Secret) {
        let id = &self.client_id;
        if let Err(error) = sealed::write(&self.sealed, id, secret, token, expires) {
            let name = &self.terms.load().name;
            say(|| warn!(credential = %name, %error, "cannot keep the token for the next process"));
        }
    }

    /// Takes up the token that the last process has left.
    pub(super) fn take_up(&self) {
        let now = self.clock.now();
        let secret = self.secret();
        let Some((token, expires)) = sealed::read(&self.sealed, &self.client_id, &secret) else {
            return;
        };
        let lifetime = expires.since(now.wall).min(LONGEST_LEFT);
        if lifetime > MARGIN {
            self.adopt(Minted { token, lifetime });
        }
    }

    /// Beside the way of the one who needs a token: a disk may take long.
    pub(super) fn bring_to_disk(self: &Arc<Self>, ledger: File) {
        let account = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = ledger.sync_data() {
                account.cannot_write(&error);
            }
        });
    }

    pub(super) fn cannot_write(&self, error: &io::Error) {
        let name = &self.terms.load().name;
        say(|| warn!(credential = %name, %error, "cannot write the ledger of tokens"));
    }
}

const LONGEST_LEFT: Duration = Duration::from_hours(1);
