//! HTTP Digest (RFC 7616) as Atlas speaks it to its legacy API keys.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::accounts::ApiKey;
use crate::numbers::{BASE64, Numbers};

/// How the simulator challenges, and what it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRules {
    /// What `algorithm` says. `MD5`, `MD5-sess`, `SHA-256` and `SHA-256-sess` can be fulfilled.
    pub algorithm: String,
    /// What `qop` says; `None` leaves it out (RFC 2069).
    pub qop: Option<String>,
    /// What `realm` says; observed: `MMS Public API`.
    pub realm: String,
    /// Whether every challenge has another realm, numbered.
    pub changing_realm: bool,
    /// How long a nonce is, in characters.
    pub nonce_length: usize,
    /// How long a nonce is good for, by the simulator's clock. Atlas does not publish it.
    pub nonce_lifetime: Duration,
    /// Whether each credential, right or wrong, is answered with a new nonce and `stale=true`.
    pub always_stale: bool,
    /// Challenges sent before ours, as they are.
    pub other_challenges: Vec<HeaderValue>,
}

impl Default for DigestRules {
    fn default() -> Self {
        Self {
            algorithm: "MD5".to_owned(),
            qop: Some("auth".to_owned()),
            realm: "MMS Public API".to_owned(),
            changing_realm: false,
            nonce_length: 32,
            nonce_lifetime: Duration::from_mins(5),
            always_stale: false,
            other_challenges: Vec::new(),
        }
    }
}

/// What the simulator thinks of a Digest credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It proves this public key.
    Proven(String),
    /// It does not prove anything.
    Refused,
    /// It is right, but its nonce has expired or its count has not risen.
    Stale,
}

/// The nonces that were handed out.
#[derive(Debug)]
pub(crate) struct Nonces {
    numbers: Numbers,
    known: HashMap<String, Nonce>,
    challenges: usize,
    repeats: usize,
}

#[derive(Debug)]
struct Nonce {
    made: SystemTime,
    realm: String,
    count: u32,
}

impl Nonces {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            numbers: Numbers::seeded(seed),
            known: HashMap::new(),
            challenges: 0,
            repeats: 0,
        }
    }

    /// `WWW-Authenticate` as recorded: `algorithm` and `stale` unquoted, `domain` empty, no `opaque`.
    pub(crate) fn challenge(
        &mut self,
        rules: &DigestRules,
        stale: bool,
        now: SystemTime,
    ) -> Vec<HeaderValue> {
        self.challenges += 1;
        let nonce = self.numbers.text(rules.nonce_length, BASE64);
        let realm = if rules.changing_realm {
            format!("{} {}", rules.realm, self.challenges)
        } else {
            rules.realm.clone()
        };
        let qop = rules
            .qop
            .as_ref()
            .map(|qop| format!(r#", qop="{qop}""#))
            .unwrap_or_default();
        let text = format!(
            r#"Digest realm="{realm}", domain="", nonce="{nonce}", algorithm={}{qop}, stale={stale}"#,
            rules.algorithm,
        );
        if self.known.len() >= MOST_NONCES {
            let lifetime = rules.nonce_lifetime;
            self.known.retain(|_, nonce| {
                now.duration_since(nonce.made)
                    .is_ok_and(|age| age < lifetime)
            });
        }
        self.known.insert(
            nonce,
            Nonce {
                made: now,
                realm,
                count: 0,
            },
        );
        let mut challenges = rules.other_challenges.clone();
        challenges.extend(HeaderValue::from_str(&text));
        challenges
    }

    /// Judges the parameters of an `Authorization: Digest` for a request to exactly `target`.
    pub(crate) fn judge(
        &mut self,
        request: Asked<'_>,
        rules: &DigestRules,
        keys: &[ApiKey],
        now: SystemTime,
    ) -> Verdict {
        let parameters = Parameters::read(request.credential);
        if rules.always_stale {
            return Verdict::Stale;
        }
        let Some(nonce) = self.known.get_mut(parameters.get("nonce")) else {
            return Verdict::Refused;
        };
        let key = keys
            .iter()
            .find(|key| key.public_key == parameters.get("username"));
        let Some(key) = key else {
            return Verdict::Refused;
        };
        if parameters.get("realm") != nonce.realm
            || parameters.get("uri") != request.target
            || Some(parameters.get("response"))
                != response(request.method, &parameters, rules, key).as_deref()
        {
            return Verdict::Refused;
        }
        let fresh = now
            .duration_since(nonce.made)
            .is_ok_and(|age| age < rules.nonce_lifetime);
        if !fresh {
            return Verdict::Stale;
        }
        if rules.qop.is_some() {
            let count = u32::from_str_radix(parameters.get("nc"), 16).unwrap_or(0);
            if parameters.get("nc").len() != 8 || count <= nonce.count {
                self.repeats += 1;
                return Verdict::Stale;
            }
            nonce.count = count;
        }
        Verdict::Proven(key.public_key.clone())
    }

    /// How many challenges were sent.
    pub(crate) fn challenges(&self) -> usize {
        self.challenges
    }

    /// How many right credentials came with a nonce count that had not risen.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats
    }
}

/// What a Digest credential has to answer for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// The request target, byte for byte.
    pub(crate) target: &'a str,
    /// What follows `Digest ` in the header.
    pub(crate) credential: &'a str,
}

/// The value that `response` must have (RFC 7616 section 3.4.1), if these rules can be fulfilled.
fn response(
    method: &str,
    parameters: &Parameters,
    rules: &DigestRules,
    key: &ApiKey,
) -> Option<String> {
    let (hash, session): (Hash, bool) = match rules.algorithm.as_str() {
        "MD5" => (md5_hex, false),
        "MD5-sess" => (md5_hex, true),
        "SHA-256" => (sha256_hex, false),
        "SHA-256-sess" => (sha256_hex, true),
        _ => return None,
    };
    let (nonce, cnonce) = (parameters.get("nonce"), parameters.get("cnonce"));
    let mut a1 = hash(&format!(
        "{}:{}:{}",
        key.public_key,
        parameters.get("realm"),
        key.private_key
    ));
    if session {
        a1 = hash(&format!("{a1}:{nonce}:{cnonce}"));
    }
    let a2 = hash(&format!("{method}:{}", parameters.get("uri")));
    match (&rules.qop, parameters.get("qop")) {
        (None, "") => Some(hash(&format!("{a1}:{nonce}:{a2}"))),
        (Some(offered), "auth") if offered.split(',').any(|one| one.trim() == "auth") => {
            let count = parameters.get("nc");
            Some(hash(&format!("{a1}:{nonce}:{count}:{cnonce}:auth:{a2}")))
        }
        _ => None,
    }
}

type Hash = fn(&str) -> String;

fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `name=value` and `name="value"`, separated by commas.
#[derive(Debug)]
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(text: &str) -> Self {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let (value, remainder) = match after.strip_prefix('"') {
                Some(quoted) => Self::quoted(quoted),
                None => match after.split_once(',') {
                    Some((value, remainder)) => (value.trim().to_owned(), remainder),
                    None => (after.trim().to_owned(), ""),
                },
            };
            found.push((name, value));
            rest = remainder;
        }
        Self(found)
    }

    fn quoted(text: &str) -> (String, &str) {
        let mut value = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => value.extend(characters.next()),
                other => value.push(other),
            }
        }
        (value, characters.as_str())
    }

    /// The value of a parameter; empty if it is missing, or there twice.
    fn get(&self, name: &str) -> &str {
        let mut values = self.0.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => value,
            _ => "",
        }
    }
}

/// With more nonces than this, those that have expired are forgotten.
const MOST_NONCES: usize = 10_000;
