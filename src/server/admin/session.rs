//! `POST /session` and `POST /session/end`: signing in to the status page with a token that is pasted once, and out again.
//!
//! The browser keeps an id in a cookie, which opens the page and nothing else: a stolen one changes nothing. Behind it is
//! the token, which is verified anew at each use, so that a session ends with its token, with the keys that signed
//! it and with the rule that made its holder an operator.

mod table;

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};

use super::operation::{Done, Operation};
use super::status::of_form;
use super::{Admin, AdminRequest};
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::identity::{Caller, Unverified};
use crate::server::body::payload::ResponseBody;
use crate::server::query::parameters;
use crate::server::request::BearerCredentials;
use crate::server::response::{self, AdminRefusal};
use crate::system::Secret;

use self::table::SessionId;
pub(super) use self::table::Sessions;

/// Proof that a form stands on the page that this listener has under the host that was addressed, and how the
/// browser has come there.
struct OwnForm {
    is_over_tls: bool,
}

impl Admin {
    pub(super) async fn begin_session(
        &self,
        (parts, host): (&Parts, &str),
        body: Incoming,
        request: &AdminRequest,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let form = OwnForm::read(&parts.headers, host).ok_or(AdminRefusal::ForeignForm)?;
        let body = self.read_body(body).await?;
        let token = pasted_token(&parts.headers, &body).ok_or(AdminRefusal::Body(FORM))?;
        let refusal = match self.sign_in(token, request).await {
            Ok(id) => return Ok(to_page(&id.cookie(form.is_over_tls))),
            Err(refusal) => refusal,
        };
        let notice = if matches!(refusal, AdminRefusal::BadToken) {
            "This token was not accepted. Get a new one for this gateway from your issuer."
        } else if matches!(refusal, AdminRefusal::Denied) {
            "This token is good, but no rule with admin = true is for it."
        } else {
            return Err(refusal);
        };
        // For people, who find the form again below what was wrong.
        let (mut head, _) = response::not_administered(&refusal, request.request_id).into_parts();
        let (page, body) = self.page(Some(notice)).await.into_parts();
        head.headers.extend(page.headers);
        Ok(Response::from_parts(head, body))
    }

    async fn sign_in(
        &self,
        token: Secret,
        request: &AdminRequest,
    ) -> Result<SessionId, AdminRefusal> {
        let action = AdminAction::Session;
        let credentials = BearerCredentials::Bearer(token.expose().as_bytes());
        let caller = self.authenticate(credentials, action, request).await?;
        request.state.set_authenticated();
        let operation = &Operation {
            caller: Arc::clone(&caller),
            action,
            query: "",
            request,
        };
        let begun = async {
            let id = SessionId::new().map_err(|_| AdminRefusal::Unexpected)?;
            let now = self.gateway.clock.now();
            self.sessions.begin(&id, caller, token, now);
            Ok(Done {
                value: id,
                entries: None,
            })
        };
        self.record_in_part(operation, begun).await
    }

    pub(super) async fn end_session(
        &self,
        (parts, host): (&Parts, &str),
        request: &AdminRequest,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        OwnForm::read(&parts.headers, host).ok_or(AdminRefusal::ForeignForm)?;
        for id in SessionId::all_of(&parts.headers) {
            if let Some(caller) = self.sessions.end(&id) {
                let record = AdminRecord {
                    caller: Some(&caller),
                    status: Some(StatusCode::SEE_OTHER.as_u16()),
                    ..self.record(AdminAction::SessionEnd, request, Outcome::Answered)
                };
                self.write_down(&record).await?;
            }
        }
        Ok(to_page(&SessionId::no_cookie()))
    }

    /// The operator whose session a cookie names, if it goes on.
    pub(super) async fn session_holder(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        for id in SessionId::all_of(headers) {
            let now = self.gateway.clock.now();
            let Some(token) = self.sessions.token(&id, now) else {
                continue;
            };
            let verified = self.gateway.identity.verify(token.expose().as_bytes(), now);
            match verified.await {
                Ok(caller) if self.gateway.policy.load().administrates(&caller).is_ok() => {
                    return Some(caller);
                }
                // Without keys a token is neither good nor bad.
                Err(Unverified::NoKeys | Unverified::TooManyWait) => {}
                Ok(_) | Err(_) => drop(self.sessions.end(&id)),
            }
        }
        None
    }

    /// The body of a request, of at most 16 KiB.
    pub(super) async fn read_body(&self, body: Incoming) -> Result<Bytes, AdminRefusal> {
        let body = Limited::new(body, LARGEST_BODY).collect();
        let body = self.gateway.clock.timeout(BODY_PATIENCE, body).await;
        let body = body.map_err(|_| AdminRefusal::TooLate)?;
        let body = body.map_err(|problem| {
            if problem.is::<LengthLimitError>() {
                AdminRefusal::TooLarge
            } else {
                AdminRefusal::Body("cannot be read")
            }
        })?;
        Ok(body.to_bytes())
    }
}

impl OwnForm {
    /// A browser says with each form from where it is (cross-site request forgery). `Sec-Fetch-Site` is not sent to
    /// an `http` address in a network; `Origin` always is.
    fn read(headers: &HeaderMap, host: &str) -> Option<Self> {
        let site = headers.contains_key(&FETCH_SITE);
        if site && only(headers, &FETCH_SITE) != Some("same-origin") {
            return None;
        }
        let (scheme, named) = only(headers, &header::ORIGIN)?.split_once("://")?;
        let is_over_tls = scheme == "https";
        let is_own = (is_over_tls || scheme == "http") && named.eq_ignore_ascii_case(host);
        is_own.then_some(Self { is_over_tls })
    }
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn pasted_token(headers: &HeaderMap, body: &[u8]) -> Option<Secret> {
    let kind = only(headers, &header::CONTENT_TYPE)?.split(';').next()?;
    if kind.trim() != "application/x-www-form-urlencoded" {
        return None;
    }
    let body = of_form(str::from_utf8(body).ok()?);
    let mut fields = parameters(&body);
    let (name, token) = fields.next()?.ok()?;
    let token = Secret::new(token.trim().to_owned());
    (name == "token" && fields.next().is_none()).then_some(token)
}

fn to_page(cookie: &HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::new()));
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::SET_COOKIE, cookie.clone());
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORM: &str = "must be a form with the one field `token`, an operator's token";
const LARGEST_BODY: usize = 16 << 10;
const BODY_PATIENCE: Duration = Duration::from_secs(10);
