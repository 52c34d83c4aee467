//! Service-account tokens: minted with Basic credentials, counted, limited, revoked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::accounts::ServiceAccount;
use crate::answer::Answer;
use crate::errors;
use crate::numbers::{BASE64_URL, Numbers};
use crate::query;

/// The lives and limits of tokens, per service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// How long a token lives.
    pub lifetime: Duration,
    /// How many may be alive at once.
    pub live: usize,
    /// How many requests to the token endpoint are answered in any minute.
    pub per_minute: usize,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_hours(1),
            live: 100,
            per_minute: 10,
        }
    }
}

/// All tokens that were ever minted and have not been forgotten.
#[derive(Debug)]
pub(crate) struct Tokens {
    numbers: Numbers,
    live: HashMap<String, Token>,
    asked: BTreeMap<String, VecDeque<SystemTime>>,
    minted: usize,
    revoked: usize,
}

#[derive(Debug)]
struct Token {
    client_id: String,
    expires: SystemTime,
}

impl Tokens {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            numbers: Numbers::seeded(seed),
            live: HashMap::new(),
            asked: BTreeMap::new(),
            minted: 0,
            revoked: 0,
        }
    }

    /// `POST /api/oauth/token`, once the account is known.
    pub(crate) fn mint(&mut self, client_id: &str, rules: &TokenRules, now: SystemTime) -> Answer {
        if self.live(Some(client_id), now) >= rules.live {
            let description = "Access Token limit reached";
            return errors::oauth_error(StatusCode::FORBIDDEN, "access_denied", description);
        }
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES512","typ":"JWT"}"#);
        let claims = self.numbers.text(180, BASE64_URL);
        let signature = self.numbers.text(176, BASE64_URL);
        let access_token = format!("{header}.{claims}.{signature}");
        let body = json!({
            "access_token": access_token,
            "expires_in": rules.lifetime.as_secs(),
            "token_type": "Bearer",
        });
        let token = Token {
            client_id: client_id.to_owned(),
            expires: now + rules.lifetime,
        };
        self.live.retain(|_, token| token.expires > now);
        self.live.insert(access_token, token);
        self.minted += 1;
        Answer::json(StatusCode::OK, &body)
    }

    /// Counts one request to the token endpoint; false when the minute has had enough of them.
    pub(crate) fn admit(&mut self, client_id: &str, rules: &TokenRules, now: SystemTime) -> bool {
        let asked = self.asked.entry(client_id.to_owned()).or_default();
        asked.retain(|at| now.duration_since(*at).is_ok_and(|age| age < MINUTE));
        let admitted = asked.len() < rules.per_minute;
        if admitted {
            asked.push_back(now);
        }
        admitted
    }

    /// `POST /api/oauth/revoke`: RFC 7009 answers an unknown token as a known one.
    pub(crate) fn revoke(&mut self, client_id: &str, token: &str) -> Answer {
        if self
            .live
            .get(token)
            .is_some_and(|token| token.client_id == client_id)
        {
            self.live.remove(token);
            self.revoked += 1;
        }
        Answer::new(StatusCode::OK, "")
    }

    pub(crate) fn revoke_all(&mut self) {
        self.live.clear();
    }

    /// The account a live token belongs to.
    pub(crate) fn owner(&self, token: &str, now: SystemTime) -> Option<&str> {
        let token = self.live.get(token).filter(|token| token.expires > now)?;
        Some(&token.client_id)
    }

    /// How many tokens are alive, of one account or of all.
    pub(crate) fn live(&self, client_id: Option<&str>, now: SystemTime) -> usize {
        let live = self.live.values().filter(|token| token.expires > now);
        live.filter(|token| client_id.is_none_or(|id| token.client_id == id))
            .count()
    }

    pub(crate) fn minted(&self) -> usize {
        self.minted
    }

    pub(crate) fn revoked(&self) -> usize {
        self.revoked
    }
}

/// The id and secret of a Basic credential, taken raw: Atlas does not percent-decode them, so a
/// library that encodes `_` as `%5F` is refused here as it is there.
pub(crate) fn basic_credential(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if values.next().is_some() || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// The account that a Basic credential proves.
pub(crate) fn account<'a>(
    accounts: &'a [ServiceAccount],
    credential: Option<&(String, String)>,
) -> Option<&'a ServiceAccount> {
    let (id, secret) = credential?;
    accounts
        .iter()
        .find(|account| account.client_id == *id && account.client_secrets.contains(secret))
}

/// What is wrong with the form of a token request, if anything is.
pub(crate) fn form_mistake(headers: &HeaderMap, body: &str) -> Option<Answer> {
    let bad = |error, text| Some(errors::oauth_error(StatusCode::BAD_REQUEST, error, text));
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return bad("invalid_request", "The body must be form-encoded.");
    }
    match query::value(body, "grant_type").as_deref() {
        Some("client_credentials") => None,
        Some(_) => bad("unsupported_grant_type", "The grant type is not supported."),
        None => bad("invalid_request", "The grant type is missing."),
    }
}

const MINUTE: Duration = Duration::from_mins(1);
