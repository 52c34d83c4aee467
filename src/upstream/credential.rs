//! Who we are to Atlas: the configured credentials, and which one covers a project.
//!
//! Each credential has its own token, its own failures and its own health, so that one that fails disturbs no
//! other (G23).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::api_key::ApiKey;
use super::config::{Config, CredentialConfig};
use super::error::CredentialFailure;
use super::service_account::{AccountSettings, Environment, ServiceAccount};
use super::watched_secret::WatchedSecret;
use crate::atlas::ProjectId;
use crate::settings::ConfigError;
use crate::system::{Secret, impossible_directory};
use crate::telemetry::Chain;
use crate::telemetry::metrics::upstream::CredentialLabels;

pub(super) struct Credential {
    pub(super) name: Arc<str>,
    pub(super) login: Login,
    projects: Vec<String>,
    refusal: Arc<Mutex<Option<CredentialUnavailable>>>,
}

/// How it proves itself. Cheap to clone: what it remembers is shared.
#[derive(Clone)]
pub(super) enum Login {
    Account(Arc<ServiceAccount>),
    Key(Arc<ApiKey>),
}

pub(super) struct PreparedCredential {
    credential: Arc<Credential>,
    settings: Option<AccountSettings>,
}

/// Why Atlas does not accept a credential, whatever is asked with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum CredentialUnavailable {
    #[error("this address is not on the credential's access list")]
    Address,
    #[error("Atlas does not accept it")]
    Key,
    #[error("no token: {0}")]
    Token(CredentialFailure),
}

impl Credential {
    pub(super) fn covers(&self, project: &ProjectId) -> bool {
        let id = project.as_str();
        self.projects.iter().any(|pattern| matches(pattern, id))
    }

    pub(super) fn named_projects(&self) -> impl Iterator<Item = ProjectId> + '_ {
        self.projects.iter().filter_map(|text| text.parse().ok())
    }

    pub(super) fn labels(&self) -> CredentialLabels {
        CredentialLabels {
            credential: self.name.as_ref().to_owned(),
        }
    }

    pub(super) fn refused(&self, why: CredentialUnavailable) {
        *self.refusal() = Some(why);
    }

    pub(super) fn accepted(&self) {
        *self.refusal() = None;
    }

    /// Why it cannot work; `None` while it can, or has not been tried.
    pub(super) fn fault(&self) -> Option<CredentialUnavailable> {
        let token = match &self.login {
            Login::Account(account) => account.failure().map(CredentialUnavailable::Token),
            Login::Key(_) => None,
        };
        token.or_else(|| *self.refusal())
    }

    pub(super) async fn revoke(&self) {
        if let Login::Account(account) = &self.login {
            account.revoke().await;
        }
    }

    pub(super) fn maintain(&self) {
        match &self.login {
            Login::Account(account) => account.maintain(),
            Login::Key(key) => key.maintain(),
        }
    }

    pub(super) fn id(&self) -> &str {
        match &self.login {
            Login::Account(account) => account.client_id(),
            Login::Key(key) => key.public_key(),
        }
    }

    fn refusal(&self) -> MutexGuard<'_, Option<CredentialUnavailable>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    fn new(
        config: &CredentialConfig,
        settings: AccountSettings,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        if let Some(key) = &config.api_key {
            let key = ApiKey::new(key.public_key.clone(), settings.secret);
            return Ok(Self::Key(Arc::new(key)));
        }
        if let Some(why) = impossible_directory(&environment.state_directory) {
            return Err(ConfigError::at("atlas.state_directory", why));
        }
        let id = config.identity().expect("it has a key or an account");
        let account = ServiceAccount::new(id, settings, environment.clone());
        Ok(Self::Account(account))
    }

    pub(super) fn secret(&self) -> Arc<Secret> {
        match self {
            Self::Account(account) => account.secret(),
            Self::Key(key) => key.private_key(),
        }
    }
}

impl PreparedCredential {
    pub(super) fn adopt(self) -> Arc<Credential> {
        if let Some(settings) = self.settings {
            let login = &self.credential.login;
            let former = login.secret();
            match login {
                Login::Account(account) => account.replace_settings(settings),
                Login::Key(key) => key.replace_private_key(settings.secret),
            }
            if former.expose() != login.secret().expose() {
                self.credential.accepted();
            }
        }
        self.credential
    }
}

pub(super) fn read_secrets(config: &Config) -> Result<Vec<WatchedSecret>, Vec<ConfigError>> {
    let (mut secrets, mut config_errors) = (Vec::new(), Vec::new());
    for (number, credential) in config.credentials.iter().enumerate() {
        match read_secret(credential) {
            Ok(secret) => secrets.push(secret),
            Err((key, message)) => {
                let place = format!("atlas.credentials[{number}].{key}");
                config_errors.push(ConfigError::at(place, message));
            }
        }
    }
    if config_errors.is_empty() {
        Ok(secrets)
    } else {
        Err(config_errors)
    }
}

fn read_secret(config: &CredentialConfig) -> Result<WatchedSecret, (&'static str, String)> {
    let (place, file, text) = if let Some(account) = &config.service_account {
        let (file, text) = (&account.client_secret_file, &account.client_secret);
        ("service_account.client_secret_file", file, text)
    } else {
        let key = config.api_key.as_ref().expect("it has a key or an account");
        let (file, text) = (&key.private_key_file, &key.private_key);
        ("api_key.private_key_file", file, text)
    };
    if let Some(file) = file {
        // The path is not told: the secret itself may stand in its place.
        let secret = WatchedSecret::read(file.clone());
        return secret.map_err(|error| (place, Chain(&error).to_string()));
    }
    let text = text.clone().expect("a secret has a file or a text");
    Ok(WatchedSecret::fixed(text))
}

/// Prepares all credentials of a configuration without mistakes. Tokens, nonces and mint logs of those that
/// are `present` go on.
pub(super) fn prepare(
    config: &Config,
    secrets: Vec<WatchedSecret>,
    environment: &Environment,
    present: &[Arc<Credential>],
) -> Result<Vec<PreparedCredential>, Vec<ConfigError>> {
    let configs = config.credentials.iter().zip(secrets);
    let prepared = configs.map(|(config, secret)| {
        let name: Arc<str> = Arc::from(config.name.as_str());
        let settings = AccountSettings {
            name: Arc::clone(&name),
            secret: Arc::new(secret),
        };
        let mut present = present.iter();
        let predecessor = present.find(|present| config.identity() == Some(present.id()));
        let (login, refusal, settings) = if let Some(present) = predecessor {
            let refusal = Arc::clone(&present.refusal);
            (present.login.clone(), refusal, Some(settings))
        } else {
            let login = Login::new(config, settings, environment)?;
            (login, Arc::default(), None)
        };
        let credential = Arc::new(Credential {
            name,
            login,
            projects: config.projects.clone(),
            refusal,
        });
        Ok(PreparedCredential {
            credential,
            settings,
        })
    });
    prepared
        .collect::<Result<_, ConfigError>>()
        .map_err(|config_error| vec![config_error])
}

/// Whether `id` is what `pattern` says, with `*` for any digits.
pub(super) fn matches(pattern: &str, id: &str) -> bool {
    // What most are configured with, and looked at for each fetch.
    if pattern == "*" {
        return true;
    }
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == id;
    };
    let Some(id) = id.strip_prefix(start) else {
        return false;
    };
    // What stands between two stars is found at its first place: whatever matches behind a later one
    // matches behind the first one too.
    let mut left = id;
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part).and_then(|at| left.get(at + part.len()..)) {
            Some(after) => left = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_digits() {
        let id = "32b6e34b3d91647abb20e7b8";
        for (pattern, expected) in [
            ("*", true),
            (id, true),
            ("32b6e34b3d91647abb20e7b", false),
            ("32b6*", true),
            ("32b7*", false),
            ("*e7b8", true),
            ("*e7b9", false),
            ("32*7abb*b8", true),
            ("32*7abb*7abb*b8", false),
            ("32b6e34b3d91647abb20e7b8*", true),
            ("32b6e34b3d91647abb20e7b8*8", false),
            ("**", true),
        ] {
            assert_eq!(matches(pattern, id), expected, "{pattern}");
        }
    }
}
