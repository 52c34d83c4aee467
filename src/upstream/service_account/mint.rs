//! A mint: a need for a token goes in; a token, or why there is none and until when, comes out.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::{Account, ServiceAccount, State, Token, endpoint};
use crate::telemetry::metrics::upstream::{Endpoint, MintLabels, MintResult};
use crate::telemetry::{Tally, say};
use crate::upstream::answer::CredentialFailure;
use crate::upstream::token::{Fate, Minted, NotMinted};
use crate::upstream::{retry_after, token};

impl ServiceAccount {
    pub(super) fn start_minting(&self, state: &mut State) {
        state.minting = true;
        let account = Arc::clone(&self.0);
        let under_way = UnderWay(Arc::clone(&self.0));
        tokio::spawn(async move {
            let under_way = under_way;
            account.mint().await;
            drop(under_way);
        });
    }
}

/// A mint is under way until this is dropped, even if its task panics.
struct UnderWay(Arc<Account>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().minting = false;
        self.0
            .settled
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Account {
    async fn mint(self: &Arc<Self>) {
        if let Some(kept) = self.take_up().await {
            self.adopt(kept, true);
            return;
        }
        let (why, wait) = match self.try_mint().await {
            Ok(minted) => {
                self.count(MintResult::Minted);
                self.adopt(minted, false);
                return;
            }
            Err(NotMinted { why, wait, .. }) => (why, wait),
        };
        self.count(match why {
            CredentialFailure::MintLimit | CredentialFailure::MintLimited(_) => MintResult::Limited,
            CredentialFailure::Refused(_) => MintResult::Refused,
            CredentialFailure::Unavailable(_) => MintResult::Unavailable,
        });
        let (name, seconds) = (&self.terms.load().name, wait.as_secs());
        let now = self.clock.elapsed();
        if let Some(Tally { times, .. }) = self.without_token.happened(now) {
            say(|| {
                error!(
                    credential = %name,
                    wait_seconds = seconds,
                    times,
                    "no token for Atlas: {why}; not asking again before {seconds} s",
                );
            });
        }
        let mut state = self.state();
        state.replacing = false;
        state.trouble = Some(why);
        state.failures = state.failures.saturating_add(1);
        state.not_before = now + wait + self.jitter.up_to(wait / 10);
    }

    async fn try_mint(self: &Arc<Self>) -> Result<Minted, NotMinted> {
        let failures = self.state().failures;
        let secret = self.secret();
        self.wish().await.map_err(|wait| NotMinted {
            why: CredentialFailure::MintLimit,
            wait: wait.min(LONGEST_LEDGER_WAIT),
            wish: Fate::Unsent,
        })?;
        let body = "grant_type=client_credentials".to_owned();
        let answer = self
            .post(Endpoint::Token, endpoint::TOKEN, &secret, body)
            .await;
        let minted = match answer {
            Ok(answer) => {
                let wait = retry_after::of(&answer.headers, answer.at.wall);
                let minted = token::read(answer.status, &answer.body, wait, failures);
                minted.map(|minted| (minted, answer.at.wall))
            }
            Err(lost) => Err(token::lost(lost, failures)),
        };
        if let Err(failure) = &minted {
            match failure.wish {
                Fate::Unknown => {}
                Fate::Unsent => self.unsent().await,
                Fate::Vain => self.in_vain().await,
            }
        }
        let (minted, answered_on) = minted?;
        let expires = answered_on.plus(minted.lifetime);
        self.keep(&minted.token, expires, secret).await;
        Ok(minted)
    }

    fn adopt(&self, minted: Minted, is_kept: bool) {
        let Some(header) = token::bearer(&minted.token) else {
            return;
        };
        let now = self.clock.now();
        let life = minted.lifetime;
        let renew_after = self.jitter.between(life * 75 / 100, life * 85 / 100);
        let (name, seconds) = (&self.terms.load().name, life.as_secs());
        if is_kept {
            say(|| info!(credential = %name, seconds, "took up the token of the process before"));
        } else {
            say(|| info!(credential = %name, seconds, "minted a token for Atlas"));
        }
        // That line tells that it is over, too.
        let _ = self.without_token.is_over(now.elapsed);
        let _ = self.unanswered.is_over(now.elapsed);
        let mut state = self.state();
        state.number += 1;
        if std::mem::take(&mut state.replacing) {
            state.last_replaced = Some(now.elapsed);
            state.last_refusal = Some(now.elapsed);
        }
        state.trouble = None;
        state.failures = 0;
        state.not_before = now.elapsed;
        state.token = Some(Token {
            text: minted.token,
            header,
            minted_at: now,
            is_kept,
            renew_after,
            lifetime: life,
        });
        self.token_expires_in(life);
    }

    fn count(&self, result: MintResult) {
        self.metrics
            .token_mints
            .get_or_create(&MintLabels { result })
            .inc();
    }
}

/// The ledger may say an hour; an operator who clears it should not have to restart us.
const LONGEST_LEDGER_WAIT: Duration = Duration::from_mins(5);
