//! Who we are to Atlas: a project goes in, the credential that covers it comes out.
//!
//! Each credential has its own token, its own failures and its own health, so that one that fails
//! disturbs no other (G23).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::CredentialFailure;
use super::api_key::ApiKey;
use super::config::{Config, CredentialConfig};
use super::jitter::Jitter;
use super::service_account::{Parts, ServiceAccount, Terms};
use super::transport::Transport;
use super::watched_secret::WatchedSecret;
use crate::atlas::ProjectId;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::settings::{ConfigError, impossible_directory};
use crate::telemetry::Chain;
use crate::telemetry::metrics::upstream::UpstreamMetrics;

/// One of the configured credentials.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) name: Arc<str>,
    pub(crate) login: Login,
    projects: Vec<String>,
    refusal: Arc<Mutex<Option<CredentialUnavailable>>>,
}

/// How it proves itself. Cheap to clone: what it remembers is shared.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    Account(ServiceAccount),
    Key(Arc<ApiKey>),
}

/// A credential that is ready to take the place of another one, or to be the first of its account.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) credential: Arc<Credential>,
    /// What its account goes by from then on; nothing if it has no predecessor.
    terms: Option<Terms>,
}

/// Why Atlas does not accept a credential, whatever is asked with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialUnavailable {
    /// Our address is not on its access list.
    #[error("this address is not on the credential's access list")]
    Address,
    /// The key is wrong, or a fresh token is refused.
    #[error("Atlas does not accept it")]
    Key,
    /// No token.
    #[error("no token: {0}")]
    Token(CredentialFailure),
}

impl Credential {
    pub(crate) fn covers(&self, project: &ProjectId) -> bool {
        let id = project.as_str();
        self.projects.iter().any(|pattern| matches(pattern, id))
    }

    /// The projects that are named in full.
    pub(crate) fn named_projects(&self) -> impl Iterator<Item = ProjectId> + '_ {
        self.projects.iter().filter_map(|text| text.parse().ok())
    }

    /// Atlas refused it.
    pub(crate) fn refused(&self, why: CredentialUnavailable) {
        *self.refusal() = Some(why);
    }

    /// Atlas accepted it.
    pub(crate) fn accepted(&self) {
        *self.refusal() = None;
    }

    /// Why it cannot work; `None` while it can, or has not been tried.
    pub(crate) fn trouble(&self) -> Option<CredentialUnavailable> {
        let token = match &self.login {
            Login::Account(account) => account.trouble().map(CredentialUnavailable::Token),
            Login::Key(_) => None,
        };
        token.or_else(|| *self.refusal())
    }

    /// Gives its token back to Atlas, as well as that goes.
    pub(crate) async fn revoke(&self) {
        match &self.login {
            Login::Account(account) => account.revoke().await,
            Login::Key(_) => {}
        }
    }

    /// Does what is due: changed secrets, tokens near their end.
    pub(crate) fn tend(&self) {
        match &self.login {
            Login::Account(account) => account.tend(),
            Login::Key(key) => key.tend(),
        }
    }

    /// Whether both are the same account of Atlas's, or the same key.
    pub(crate) fn is_same_login(&self, other: &Self) -> bool {
        self.login.id() == other.login.id()
    }

    fn refusal(&self) -> MutexGuard<'_, Option<CredentialUnavailable>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    fn id(&self) -> &str {
        match self {
            Self::Account(account) => account.client_id(),
            Self::Key(key) => key.public_key(),
        }
    }

    fn secret(&self) -> Arc<Secret> {
        match self {
            Self::Account(account) => account.secret(),
            Self::Key(key) => key.private_key(),
        }
    }
}

impl Successor {
    /// Comes into its own.
    pub(crate) fn succeed(self) -> Arc<Credential> {
        if let Some(terms) = self.terms {
            let login = &self.credential.login;
            let former = login.secret();
            match login {
                Login::Account(account) => account.adopt(terms),
                Login::Key(key) => key.adopt(terms.secret),
            }
            if former.expose() != login.secret().expose() {
                self.credential.accepted();
            }
        }
        self.credential
    }
}

/// All credentials, in their configured order.
pub(crate) type Credentials = Vec<Arc<Credential>>;

/// What credentials are built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) config: &'a Config,
    pub(crate) transport: &'a Transport,
    pub(crate) clock: &'a Clock,
    pub(crate) jitter: Jitter,
    pub(crate) metrics: &'a UpstreamMetrics,
    /// Whether anything is kept for the next process.
    pub(crate) keeps: bool,
    /// Those in use, whose tokens, nonces and ledgers go on.
    pub(crate) present: &'a [Arc<Credential>],
}

/// The secrets of all credentials, in their order; every mistake is reported with its place.
pub(crate) fn secrets(config: &Config) -> Result<Vec<WatchedSecret>, Vec<ConfigError>> {
    let mut secrets = Vec::new();
    let mut config_errors = Vec::new();
    for (number, credential) in config.credentials.iter().enumerate() {
        match secret(credential) {
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

fn secret(config: &CredentialConfig) -> Result<WatchedSecret, (&'static str, String)> {
    let account = config.service_account.as_ref();
    let key = config.api_key.as_ref();
    let (place, file, text) = match (account, key) {
        (Some(account), _) => (
            "service_account.client_secret_file",
            account.client_secret_file.as_ref(),
            account.client_secret.as_ref(),
        ),
        (None, Some(key)) => (
            "api_key.private_key_file",
            key.private_key_file.as_ref(),
            key.private_key.as_ref(),
        ),
        (None, None) => ("service_account", None, None),
    };
    match (file, text) {
        // The path is not told: the secret itself may stand in its place.
        (Some(file), _) => {
            WatchedSecret::read(file.clone()).map_err(|error| (place, Chain(&error).to_string()))
        }
        (None, Some(text)) => Ok(WatchedSecret::fixed(text.clone())),
        (None, None) => Err((place, "no secret is given".to_owned())),
    }
}

impl Tools<'_> {
    /// Builds all credentials with their secrets.
    pub(crate) fn credentials(
        self,
        secrets: Vec<WatchedSecret>,
    ) -> Result<Vec<Successor>, Vec<ConfigError>> {
        let configs = self.config.credentials.iter();
        let successors = configs.zip(secrets).map(|(config, secret)| {
            let name: Arc<str> = Arc::from(config.name.as_str());
            let terms = Terms {
                name: Arc::clone(&name),
                secret: Arc::new(secret),
            };
            let mut present = self.present.iter();
            let predecessor = present.find(|present| config.identity() == Some(present.login.id()));
            let (login, refusal, terms) = match predecessor {
                Some(present) => (
                    present.login.clone(),
                    Arc::clone(&present.refusal),
                    Some(terms),
                ),
                None => (self.login(config, terms)?, Arc::default(), None),
            };
            let credential = Arc::new(Credential {
                name,
                login,
                projects: config.projects.clone(),
                refusal,
            });
            Ok(Successor { credential, terms })
        });
        successors
            .collect::<Result<_, ConfigError>>()
            .map_err(|config_error| vec![config_error])
    }

    fn login(self, config: &CredentialConfig, terms: Terms) -> Result<Login, ConfigError> {
        if let Some(key) = &config.api_key {
            let key = ApiKey::new(key.public_key.clone(), terms.secret);
            return Ok(Login::Key(Arc::new(key)));
        }
        let client_id = config.identity().unwrap_or_default().to_owned();
        let directory = &self.config.state_directory;
        let beside = |ending: &str| directory.join(format!("{}.{ending}", file_name(&client_id)));
        if let Some(why) = impossible_directory(directory) {
            return Err(ConfigError::at("atlas.state_directory", why));
        }
        Ok(Login::Account(ServiceAccount::new(Parts {
            terms,
            ledger: beside("ledger"),
            sealed: beside("token"),
            keeps: self.keeps,
            client_id,
            transport: self.transport.clone(),
            clock: self.clock.clone(),
            jitter: self.jitter,
            metrics: self.metrics.clone(),
            time: self.config.limits.page,
        })))
    }
}

/// A client id as a file's name.
fn file_name(client_id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let id = client_id.chars();
    id.map(|c| if plain(c) { c } else { '-' }).collect()
}

/// Whether `id` is what `pattern` says, with `*` for any digits.
pub(super) fn matches(pattern: &str, id: &str) -> bool {
    // What most are configured with, and looked at for each walk.
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
