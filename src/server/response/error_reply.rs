//! An error document in Atlas's form, with the headers that go with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::{ERROR_ORIGIN, whole_seconds};
use crate::atlas::ApiError;
use crate::atlas::error::Parameter;

/// An error document with its status and headers, before it has the request's id.
pub(super) struct ErrorReply {
    pub(super) response: Response<Bytes>,
    pub(super) code: Arc<str>,
}

impl ErrorReply {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: &str,
        parameters: Vec<Parameter>,
    ) -> Self {
        let error = ApiError {
            detail: detail.to_owned(),
            error: status.as_u16(),
            error_code: code,
            parameters,
            reason: status.canonical_reason().expect("a standard status"),
        };
        Self::of(status, Arc::from(code), error.to_json().into(), "gateway")
    }

    pub(super) fn of(
        status: StatusCode,
        code: Arc<str>,
        body: Bytes,
        origin: &'static str,
    ) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let reply = Self { response, code };
        reply.with(ERROR_ORIGIN, origin)
    }

    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        let value = HeaderValue::from_static(value);
        self.response.headers_mut().insert(name, value);
        self
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        let seconds = whole_seconds(wait).into();
        self.response.headers_mut().insert(RETRY_AFTER, seconds);
        self
    }

    pub(super) fn closing(self) -> Self {
        self.with(CONNECTION, "close")
    }
}
