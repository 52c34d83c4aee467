//! `/openapi.json` for callers: no lookup, so nothing of it is on record unless it is refused.

use http::request::Parts;
use http::{Method, Response};

use super::{PublicHandler, ReplyForm, Stamp};
use crate::server::body::payload::ResponseBody;
use crate::server::connection::ConnectionPeer;
use crate::server::forwarded::Forwarded;
use crate::server::openapi;
use crate::server::request::{Addressed, BadRequest};

impl PublicHandler {
    pub(super) fn document(
        &self,
        parts: &Parts,
        forwarded: &Forwarded,
        peer: &ConnectionPeer,
        stamp: Stamp,
    ) -> Result<Response<ResponseBody>, BadRequest> {
        let addressed = Addressed::read(parts)?;
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(BadRequest::Method);
        }
        let host = forwarded.host.as_deref();
        let is_absolute = addressed.is_absolute() && host.is_none();
        if !self.is_asked(host.unwrap_or_else(|| addressed.host()), is_absolute, peer) {
            return Err(BadRequest::Misdirected);
        }
        let mut response = openapi::document();
        let form = ReplyForm {
            request_id: stamp.request_id,
            envelope: false,
            is_last: self.is_last(parts.version),
        };
        form.close(&mut response);
        Ok(response)
    }
}
