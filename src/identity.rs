//! Who is calling: a token goes in, a [`Caller`] comes out.
//!
//! A token is believed if all of this holds, and the order is chosen so that what costs little comes
//! first: it is [read](token) strictly; its `iss` is one of ours, byte for byte; its algorithm and
//! type are among that issuer's; its [claims] are good now; and a [key](keys) of that same issuer
//! signed it. Nothing that a token says is used, not even for a record, before its signature holds.
//! Then it is [remembered](memory), until it ends, its issuer's keys change or the settings do (G8,
//! G14).
//!
//! Without any key of its issuer a token is neither good nor bad: [`Unverified::NoKeys`], never allow.

mod check;
mod claims;
mod config;
mod fetch;
mod gate;
mod issuer;
mod json;
mod jwk;
mod keys;
mod memory;
mod roca;
mod token;

#[cfg(test)]
#[path = "../tests/gateway/forgeries.rs"]
mod forgeries;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../tests/gateway/tokens.rs"]
mod tokens;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::atlas::Timestamp;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::settings::Mistake;
use crate::telemetry::metrics::identity::IdentityMetrics;

pub use config::Config;
pub use config::IssuerConfig;

use issuer::Issuer;
use issuer::Issuers;
use memory::Memory;
use memory::Remembered;
use token::UncheckedToken;

/// Somebody whose token was verified.
#[derive(Debug)]
pub struct Caller {
    /// `sub`.
    pub subject: Box<str>,
    /// `iss`.
    pub issuer: Arc<str>,
    /// `client_id` or `azp`, where the token has one.
    pub client_id: Option<Box<str>>,
    /// `jti`, where the token has one.
    pub token_id: Option<Box<str>>,
    /// `scope`, `scp` and `roles`, taken together.
    pub scopes: Box<[Box<str>]>,
    /// When the token ends, leeway included.
    pub expires_at: Timestamp,
}

/// Why a token makes nobody a caller. For the log and the audit trail; the caller learns only what
/// RFC 6750 has words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the token is not accepted: {}", self.reason())]
pub enum Unverified {
    /// `alg` is none of the issuer's, does not fit the key, or is not known at all.
    Algorithm,
    /// A claim is missing, has the wrong type, or a size that nobody needs.
    Claim,
    /// `exp` has passed.
    Expired,
    /// The header holds something that changes what the token means.
    Header,
    /// A token about a login, not for an API.
    IdToken,
    /// `kid` is empty, too long or no text.
    KeyId,
    /// It lives longer than `max_lifetime`.
    LivesTooLong,
    /// Not a signed JWT in compact form.
    Malformed,
    /// There is no key of the issuer at all: nobody's fault, and not for ever.
    NoKeys,
    /// `nbf` or `iat` lies in the future.
    NotYetValid,
    /// It is meant for others as well.
    SeveralAudiences,
    /// The key that it names did not sign it.
    Signature,
    /// `typ` is none of `token_types`.
    TokenType,
    /// More than 8 KiB.
    TooLong,
    /// `iss` is nobody's that we know.
    UnknownIssuer,
    /// `kid` names no key of the issuer.
    UnknownKey,
    /// `aud` does not name us.
    WrongAudience,
}

/// Everybody whose tokens are believed, and what was believed lately.
pub struct Identity {
    current: ArcSwap<Issuers>,
    /// The present issuers' generation once more: what was verified before is recalled by it alone, for a
    /// tenth of what it costs to take the issuers in hand.
    generation: AtomicU64,
    changed: Notify,
    memory: Memory,
    clock: Clock,
    metrics: IdentityMetrics,
}

/// How the issuers' keys are.
#[derive(Clone, Debug)]
pub struct KeyHealth {
    /// Whether at least one issuer has keys.
    pub any: bool,
    /// What is wrong with those of some.
    pub faults: Vec<KeyFault>,
}

/// What is wrong with the keys of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// There are none.
    #[error("no keys of the issuer {0}")]
    Missing(Arc<str>),
    /// Those that are known are believed, but could not be brought up to date for so long.
    #[error("the keys of the issuer {issuer} could not be brought up to date for {} s", .age.as_secs())]
    OutOfDate {
        /// Whose.
        issuer: Arc<str>,
        /// Since they were last confirmed.
        age: Duration,
    },
}

/// Issuers whose settings and files are known to be good.
pub struct Prepared(Issuers);

impl Identity {
    /// Takes the issuers over and reads the keys that lie in files. Keys from a URL come later, when
    /// [`Identity::run`] runs: an issuer that is down keeps nothing from starting (G32).
    pub fn build(
        config: &Config,
        clock: Clock,
        metrics: IdentityMetrics,
    ) -> Result<Self, Vec<Mistake>> {
        let issuers = Issuers::build(config, 0, &clock, &metrics)?;
        Ok(Self {
            generation: AtomicU64::new(issuers.generation),
            current: ArcSwap::from_pointee(issuers),
            changed: Notify::new(),
            memory: Memory::new(MEMORY_ROWS, MEMORY_BYTES),
            clock,
            metrics,
        })
    }

    /// Takes over other issuers and reads the keys that lie in files. Changes nothing yet.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, Vec<Mistake>> {
        let generation = self.current.load().generation.wrapping_add(1);
        Issuers::build(config, generation, &self.clock, &self.metrics).map(Prepared)
    }

    /// Puts in place what was prepared. The next token is judged by it; keys of issuers that stay are
    /// kept.
    pub fn adopt(&self, Prepared(issuers): Prepared) {
        let old = self.current.load_full();
        let now = self.clock.elapsed();
        for issuer in &issuers.list {
            let same = |other: &&Issuer| other.config.has_keys_of(&issuer.config);
            if let Some(predecessor) = old.list.iter().find(same) {
                issuer.keys.inherit(&predecessor.keys, now);
            }
        }
        let generation = issuers.generation;
        self.current.store(Arc::new(issuers));
        self.generation.store(generation, Ordering::Release);
        self.changed.notify_one();
    }

    /// Puts another configuration in place of the present one, whole or not at all.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<Mistake>> {
        self.adopt(self.prepare(config)?);
        Ok(())
    }

    /// Keeps the keys up to date until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let issuers = self.current.load_full();
            // Dropped at the end of each round, and its tasks with it.
            let mut keepers = JoinSet::new();
            for issuer in &issuers.list {
                let keys = Arc::clone(&issuer.keys);
                let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
                keepers.spawn(keys.keep(clock, metrics, stop.child_token()));
            }
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.changed.notified() => break,
                    () = self.clock.sleep(SWEEP_PERIOD) => {
                        self.memory.sweep(issuers.generation, self.clock.now());
                    }
                }
            }
        }
    }

    /// Who `token` makes the caller, at `now`, if it was verified before: that costs no signature, no
    /// lock, no allocation and no wait.
    pub fn recall(&self, token: &[u8], now: Moment) -> Option<Arc<Caller>> {
        let generation = self.generation.load(Ordering::Acquire);
        let caller = self.memory.recall(token, generation, now)?;
        self.metrics.remembered();
        Some(caller)
    }

    /// Who `token` makes the caller, at `now`.
    pub async fn verify(&self, token: &[u8], now: Moment) -> Result<Arc<Caller>, Unverified> {
        if let Some(caller) = self.recall(token, now) {
            return Ok(caller);
        }
        // Boxed, so that the usual way does not carry the room that this one needs.
        let verdict = Box::pin(self.verify_anew(token, now)).await;
        self.metrics.checked(verdict.is_ok());
        verdict
    }

    /// The issuers that have no keys at `now`: for readiness.
    pub fn issuers_without_keys(&self, now: Moment) -> Vec<Arc<str>> {
        let issuers = self.current.load();
        issuers
            .list
            .iter()
            .filter(|issuer| issuer.keys.present(now.elapsed).is_none())
            .map(|issuer| Arc::clone(&issuer.name))
            .collect()
    }

    /// How the issuers' keys are at `now`: for readiness.
    pub fn key_health(&self, now: Moment) -> KeyHealth {
        let issuers = self.current.load();
        let mut health = KeyHealth {
            any: false,
            faults: Vec::new(),
        };
        for issuer in &issuers.list {
            let name = Arc::clone(&issuer.name);
            if issuer.keys.present(now.elapsed).is_none() {
                health.faults.push(KeyFault::Missing(name));
                continue;
            }
            health.any = true;
            if let Some(age) = issuer.keys.out_of_date(now.elapsed) {
                let issuer = name;
                health.faults.push(KeyFault::OutOfDate { issuer, age });
            }
        }
        health
    }

    async fn verify_anew(&self, bytes: &[u8], now: Moment) -> Result<Arc<Caller>, Unverified> {
        let text = str::from_utf8(bytes).map_err(|_| Unverified::Malformed)?;
        let token = UncheckedToken::read(text)?;
        let issuers = self.current.load_full();
        let issuer = issuers
            .of(&token.claims.issuer)
            .ok_or(Unverified::UnknownIssuer)?;
        issuer.judge(&token, now.wall)?;
        let (keys, envelope) = (&issuer.keys, &token.envelope);
        let keys = keys.find(envelope, &self.clock, now.elapsed).await?;
        keys.verify(envelope)?;
        let caller = Arc::new(issuer.caller(token));
        let remembered = Remembered {
            token: Box::from(bytes),
            caller: Arc::clone(&caller),
            keys,
            generation: issuers.generation,
            used: AtomicBool::new(false),
        };
        self.memory.remember(remembered, now);
        Ok(caller)
    }
}

impl Unverified {
    /// A stable word for the log and the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm not allowed",
            Self::Claim => "malformed claim",
            Self::Expired => "expired",
            Self::Header => "unsupported header",
            Self::IdToken => "id token",
            Self::KeyId => "malformed key id",
            Self::LivesTooLong => "lives too long",
            Self::Malformed => "malformed",
            Self::NoKeys => "no keys",
            Self::NotYetValid => "not yet valid",
            Self::SeveralAudiences => "several audiences",
            Self::Signature => "bad signature",
            Self::TokenType => "wrong token type",
            Self::TooLong => "too long",
            Self::UnknownIssuer => "unknown issuer",
            Self::UnknownKey => "unknown key",
            Self::WrongAudience => "wrong audience",
        }
    }
}

/// 8,192 tokens, of about a kilobyte each.
const MEMORY_ROWS: usize = 2_048;
const MEMORY_BYTES: usize = 8 << 20;

/// How often what no longer holds is let go.
const SWEEP_PERIOD: Duration = Duration::from_mins(1);
