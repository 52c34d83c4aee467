//! The watched file of the deny list.
//!
//! It is looked at four times a second, apart from everything else that is configured: whatever is wrong
//! there, an entry denies within a second. While the file cannot be read the list stays as it was.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::Gateway;
use crate::policy::{BadLine, DenyList};
use crate::settings::ConfigError;
use crate::system::{Settled, may_wait, read_owned, text_of};

/// Where the deny list comes from, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct DenyFile(Mutex<State>);

#[derive(Debug)]
pub(crate) struct ReadList {
    pub(crate) list: DenyList,
    /// The lines that deny no caller.
    pub(crate) bad: Vec<BadLine>,
}

#[derive(Debug, Default)]
struct State {
    path: Option<PathBuf>,
    content: Settled<Option<Content>>,
    trouble: Option<String>,
}

/// What was found in the file, or why it cannot be read.
type Content = Result<Vec<u8>, String>;

impl DenyFile {
    /// The list as it is now in the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<ReadList, ConfigError> {
        let text = read_owned(path, LARGEST_FILE).and_then(text_of);
        let text = text.map_err(|error| {
            ConfigError::at("access.deny_file", format!("cannot be read: {error}"))
        })?;
        let (list, bad) = DenyList::parse(&text);
        Ok(ReadList { list, bad })
    }

    /// The list of another file than the present one, if `path` is one.
    pub(crate) fn read_if_moved(
        &self,
        path: Option<&Path>,
    ) -> Result<Option<Arc<DenyList>>, ConfigError> {
        if self.lock().path.as_deref() == path {
            return Ok(None);
        }
        let list = match path {
            Some(path) => Self::read(path)?.list,
            None => DenyList::default(),
        };
        Ok(Some(Arc::new(list)))
    }

    /// From now on the list is in the file at `path`, if there is one at all.
    pub(crate) fn place(&self, path: Option<PathBuf>) {
        *self.lock() = State {
            path,
            ..State::default()
        };
    }

    /// What is wrong with the file.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// What was found and is to be taken over, once it has settled.
    fn news(&self, path: &Path, found: Content) -> Option<Content> {
        let mut state = self.lock();
        if state.path.as_deref() != Some(path) {
            return None;
        }
        state.content.is_changed(Some(found.clone())).then(|| {
            state.content = Settled::new(Some(found.clone()));
            found
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Keeps the deny list as its file has it. Never ends.
    pub(crate) async fn watch_deny_file(&self) {
        loop {
            self.clock.sleep(BETWEEN_LOOKS).await;
            let Some(path) = self.deny_file.lock().path.clone() else {
                continue;
            };
            let place = path.clone();
            let found = may_wait(move || read_owned(&place, LARGEST_FILE)).await;
            let found = found.map_err(|error| error.to_string());
            if let Some(news) = self.deny_file.news(&path, found) {
                self.take_deny_list(&path, news);
            }
        }
    }

    fn take_deny_list(&self, path: &Path, news: Content) {
        let text = news.and_then(|bytes| text_of(bytes).map_err(|error| error.to_string()));
        let trouble = match text {
            Ok(text) => {
                let (list, bad) = DenyList::parse(&text);
                let list = Arc::new(list);
                self.policy
                    .rcu(|policy| policy.with_deny_list(Arc::clone(&list)));
                info!(entries = list.len(), "the deny list was read");
                bad.first().map(|first| {
                    format!(
                        "{} of its lines deny no caller, the first of them: {first}",
                        bad.len()
                    )
                })
            }
            Err(error) => Some(format!(
                "its file cannot be read, and the list stays as it was: {error}"
            )),
        };
        if let Some(trouble) = &trouble {
            warn!("the deny list: {trouble}");
        }
        let mut state = self.deny_file.lock();
        if state.path.as_deref() == Some(path) {
            state.trouble = trouble;
        }
    }
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const LARGEST_FILE: u64 = 1 << 20;
