//! Minting a token, and giving it back: the calls to Atlas's OAuth endpoints.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{AccountState, FRESH, MARGIN, Origin, ServiceAccount, Token, shared};
use crate::atlas::Timestamp;
use crate::fleet::MintLimits;
use crate::http_client::{CallBounds, HttpErrorKind, HttpReply};
use crate::system::Secret;
use crate::telemetry::Tally;
use crate::telemetry::metrics::upstream::{Endpoint, MintResult};
use crate::upstream::error::CredentialFailure;
use crate::upstream::response::retry_after;
use crate::upstream::token_response::{self, MintError, Minted, TokenFate};

/// A mint is under way until this is dropped, even if its task panics.
struct MintGuard(Arc<ServiceAccount>);

impl Drop for MintGuard {
    fn drop(&mut self) {
        self.0.state().is_minting = false;
        self.0
            .settled
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl ServiceAccount {
    pub(super) fn start_minting(self: &Arc<Self>, state: &mut AccountState) {
        state.is_minting = true;
        let guard = MintGuard(Arc::clone(self));
        tokio::spawn(async move {
            let guard = guard;
            guard.0.mint().await;
        });
    }

    async fn mint(self: &Arc<Self>) {
        if let Some((token, expires)) = self.files.take_up_token(self.secret()).await {
            let lifetime = expires.since(self.now().wall).min(LONGEST_LEFT);
            if lifetime > MARGIN {
                self.adopt(Minted { token, lifetime }, Origin::Inherited);
                return;
            }
        }
        match self.obtain().await {
            Ok((minted, origin)) => {
                if matches!(origin, Origin::Minted { .. }) {
                    self.count(MintResult::Minted);
                }
                self.adopt(minted, origin);
            }
            Err(error) => self.put_off(error),
        }
    }

    fn put_off(&self, MintError { why, wait, .. }: MintError) {
        self.count(match why {
            CredentialFailure::MintLimit | CredentialFailure::MintLimited(_) => MintResult::Limited,
            CredentialFailure::Refused(_) => MintResult::Refused,
            CredentialFailure::Unavailable(_) => MintResult::Unavailable,
        });
        let (credential, seconds) = (&self.settings.load().name, wait.as_secs());
        let now = self.now().elapsed;
        if let Some(Tally { times, .. }) = self.without_token.happened(now) {
            error!(
                %credential,
                wait_seconds = seconds,
                times,
                "no token for Atlas: {why}; not asking again before {seconds} s",
            );
        }
        let late = self.environment.jitter.up_to(wait / 10);
        let mut state = self.state();
        state.is_replacing = false;
        state.failure = Some(why);
        state.failures = state.failures.saturating_add(1);
        state.not_before = now + wait + late;
    }

    /// Asks Atlas for a token, if `limits` allow it.
    pub(super) async fn try_mint(
        self: &Arc<Self>,
        limits: MintLimits,
        id: Option<Uuid>,
    ) -> Result<Minted, MintError> {
        let failures = self.state().failures;
        let secret = self.secret();
        let credential = Arc::clone(&self.settings.load().name);
        let recorded = self
            .files
            .record_mint(Arc::clone(&credential), limits, id)
            .await;
        recorded.map_err(token_response::limited)?;
        let form = "grant_type=client_credentials".to_owned();
        let minted = match self.post(Endpoint::Token, &secret, form).await {
            Ok(reply) => {
                let wait = retry_after(&reply.headers, reply.at.wall);
                let minted = token_response::read(reply.status, &reply.body, wait, failures);
                minted.map(|minted| (minted, reply.at.wall))
            }
            Err(kind) => Err(token_response::lost(kind, failures)),
        };
        match minted.as_ref().map_err(|error| error.token) {
            Ok(_) | Err(TokenFate::Unknown) => {}
            Err(TokenFate::Unsent) => self.files.mint_unsent().await,
            Err(TokenFate::None) => self.files.mint_in_vain().await,
        }
        let (minted, answered_on) = minted?;
        self.keep_for_the_next(&minted, answered_on).await;
        Ok(minted)
    }

    pub(super) async fn keep_for_the_next(&self, minted: &Minted, now: Timestamp) {
        let (token, expires) = (minted.token.clone(), now.plus(minted.lifetime));
        let kept = self.files.keep_token(token, expires, self.secret()).await;
        if let Err(error) = kept {
            let credential = &self.settings.load().name;
            warn!(%credential, %error, "cannot keep the token for the next process");
        }
    }

    fn adopt(&self, minted: Minted, origin: Origin) {
        let Some(header) = token_response::bearer(&minted.token) else {
            return;
        };
        let now = self.now();
        let life = minted.lifetime;
        let jitter = self.environment.jitter;
        let (credential, seconds) = (&self.settings.load().name, life.as_secs());
        let age = match origin {
            Origin::Fleet { age } => {
                info!(%credential, seconds, "took up the token of the fleet");
                age
            }
            Origin::Inherited => {
                info!(%credential, seconds, "took up the token of the process before");
                Duration::ZERO
            }
            Origin::Minted { .. } => {
                info!(%credential, seconds, "minted a token for Atlas");
                Duration::ZERO
            }
        };
        let _ = self.without_token.is_over(now.elapsed);
        let _ = self.unanswered.is_over(now.elapsed);
        let mut state = self.state();
        state.number += 1;
        if std::mem::take(&mut state.is_replacing) {
            state.last_replaced = Some(now.elapsed);
            state.last_refusal = Some(now.elapsed);
        }
        state.failure = None;
        state.failures = 0;
        state.refused = None;
        state.not_before = now.elapsed;
        let whole = age + life;
        let renew_after = jitter.between(whole * 75 / 100, whole * 85 / 100);
        state.token = Some(Token {
            hash: shared::hash(&minted.token),
            text: minted.token,
            header,
            minted_at: now,
            is_inherited: origin == Origin::Inherited || age >= FRESH,
            is_shared: matches!(
                origin,
                Origin::Fleet { .. } | Origin::Minted { is_shared: true }
            ),
            renew_after: renew_after.saturating_sub(age),
            lifetime: life,
        });
        self.show_expiry(life);
    }

    pub(super) async fn revoke_token(self: &Arc<Self>, token: &Secret) {
        let form = format!("token={}&token_type_hint=access_token", token.expose());
        let reply = self.post(Endpoint::Revoke, &self.secret(), form).await;
        if reply.is_ok_and(|reply| reply.status.is_success()) {
            self.files.forget_token().await;
            self.files.mint_in_vain().await;
        }
    }

    async fn post(
        &self,
        endpoint: Endpoint,
        secret: &Secret,
        form: String,
    ) -> Result<HttpReply, HttpErrorKind> {
        let client = &self.environment.client;
        let path = endpoint.template();
        let url = client.url(path).expect("a path of ours is not rewritten");
        // The raw id and secret: Atlas does not undo the percent-encoding of RFC 6749, section 2.3.1.
        let pair = STANDARD.encode(format!("{}:{}", self.client_id, secret.expose()));
        let basic = HeaderValue::from_str(&format!("Basic {pair}"));
        let mut basic = basic.expect("base64 is visible ASCII");
        basic.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, basic);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        let bounds = CallBounds {
            bytes: LARGEST_ANSWER,
            time: self.environment.timeout,
            from: self.now().elapsed,
        };
        let reply = client
            .send(endpoint, (url, headers, Some(form)), bounds, 0)
            .await;
        if let Err(HttpErrorKind::Reset) = reply {
            // The next mint is far away, and must not find the same connection.
            client.leave_connections();
        }
        let now = self.now().elapsed;
        reply.inspect_err(|kind| {
            if let Some(Tally { times, .. }) = self.unanswered.happened(now) {
                let credential = &self.settings.load().name;
                warn!(%credential, times, "no answer of Atlas's {path}: {kind}");
            }
        })
    }

    fn count(&self, result: MintResult) {
        let mints = &self.environment.metrics.token_mints;
        mints.get_or_create(&[("result", result)]).inc();
    }
}

const LONGEST_LEFT: Duration = Duration::from_hours(1);
const LARGEST_ANSWER: u64 = 64 << 10;
