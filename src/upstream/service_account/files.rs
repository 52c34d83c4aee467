//! What survives the process: the mint log of an account, and its encrypted token for the next process.
//!
//! Both are read when the first token is needed, and every access is made on a thread that may wait for a disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::fleet::{MintLimits, OwnMint};
use crate::system::{Clock, Secret, may_wait};
use crate::upstream::encrypted_token;
use crate::upstream::mint_log::{LogOptions, MintLog};

#[derive(Clone)]
pub(super) struct AccountFiles(Arc<Inside>);

struct Inside {
    client_id: String,
    clock: Clock,
    log_path: PathBuf,
    log: Mutex<Option<MintLog>>,
    log_options: LogOptions,
    token_path: PathBuf,
    is_taken_up: AtomicBool,
}

impl AccountFiles {
    pub(super) fn new(
        directory: &Path,
        client_id: &str,
        log_options: LogOptions,
        clock: Clock,
    ) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = client_id.replace(|c| !is_plain(c), "-");
        Self(Arc::new(Inside {
            client_id: client_id.to_owned(),
            clock,
            log_path: directory.join(format!("{name}.ledger")),
            log: Mutex::default(),
            log_options,
            token_path: directory.join(format!("{name}.token")),
            is_taken_up: AtomicBool::new(!log_options.writes),
        }))
    }

    /// Writes down that a token is about to be asked for, if it may be; otherwise how long not.
    pub(super) async fn record_mint(
        &self,
        credential: Arc<str>,
        limits: MintLimits,
        id: Option<Uuid>,
    ) -> Result<(), Duration> {
        let recorded = self.with_log(move |log, clock| {
            let now = clock.now();
            log.may_mint(now.elapsed, limits)?;
            Ok(log.record(now, id))
        });
        let recorded = recorded.await?;
        // The caller who needs a token does not wait for the disk.
        tokio::task::spawn_blocking(move || {
            let on_disk = recorded.and_then(|file| file.map_or(Ok(()), |file| file.sync_data()));
            if let Err(error) = on_disk {
                warn!(%credential, %error, "cannot write the mint log");
            }
        });
        Ok(())
    }

    /// The mints of the last hour.
    pub(super) async fn own_mints(&self) -> Vec<OwnMint> {
        self.with_log(|log, clock| log.own(clock.elapsed())).await
    }

    pub(super) async fn mint_unsent(&self) {
        // What cannot be written here only makes us more careful than we need be.
        let _ = self.with_log(|log, _| log.unsent()).await;
    }

    pub(super) async fn mint_in_vain(&self) {
        let _ = self.with_log(|log, _| log.in_vain()).await;
    }

    /// Keeps a token for the next process; comes before anything uses it.
    pub(super) async fn keep_token(
        &self,
        token: Secret,
        expires: Timestamp,
        secret: Arc<Secret>,
    ) -> io::Result<()> {
        if !self.0.log_options.writes {
            return Ok(());
        }
        let inside = Arc::clone(&self.0);
        may_wait(move || {
            let (path, id) = (&inside.token_path, &inside.client_id);
            encrypted_token::write(path, id, &secret, &token, expires)
        })
        .await
    }

    /// The token that the last process has left and when it expires, where this one has not looked for it yet.
    pub(super) async fn take_up_token(&self, secret: Arc<Secret>) -> Option<(Secret, Timestamp)> {
        if self.0.is_taken_up.swap(true, Ordering::Relaxed) {
            return None;
        }
        let inside = Arc::clone(&self.0);
        may_wait(move || encrypted_token::read(&inside.token_path, &inside.client_id, &secret))
            .await
    }

    pub(super) fn forget_token(&self) -> impl Future<Output = ()> + use<> {
        let inside = Arc::clone(&self.0);
        let removed = tokio::task::spawn_blocking(move || {
            if inside.log_options.writes {
                encrypted_token::remove(&inside.token_path);
            }
        });
        async move { drop(removed.await) }
    }

    async fn with_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut MintLog, &Clock) -> T + Send + 'static,
    ) -> T {
        let inside = Arc::clone(&self.0);
        may_wait(move || {
            let mut log = inside.log.lock().unwrap_or_else(PoisonError::into_inner);
            let (path, clock) = (&inside.log_path, &inside.clock);
            let options = inside.log_options;
            let log = log.get_or_insert_with(|| MintLog::open(path.clone(), clock.now(), options));
            work(log, clock)
        })
        .await
    }
}
