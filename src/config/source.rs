//! Where the configuration comes from: a watched file, and the environment over it.

use std::io;
use std::path::{Path, PathBuf};

use super::{Config, RefusedConfig};
use crate::audit;
use crate::settings::ConfigError;
use crate::system::{Clock, WatchedFile, WatchedFiles, may_wait, text_of};

/// The configuration's file, watched, and what the environment lays over it.
#[derive(Debug)]
pub struct ConfigSource {
    file: WatchedFile,
    included: WatchedFiles,
    /// What a configuration that was refused names, one of which may be mended.
    named: WatchedFiles,
}

impl ConfigSource {
    /// A file under the environment of the process. Reads nothing yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: WatchedFile::new(file, LARGEST_FILE),
            included: WatchedFiles::default(),
            named: WatchedFiles::default(),
        }
    }

    /// Reads the file and lays the environment over it; a refused one is reported whole. For the start of
    /// a process: the file may keep its reader waiting.
    pub fn read(&mut self) -> Result<Config, RefusedConfig> {
        let content = self.file.read();
        self.named = WatchedFiles::default();
        let config = parse(&self.directory(), content, &mut self.included);
        config.map_err(|config_errors| self.refused(config_errors))
    }

    /// The same of `[audit]` alone, whatever is wrong elsewhere.
    pub fn read_audit(&mut self) -> Result<audit::Config, RefusedConfig> {
        let directory = self.directory();
        let config = text(self.file.read())
            .and_then(|text| Config::parse_audit_in(&directory, &text, variables()));
        config.map_err(|config_errors| self.refused(config_errors))
    }

    /// The same for a process that serves.
    pub async fn read_again(&mut self) -> Result<Config, RefusedConfig> {
        let content = self.file.read_again().await;
        self.named = WatchedFiles::default();
        let directory = self.directory();
        let parsed = may_wait(move || {
            let mut included = WatchedFiles::default();
            (parse(&directory, content, &mut included), included)
        });
        let (config, included) = parsed.await;
        self.included = included;
        config.map_err(|config_errors| self.refused(config_errors))
    }

    pub(crate) fn watch(&mut self, named: WatchedFiles) {
        self.named = named;
    }

    pub(crate) async fn changed(&mut self, clock: &Clock) {
        tokio::select! {
            () = self.file.changed(clock) => {}
            () = self.included.changed(clock) => {}
            () = self.named.changed(clock) => {}
        }
    }

    fn directory(&self) -> PathBuf {
        let parent = self.file.path().parent();
        parent.map_or_else(PathBuf::new, Path::to_owned)
    }

    fn refused(&self, config_errors: Vec<ConfigError>) -> RefusedConfig {
        RefusedConfig {
            file: self.file.path().display().to_string(),
            config_errors,
        }
    }
}

fn parse(
    directory: &Path,
    content: io::Result<Vec<u8>>,
    included: &mut WatchedFiles,
) -> Result<Config, Vec<ConfigError>> {
    *included = WatchedFiles::default();
    Config::parse_in(directory, &text(content)?, variables(), included)
}

fn text(content: io::Result<Vec<u8>>) -> Result<String, Vec<ConfigError>> {
    content.and_then(text_of).map_err(|error| {
        vec![ConfigError::at(
            "the file",
            format!("cannot be read: {error}"),
        )]
    })
}

/// The environment, without what is no text: none of that is the gateway's.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

const LARGEST_FILE: u64 = 16 << 20;
