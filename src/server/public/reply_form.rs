//! The response to a caller. Every one is made here, so that none forgets how it ends.

use http::{HeaderValue, Response, header};
use tracing::debug;

use crate::audit::{RequestId, Unrecorded};
use crate::cache::Found;
use crate::gateway::Refusal;
use crate::policy::allowance::AllowancesLeft;
use crate::server::body::payload::ResponseBody;
use crate::server::request::{BadRequest, CertRequest};
use crate::server::response::{self, RenderedReply};
use crate::server::unsent_budget::UnsentAccount;
use crate::telemetry::metrics::lookups::Present;

/// What the response to a request depends on besides its content.
#[derive(Clone, Copy)]
pub(super) struct ReplyForm {
    pub(super) request_id: RequestId,
    pub(super) envelope: bool,
    /// It is the last on its connection.
    pub(super) is_last: bool,
}

/// A response whose record is written, or cannot be.
pub(super) type Recorded = Result<(Response<ResponseBody>, Option<Present>), Unrecorded>;

impl ReplyForm {
    pub(super) fn render(
        &self,
        (outcome, left): (&Result<Found, Refusal>, AllowancesLeft),
        asked: &CertRequest<'_>,
        unsent: &UnsentAccount,
    ) -> RenderedReply {
        let mut rendered = match outcome {
            Ok(found) => {
                let mut rendered = response::answered(found, asked, self.request_id, unsent);
                self.close(&mut rendered.reply);
                rendered
            }
            Err(refusal) => self.refuse(refusal),
        };
        response::tell_allowances(&mut rendered.reply, left);
        rendered
    }

    pub(super) fn refuse(&self, refusal: &Refusal) -> RenderedReply {
        let mut rendered = response::refused(refusal, self.request_id, self.envelope);
        self.close(&mut rendered.reply);
        rendered
    }

    pub(super) fn reject(&self, refusal: &BadRequest) -> RenderedReply {
        let mut rendered = response::bad_request(refusal, self.request_id, self.envelope);
        self.close(&mut rendered.reply);
        rendered
    }

    /// The response, now that its record is written, or that it cannot be.
    pub(super) fn finish(&self, reply: Recorded) -> Response<ResponseBody> {
        match reply {
            Ok((mut response, present)) => {
                if let Some(present) = present {
                    response.body_mut().count(present);
                }
                response
            }
            Err(problem) => self.unrecorded(problem),
        }
    }

    fn unrecorded(&self, problem: Unrecorded) -> Response<ResponseBody> {
        let request_id = self.request_id;
        // Not louder, because anyone can cause it. The trail itself says once what is wrong.
        debug!(%request_id, "not answered, because it is not on record: {problem}");
        let mut response = response::unrecorded(request_id, self.envelope);
        self.close(&mut response);
        response
    }

    pub(super) fn close(&self, response: &mut Response<ResponseBody>) {
        if self.is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}
