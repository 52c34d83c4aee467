//! What survives the process: the mint log, and the encrypted token for the next process.
//!
//! Both are read when the first token is needed, and every access is made on a thread that may wait for a disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::{MARGIN, ServiceAccount};
use crate::atlas::Timestamp;
use crate::blocking::may_wait;
use crate::secret::Secret;
use crate::upstream::encrypted_token;
use crate::upstream::mint_log::MintLog;
use crate::upstream::token_response::Minted;

/// The files of an account.
pub(super) struct AccountFiles {
    log_path: PathBuf,
    /// The mint log, once it was read.
    log: Mutex<Option<MintLog>>,
    token_path: PathBuf,
    persists: bool,
    /// Whether the token of the last process was looked for.
    is_taken_up: AtomicBool,
}

impl AccountFiles {
    pub(super) fn new(directory: &Path, client_id: &str, persists: bool) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = client_id.replace(|c| !is_plain(c), "-");
        Self {
            log_path: directory.join(format!("{name}.ledger")),
            log: Mutex::default(),
            token_path: directory.join(format!("{name}.token")),
            persists,
            is_taken_up: AtomicBool::new(!persists),
        }
    }
}

impl ServiceAccount {
    /// Writes down that a token is about to be asked for, if it may be; otherwise how long not.
    pub(super) async fn record_mint(self: &Arc<Self>) -> Result<(), Duration> {
        let recorded = self.with_log(|log, account| {
            let now = account.now();
            log.may_mint(now.elapsed)?;
            Ok(log.record(now))
        });
        match recorded.await? {
            Ok(Some(file)) => {
                // The caller who needs a token does not wait for the disk.
                let account = Arc::clone(self);
                tokio::task::spawn_blocking(move || {
                    file.sync_data()
                        .map_err(|error| account.cannot_write(&error))
                });
            }
            Ok(None) => {}
            Err(error) => self.cannot_write(&error),
        }
        Ok(())
    }

    /// The last request for a token was never sent.
    pub(super) async fn mint_unsent(self: &Arc<Self>) {
        // What cannot be written here only makes us more careful than we need be.
        let _ = self.with_log(|log, _| log.unsent()).await;
    }

    /// No living token came of the last request.
    pub(super) async fn mint_in_vain(self: &Arc<Self>) {
        let _ = self.with_log(|log, _| log.in_vain()).await;
    }

    /// Keeps a token for the next process; comes before anything uses it.
    pub(super) async fn keep_token(
        self: &Arc<Self>,
        token: Secret,
        expires: Timestamp,
        secret: Arc<Secret>,
    ) {
        if !self.files.persists {
            return;
        }
        let account = Arc::clone(self);
        let kept = may_wait(move || {
            let (path, id) = (&account.files.token_path, &account.client_id);
            encrypted_token::write(path, id, &secret, &token, expires)
        });
        if let Err(error) = kept.await {
            let credential = &self.settings.load().name;
            warn!(%credential, %error, "cannot keep the token for the next process");
        }
    }

    /// The token that the last process has left, where this one has not looked for it yet.
    pub(super) async fn take_up_token(self: &Arc<Self>) -> Option<Minted> {
        if self.files.is_taken_up.swap(true, Ordering::Relaxed) {
            return None;
        }
        let account = Arc::clone(self);
        let read = may_wait(move || {
            let (path, id) = (&account.files.token_path, &account.client_id);
            encrypted_token::read(path, id, &account.secret())
        });
        let (token, expires) = read.await?;
        let lifetime = expires.since(self.now().wall).min(LONGEST_LEFT);
        (lifetime > MARGIN).then_some(Minted { token, lifetime })
    }

    /// The next process need not try the token.
    pub(super) fn forget_token(self: &Arc<Self>) {
        let account = Arc::clone(self);
        tokio::task::spawn_blocking(move || account.remove_token());
    }

    pub(super) fn remove_token(&self) {
        if self.files.persists {
            encrypted_token::remove(&self.files.token_path);
        }
    }

    async fn with_log<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut MintLog, &Self) -> T + Send + 'static,
    ) -> T {
        let account = Arc::clone(self);
        may_wait(move || {
            let files = &account.files;
            let mut log = files.log.lock().unwrap_or_else(PoisonError::into_inner);
            let log = log.get_or_insert_with(|| {
                MintLog::open(files.log_path.clone(), account.now(), files.persists)
            });
            work(log, &account)
        })
        .await
    }

    fn cannot_write(&self, error: &std::io::Error) {
        let credential = &self.settings.load().name;
        warn!(%credential, %error, "cannot write the ledger of tokens");
    }
}

const LONGEST_LEFT: Duration = Duration::from_hours(1);
