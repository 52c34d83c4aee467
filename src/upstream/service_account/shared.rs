//! Tokens that the replicas of a fleet share: the fleet's, if it has another than ours, else one that is minted for
//! all under a lease. A replica that is alone mints for itself, and only its part of what all may.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tracing::warn;
use uuid::Uuid;

use super::{AccountState, BETWEEN_REFUSALS, BETWEEN_REPLACEMENTS, MARGIN, Origin, ServiceAccount};
use crate::fleet::{
    Alone, Fleet, HASH, MintEnd, MintLimits, OwnToken, SharedToken, TokenAnswer, TokenLease,
    TokenNeed,
};
use crate::system::{Moment, Secret};
use crate::upstream::encrypted_token;
use crate::upstream::mint_log::MOST_MINTS;
use crate::upstream::token_response::{self, MintError, Minted, TokenFate};

/// What a replica does for a token.
enum Way {
    Adopt(Minted, Duration),
    Mint(TokenLease),
    Wait(Duration),
}

impl ServiceAccount {
    /// A token: the fleet's, or a new one.
    pub(super) async fn obtain(self: &Arc<Self>) -> Result<(Minted, Origin), MintError> {
        if let Some(fleet) = self.sharing() {
            let (clock, longest) = (&self.environment.clock, self.environment.timeout);
            match clock.timeout(longest, self.ask_fleet(fleet)).await {
                Ok(Ok(Way::Adopt(found, age))) => {
                    self.keep_for_the_next(&found, self.now().wall).await;
                    return Ok((found, Origin::Fleet { age }));
                }
                Ok(Ok(Way::Mint(lease))) => return self.mint_for_all(lease).await,
                Ok(Ok(Way::Wait(wait))) => return Err(token_response::limited(wait)),
                Ok(Err(Alone)) | Err(_) => {}
            }
        }
        let part = part_of(self.environment.fleet.as_ref());
        let minted = self.try_mint(part, None).await?;
        Ok((minted, Origin::Minted { is_shared: false }))
    }

    fn sharing(&self) -> Option<&Fleet> {
        let fleet = self.environment.fleet.as_ref();
        fleet.filter(|fleet| fleet.shares_tokens())
    }

    async fn ask_fleet(&self, fleet: &Fleet) -> Result<Way, Alone> {
        // One that has just been started is not alone before it has tried.
        fleet.tried().await;
        self.tell_own(fleet).await?;
        let (mut need, mut own) = self.state().need();
        for _ in 0..MOST_UNREADABLE {
            let wanted = fleet.open_token(&self.client_id, (need, &own), MOST_MINTS);
            match wanted.await? {
                TokenAnswer::Lease(lease) => return Ok(Way::Mint(lease)),
                TokenAnswer::Limited(wait) => return Ok(Way::Wait(wait)),
                TokenAnswer::Found(found) => {
                    if let Some(minted) = self.open(&found) {
                        return Ok(Way::Adopt(minted, found.age));
                    }
                    // It is of another client secret, or will not live: it is replaced like one of ours.
                    (need, own) = (TokenNeed::Any, found.hash);
                }
            }
        }
        Err(Alone)
    }

    fn open(&self, found: &SharedToken) -> Option<Minted> {
        let (token, expires) =
            encrypted_token::open(&self.client_id, &self.secret(), &found.sealed)?;
        let lifetime = expires.since(self.now().wall).min(found.left + MARGIN);
        (lifetime > MARGIN && hash(&token) == found.hash).then_some(Minted { token, lifetime })
    }

    async fn mint_for_all(
        self: &Arc<Self>,
        lease: TokenLease,
    ) -> Result<(Minted, Origin), MintError> {
        let mint = self.try_mint(MOST_MINTS, Some(lease.id()));
        let minted = lease.keep(mint).await;
        let is_shared = match &minted {
            Ok(minted) => match self.seal(&minted.token, (self.now(), minted.lifetime)) {
                Some(own) => lease.store(&own).await,
                None => false,
            },
            Err(error) => {
                lease.fail(end_of(error.token)).await;
                false
            }
        };
        Ok((minted?, Origin::Minted { is_shared }))
    }

    /// Tells the fleet of our mints, and of our token where it has none. Called every few seconds: the engine may
    /// have forgotten everything.
    pub(super) fn share(self: &Arc<Self>) {
        if self.sharing().is_some_and(Fleet::is_connected) {
            let account = Arc::clone(self);
            tokio::spawn(async move {
                if let Some(fleet) = account.sharing() {
                    // If the engine cannot be asked, it is told in the next round.
                    let _ = account.tell_own(fleet).await;
                }
            });
        }
    }

    async fn tell_own(&self, fleet: &Fleet) -> Result<(), Alone> {
        let mints = self.files.own_mints().await;
        let there = fleet.keep_mints(&self.client_id, &mints).await?;
        let now = self.now();
        let Some(token) = self.state().usable(now).cloned() else {
            return Ok(());
        };
        let is_shared = if there.is_empty() {
            match self.seal(&token.text, (token.minted_at, token.lifetime)) {
                Some(own) => fleet.offer_token(&self.client_id, &own).await,
                None => false,
            }
        } else {
            there == token.hash
        };
        let mut state = self.state();
        let present = state.token.as_mut().filter(|it| it.hash == token.hash);
        if let Some(present) = present {
            present.is_shared |= is_shared;
        }
        Ok(())
    }

    /// A token for the others, which lives for `life` from `minted_at` on.
    fn seal(&self, token: &Secret, (minted_at, life): (Moment, Duration)) -> Option<OwnToken> {
        let now = self.now();
        let (age, expires) = (now.since(minted_at), minted_at.wall.plus(life));
        let sealed = encrypted_token::seal(&self.client_id, &self.secret(), token, expires);
        let sealed = sealed.inspect_err(|error| warn!(%error, "cannot seal the token for others"));
        let left = life.saturating_sub(age).checked_sub(MARGIN)?;
        (!left.is_zero()).then_some(OwnToken {
            hash: hash(token),
            sealed: sealed.ok()?,
            age,
            left,
        })
    }
}

impl AccountState {
    /// Why another token is wanted, and the hash of the one that there is or was.
    fn need(&self) -> (TokenNeed, String) {
        let own = self.token.as_ref().map(|token| token.hash.clone());
        match &self.refused {
            Some(refused) => (TokenNeed::Refused(BETWEEN_REFUSALS), refused.clone()),
            None if self.is_replacing => (
                TokenNeed::Doubted(BETWEEN_REPLACEMENTS),
                own.unwrap_or_default(),
            ),
            None => (TokenNeed::Any, own.unwrap_or_default()),
        }
    }
}

/// How many tokens a replica that is alone may mint.
pub(super) fn part_of(fleet: Option<&Fleet>) -> MintLimits {
    let replicas = fleet.map_or(1, Fleet::replicas);
    let replicas = usize::try_from(replicas).expect("replicas are not too many to count");
    MintLimits {
        a_minute: (MOST_MINTS.a_minute / replicas).max(1),
        alive: (MOST_MINTS.alive / replicas).max(1),
    }
}

/// What stands for a token where it must not stand itself.
pub(super) fn hash(token: &Secret) -> String {
    let hash = digest(&SHA256, token.expose().as_bytes());
    let (half, _) = hash.as_ref().split_at(HASH / 2);
    let half = half.try_into().expect("16 bytes are 32 digits");
    Uuid::from_bytes(half).simple().to_string()
}

fn end_of(fate: TokenFate) -> MintEnd {
    match fate {
        TokenFate::None => MintEnd::InVain,
        TokenFate::Unknown => MintEnd::Unknown,
        TokenFate::Unsent => MintEnd::Unsent,
    }
}

/// How many tokens that we cannot use are looked at.
const MOST_UNREADABLE: u32 = 3;
