//! Tokens of service accounts: one for the fleet, minted by one replica under a lease and counted for all.
//!
//! The token lies in the engine as its replica has sealed it; this module knows its hash, its age and what is left
//! of it. How many were minted lately lies there as well, and every replica says again and again which of them
//! were its own: an engine that has forgotten everything knows it all a few seconds later.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lease::{AFTER_LEASE, LEASE, millis};
use super::reply::{number, text, word};
use super::{Alone, Fleet};
use crate::telemetry::metrics::fleet::{FleetFunction, FleetRejection};

/// Why a replica wants another token than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenNeed {
    /// It has none, or one that will end.
    Any,
    /// Atlas did not accept it; this long apart at least are tokens replaced for that.
    Refused(Duration),
    /// Atlas may not accept it. It stays in use until there is another.
    Doubted(Duration),
}

/// What the fleet has for a replica that wants a token.
#[derive(Debug)]
pub(crate) enum TokenAnswer {
    /// There is one.
    Found(SharedToken),
    /// This replica is to mint it.
    Lease(TokenLease),
    /// None may be minted for this long.
    Limited(Duration),
}

/// A token as another replica has left it.
#[derive(Debug)]
pub(crate) struct SharedToken {
    pub(crate) hash: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) age: Duration,
    /// For how long it is kept.
    pub(crate) left: Duration,
}

/// A token that is to be shared.
#[derive(Debug)]
pub(crate) struct OwnToken {
    /// [`HASH`] digits.
    pub(crate) hash: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) age: Duration,
    pub(crate) left: Duration,
}

/// How many tokens may be minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MintLimits {
    pub(crate) a_minute: usize,
    pub(crate) alive: usize,
}

/// A mint of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnMint {
    pub(crate) id: Uuid,
    pub(crate) age: Duration,
    /// Whether no living token came of it.
    pub(crate) in_vain: bool,
}

/// What came of a mint that brought no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MintEnd {
    /// Atlas was not asked.
    Unsent,
    /// Atlas has made none.
    InVain,
    /// Atlas may have made one.
    Unknown,
}

/// The right to mint a token for the fleet.
pub(crate) struct TokenLease {
    fleet: Fleet,
    client_id: String,
    id: Uuid,
}

/// What is told to those who want a token.
#[derive(Debug, Default)]
pub(super) struct TokenBells {
    /// Rung when a lease has ended.
    pub(super) ended: Notify,
    /// Cancelled once it was tried to connect.
    pub(super) tried: CancellationToken,
}

/// The reply of `token`.
enum Reply {
    Found(SharedToken),
    Lease,
    Held(Duration),
    Limited(Duration),
}

impl Fleet {
    /// Whether tokens are shared at all.
    pub(crate) fn shares_tokens(&self) -> bool {
        self.0.config.tokens
    }

    /// Waits until it was tried to connect: a replica that has just been started is not alone yet.
    pub(crate) async fn tried(&self) {
        self.0.token_bells.tried.cancelled().await;
    }

    /// A token other than `own`, or the right to mint one. Waits for another replica's mint.
    pub(crate) async fn open_token(
        &self,
        client_id: &str,
        (need, own): (TokenNeed, &str),
        limits: MintLimits,
    ) -> Result<TokenAnswer, Alone> {
        loop {
            let id = Uuid::now_v7();
            let mut ended = pin!(self.0.token_bells.ended.notified());
            // Before the engine is asked: it may ring before its reply has come.
            ended.as_mut().enable();
            match self.token(client_id, (need, own), limits, id).await? {
                Reply::Found(found) => return Ok(TokenAnswer::Found(found)),
                Reply::Limited(wait) => return Ok(TokenAnswer::Limited(wait)),
                Reply::Lease => {
                    let (fleet, client_id) = (self.clone(), client_id.to_owned());
                    let lease = TokenLease {
                        fleet,
                        client_id,
                        id,
                    };
                    return Ok(TokenAnswer::Lease(lease));
                }
                Reply::Held(left) => {
                    // Whether it was rung or the lease has ended, the engine knows.
                    let _ = self.0.clock.timeout(left + AFTER_LEASE, ended).await;
                }
            }
        }
    }

    async fn token(
        &self,
        client_id: &str,
        (need, own): (TokenNeed, &str),
        limits: MintLimits,
        id: Uuid,
    ) -> Result<Reply, Alone> {
        let (why, between) = match need {
            TokenNeed::Any => ("want", Duration::ZERO),
            TokenNeed::Refused(between) => ("refused", between),
            TokenNeed::Doubted(between) => ("doubted", between),
        };
        let [token, lease, mints, replaced] =
            ["t", "l", "z", "r"].map(|what| self.0.names.of_account(client_id, what));
        let arguments = [
            &id.simple().to_string(),
            &millis(LEASE),
            own,
            why,
            &millis(between),
            &limits.a_minute.to_string(),
            &limits.alive.to_string(),
        ];
        let reply = self.call(
            FleetFunction::Token,
            &[&token, &lease, &mints, &replaced],
            &arguments.map(str::as_bytes),
        );
        Reply::read(reply.await?).ok_or_else(|| {
            self.0.metrics.rejected(FleetRejection::Reply);
            Alone
        })
    }

    /// Says which mints of the last hour were this replica's. Returns the hash of the fleet's token.
    pub(crate) async fn keep_mints(
        &self,
        client_id: &str,
        mints: &[OwnMint],
    ) -> Result<String, Alone> {
        let [token, log] = ["t", "z"].map(|what| self.0.names.of_account(client_id, what));
        let words = mints.iter().flat_map(|mint| {
            let in_vain = if mint.in_vain { "1" } else { "0" };
            [
                mint.id.simple().to_string(),
                millis(mint.age),
                in_vain.to_owned(),
            ]
        });
        let words: Vec<String> = words.collect();
        let arguments: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let kept = self.call(FleetFunction::KeepToken, &[&token, &log], &arguments);
        word(kept.await?).ok_or(Alone)
    }

    /// Shares a token where there is none. Says whether it is shared now.
    pub(crate) async fn offer_token(&self, client_id: &str, token: &OwnToken) -> bool {
        self.store_token(client_id, "", token).await
    }

    async fn store_token(&self, client_id: &str, lease_id: &str, own: &OwnToken) -> bool {
        let [token, lease, replaced] =
            ["t", "l", "r"].map(|what| self.0.names.of_account(client_id, what));
        let (age, keep) = (millis(own.age), millis(own.left));
        let bell = self.0.names.of_fleet("bell");
        let arguments = [
            lease_id.as_bytes(),
            own.hash.as_bytes(),
            age.as_bytes(),
            keep.as_bytes(),
            &own.sealed,
            bell.as_bytes(),
        ];
        let keys = [&*token, &*lease, &*replaced];
        let stored = self.call(FleetFunction::StoreToken, &keys, &arguments);
        stored.await == Ok(Value::Int(1))
    }
}

impl TokenLease {
    /// Of the mint, too.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Keeps the lease while `mint` goes on.
    pub(crate) async fn keep<T>(&self, mint: impl Future<Output = T>) -> T {
        let name = self.fleet.0.names.of_account(&self.client_id, "l");
        let id = self.id.simple().to_string();
        self.fleet.keep_lease((&name, &id), mint).await
    }

    /// Shares the token that was minted. Says whether it is shared now.
    pub(crate) async fn store(self, token: &OwnToken) -> bool {
        let id = self.id.simple().to_string();
        self.fleet.store_token(&self.client_id, &id, token).await
    }

    /// Ends the lease of a mint that brought no token.
    pub(crate) async fn fail(self, end: MintEnd) {
        let names = &self.fleet.0.names;
        let [lease, mints] = ["l", "z"].map(|what| names.of_account(&self.client_id, what));
        let end = match end {
            MintEnd::Unsent => "unsent",
            MintEnd::InVain => "vain",
            MintEnd::Unknown => "unknown",
        };
        let arguments = [&*self.id.simple().to_string(), end, &names.of_fleet("bell")];
        let arguments = arguments.map(str::as_bytes);
        let keys = [&*lease, &*mints];
        // It ends by itself otherwise.
        let _ = self
            .fleet
            .call(FleetFunction::FailToken, &keys, &arguments)
            .await;
    }
}

impl std::fmt::Debug for TokenLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenLease").finish_non_exhaustive()
    }
}

impl Reply {
    fn read(reply: Value) -> Option<Self> {
        let Value::Array(parts) = reply else {
            return None;
        };
        let mut parts = parts.into_iter();
        let what = text(parts.next()?)?;
        let span = |value: Option<Value>| {
            let millis = number(value?).unwrap_or(0);
            Some(Duration::from_millis(millis))
        };
        match &*what {
            b"lease" => Some(Self::Lease),
            b"held" => span(parts.next()).map(|left| Self::Held(left.min(LEASE))),
            b"limited" => span(parts.next()).map(Self::Limited),
            b"token" => {
                let value = text(parts.next()?)?;
                Some(Self::Found(SharedToken {
                    hash: String::from_utf8(value.get(..HASH)?.to_vec()).ok()?,
                    sealed: value.get(HEAD..)?.to_vec(),
                    age: span(parts.next())?,
                    left: span(parts.next())?,
                }))
            }
            _ => None,
        }
    }
}

/// How many digits of a token's hash stand before it.
pub(crate) const HASH: usize = 32;
/// Of the part in clear that stands before a sealed token.
const HEAD: usize = 48;
