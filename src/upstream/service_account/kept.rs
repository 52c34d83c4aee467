//! What survives the process: the token for the next one, and the ledger on the disk.
//!
//! Both are read when the first token is needed, and every access is beside the runtime's threads: a disk
//! may take long.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::{Account, MARGIN};
use crate::atlas::Timestamp;
use crate::system::Secret;
use crate::telemetry::say;
use crate::upstream::mint_log::MintLog;
use crate::upstream::sealed;
use crate::upstream::token::Minted;

/// The files of an account.
#[derive(Debug)]
pub(super) struct Kept {
    ledger: PathBuf,
    /// What is in it, once it was read.
    wishes: Mutex<Option<MintLog>>,
    sealed: PathBuf,
    /// Whether anything is kept for the next process.
    keeps: bool,
    taken_up: AtomicBool,
}

impl Kept {
    pub(super) fn new(ledger: PathBuf, sealed: PathBuf, keeps: bool) -> Self {
        Self {
            ledger,
            wishes: Mutex::default(),
            sealed,
            keeps,
            taken_up: AtomicBool::new(!keeps),
        }
    }
}

impl Account {
    /// Writes down that a token is about to be asked for, if it may be; otherwise how long not.
    pub(super) async fn wish(self: &Arc<Self>) -> Result<(), Duration> {
        let asked = self.in_ledger(|ledger, account| {
            let now = account.clock.now();
            ledger.may_ask(now.elapsed)?;
            Ok(ledger.ask(now).and_then(|()| ledger.file()))
        });
        match asked.await? {
            Ok(Some(file)) => self.bring_to_disk(file),
            Ok(None) => {}
            Err(error) => self.cannot_write(&error),
        }
        Ok(())
    }

    /// The last wish was never sent.
    pub(super) async fn unsent(self: &Arc<Self>) {
        // What cannot be written here only makes us more careful than we need be.
        let _ = self.in_ledger(|ledger, _| ledger.unsent()).await;
    }

    /// No living token came of the last wish.
    pub(super) async fn in_vain(self: &Arc<Self>) {
        let _ = self.in_ledger(|ledger, _| ledger.in_vain()).await;
    }

    /// Atlas has taken the token back.
    pub(super) async fn revoked(self: &Arc<Self>) {
        self.aside(Self::remove_token).await;
        self.in_vain().await;
    }

    /// Keeps a token for the next process; comes before anybody uses it.
    pub(super) async fn keep(
        self: &Arc<Self>,
        token: &Secret,
        expires: Timestamp,
        secret: Arc<Secret>,
    ) {
        if !self.kept.keeps {
            return;
        }
        let token = token.clone();
        let sealed = self.aside(move |account| {
            let (path, id) = (&account.kept.sealed, &account.client_id);
            sealed::write(path, id, &secret, &token, expires)
        });
        if let Err(error) = sealed.await {
            let name = &self.terms.load().name;
            say(|| warn!(credential = %name, %error, "cannot keep the token for the next process"));
        }
    }

    /// The token that the last process has left, where this one has not looked for it yet.
    pub(super) async fn take_up(self: &Arc<Self>) -> Option<Minted> {
        if self.kept.taken_up.swap(true, Ordering::Relaxed) {
            return None;
        }
        let secret = self.secret();
        let read = self
            .aside(move |account| sealed::read(&account.kept.sealed, &account.client_id, &secret));
        let (token, expires) = read.await?;
        let lifetime = expires.since(self.clock.now().wall).min(LONGEST_LEFT);
        (lifetime > MARGIN).then_some(Minted { token, lifetime })
    }

    /// The next process need not try the token; nobody waits for that.
    pub(super) fn forget_token(self: &Arc<Self>) {
        let account = Arc::clone(self);
        tokio::task::spawn_blocking(move || account.remove_token());
    }

    fn remove_token(&self) {
        if self.kept.keeps {
            sealed::remove(&self.kept.sealed);
        }
    }

    async fn in_ledger<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut MintLog, &Self) -> T + Send + 'static,
    ) -> T {
        self.aside(move |account| {
            let kept = &account.kept;
            let mut wishes = kept.wishes.lock().unwrap_or_else(PoisonError::into_inner);
            let ledger = wishes.get_or_insert_with(|| {
                MintLog::open(kept.ledger.clone(), account.clock.now(), kept.keeps)
            });
            work(ledger, account)
        })
        .await
    }

    /// Does `work` where a thread may wait for a disk.
    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let account = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&account)).await {
            Ok(done) => done,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and everybody who waits with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Beside the way of the one who needs a token.
    fn bring_to_disk(self: &Arc<Self>, ledger: File) {
        let account = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = ledger.sync_data() {
                account.cannot_write(&error);
            }
        });
    }

    fn cannot_write(&self, error: &io::Error) {
        let name = &self.terms.load().name;
        say(|| warn!(credential = %name, %error, "cannot write the ledger of tokens"));
    }
}

const LONGEST_LEFT: Duration = Duration::from_hours(1);
