//! `GET /openapi.json`: what both listeners answer, in a form that programs read. It names nobody, so it needs
//! no token and is not on record.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::body::payload::ResponseBody;

pub(super) const PATH: &str = "/openapi.json";

pub(super) fn document() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::from_static(DOCUMENT)));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let an_hour = HeaderValue::from_static("public, max-age=3600");
    headers.insert(header::CACHE_CONTROL, an_hour);
    response
}

const DOCUMENT: &[u8] = include_bytes!("../../config/openapi.json");
