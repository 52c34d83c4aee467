//! Atlas's OAuth endpoints: a form goes in, the answer comes out.

use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use tracing::{Instrument, warn};

use super::Account;
use crate::secret::Secret;
use crate::telemetry::metrics::upstream::Endpoint;
use crate::telemetry::traces::Call;
use crate::telemetry::{Tally, say};
use crate::upstream::transport::{Answer, Bounds, HttpErrorKind};

impl Account {
    /// Posts a form with the account's id and secret.
    pub(super) async fn post(
        &self,
        endpoint: Endpoint,
        target: &'static str,
        secret: &Secret,
        body: String,
    ) -> Result<Answer, HttpErrorKind> {
        // Of a target of ours there is a request, and of base64 there is a header.
        let request = self.transport.request(Method::POST, target);
        let mut request = request.ok_or(HttpErrorKind::Malformed)?;
        // The raw id and secret: Atlas does not undo the percent-encoding of RFC 6749, section 2.3.1.
        let pair = STANDARD.encode(format!("{}:{}", self.client_id, secret.expose()));
        let mut basic = HeaderValue::from_str(&format!("Basic {pair}"))
            .map_err(|_| HttpErrorKind::Malformed)?;
        basic.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, basic);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        *request.body_mut() = Some(body.into());
        let began = self.clock.elapsed();
        let bounds = Bounds {
            bytes: LARGEST_ANSWER,
            time: self.time,
            from: began,
        };
        let call = Call {
            method: "POST",
            template: target,
            place: self.transport.place(),
            resends: 0,
        };
        let span = call.span();
        let answer = pin!(self.transport.send(request, bounds));
        let answer = answer.instrument(span.span()).await;
        let came = answer.as_ref().map(|answer| answer.status.as_u16());
        span.answered(came.map_err(|lost| lost.word()));
        if let Err(HttpErrorKind::Reset) = answer {
            // The next mint is far away, and must not find the same connection.
            self.transport.leave_connections();
        }
        let took = self.clock.elapsed().saturating_sub(began);
        let status = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
        self.metrics.called(endpoint, status, took.as_secs_f64());
        let name = &self.terms.load().name;
        answer.inspect_err(|lost| {
            if let Some(Tally { times, .. }) = self.unanswered.happened(self.clock.elapsed()) {
                say(|| {
                    warn!(credential = %name, times, "no answer of Atlas's {target}: {lost}");
                });
            }
        })
    }
}

/// Where tokens are minted.
pub(super) const TOKEN: &str = "/api/oauth/token";
/// Where they are given back.
pub(super) const REVOKE: &str = "/api/oauth/revoke";
const LARGEST_ANSWER: u64 = 64 << 10;
