//! The exchange behind one call: a page's number and a proof of who we are go in, Atlas's answer comes
//! out. With a token that is one request; with an API key it may take a challenge first.

use std::pin::pin;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};
use tracing::Instrument;

use super::answer::FetchErrorKind;
use super::api_key;
use super::api_key::{ApiKey, Challenged};
use super::call::{Caller, Stop};
use super::config::Api;
use super::credential::Login;
use super::page::LONGEST_PAGE;
use super::service_account::Bearer;
use super::transport::{Answer, HttpErrorKind};
use crate::telemetry::metrics::upstream::Endpoint;
use crate::telemetry::traces::Call;

/// Asks for one page.
pub(crate) async fn page(
    caller: &Caller<'_>,
    number: u64,
    bearer: Option<&Bearer>,
    resends: u32,
) -> Result<Result<Answer, HttpErrorKind>, Stop> {
    let target = target(caller, number);
    match (&caller.credential.login, bearer) {
        (Login::Key(key), _) => digest(caller, key, (number, &target), resends).await,
        (Login::Account(_), bearer) => {
            let header = bearer.map(|bearer| bearer.header.clone());
            send(caller, (number, &target), header, resends).await
        }
    }
}

/// Asks with a nonce that was used before; where there is none, or it is no longer good, Atlas's
/// challenge brings another. Two challenges are answered, and no more.
async fn digest(
    caller: &Caller<'_>,
    key: &ApiKey,
    (number, target): (u64, &str),
    resends: u32,
) -> Result<Result<Answer, HttpErrorKind>, Stop> {
    let mut nonce = key.nonce();
    let mut rounds = 0;
    loop {
        let header = nonce
            .as_mut()
            .and_then(|nonce| key.authorize(nonce, target));
        let answer = send(caller, (number, target), header, resends + rounds).await?;
        let Ok(answered) = &answer else {
            return Ok(answer);
        };
        let challenged = match answered.status {
            StatusCode::UNAUTHORIZED => api_key::challenged(&answered.headers, nonce.as_ref()),
            _ => Challenged::No,
        };
        match (challenged, nonce.take()) {
            (Challenged::Again(next), _) if rounds < MOST_CHALLENGES => {
                rounds += 1;
                nonce = Some(next);
                // Whether Atlas counts a challenge as a call is not known; so we do.
                caller.count_challenge();
            }
            (Challenged::No, Some(accepted)) => {
                key.keep(accepted);
                return Ok(answer);
            }
            (Challenged::Again(_) | Challenged::No | Challenged::Refused, _) => return Ok(answer),
        }
    }
}

/// One request, with nothing in it but what is said here: no header of a caller's is ever sent on.
async fn send(
    caller: &Caller<'_>,
    (number, target): (u64, &str),
    authorization: Option<HeaderValue>,
    resends: u32,
) -> Result<Result<Answer, HttpErrorKind>, Stop> {
    let upstream = caller.upstream;
    let Some(mut request) = upstream.transport.request(Method::GET, target) else {
        let why = "the question cannot be put as a path";
        return Err(Stop::Failed(FetchErrorKind::InvalidResponse(why)));
    };
    let accept = match upstream.api {
        Api::V2 => "application/vnd.atlas.2023-01-01+json",
        Api::V1 => "application/json",
    };
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    let began = caller.now();
    let cause = caller.log.called(number, began);
    let bounds = caller.bounds(began);
    let call = Call {
        method: "GET",
        template: "/groups/{groupId}/databaseUsers/{username}/certs",
        place: upstream.transport.place(),
        resends,
    };
    let span = call.span();
    // Pinned, as it is large and would be moved into what is wrapped around it.
    let answer = pin!(upstream.transport.send(request, bounds));
    let answer = answer.instrument(span.span()).await;
    let ended = caller.now();
    let status = answer.as_ref().map(|answer| answer.status).ok();
    let lost = answer.as_ref().map(|answer| answer.status.as_u16());
    span.answered(lost.map_err(|lost| lost.word()));
    caller.log.answered(status, ended);
    upstream.metrics.called(
        Endpoint::Certificates,
        status.map_or(0, |status| status.as_u16()),
        ended.saturating_sub(began).as_secs_f64(),
    );
    upstream.metrics.caused(cause);
    Ok(answer)
}

/// The path is written here, byte for byte, and must not change any more; see [`Transport::request`].
///
/// [`Transport::request`]: super::transport::Transport::request
fn target(caller: &Caller<'_>, number: u64) -> String {
    let version = match caller.upstream.api {
        Api::V2 => "v2",
        Api::V1 => "v1.0",
    };
    let project = caller.query.project;
    let username = caller.query.username.to_path_segment();
    let mut digits = itoa::Buffer::new();
    let mut target = String::with_capacity(ROOM_FOR_A_TARGET);
    // By hand: the formatting machinery takes 1,600 instructions, this 600.
    for part in [
        "/api/atlas/",
        version,
        "/groups/",
        project.as_str(),
        "/databaseUsers/",
    ] {
        target.push_str(part);
    }
    target.extend(username);
    target.push_str("/certs?itemsPerPage=");
    target.push_str(digits.format(LONGEST_PAGE));
    target.push_str("&includeCount=true&pageNum=");
    target.push_str(digits.format(number));
    target
}

const MOST_CHALLENGES: u32 = 2;
/// Most targets fit.
const ROOM_FOR_A_TARGET: usize = 256;
