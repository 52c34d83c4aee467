//! From an HTTP request to a [`CertRequest`], or a [`BadRequest`].
//!
//! HTTP ends here. Nothing is normalised: the path is matched as the bytes that arrived, and each
//! segment is decoded exactly once. The order of the checks is the order in which they get cheaper to
//! exploit: framing, target, route, method, body, query, headers.

mod addressed;

use http::header::GetAll;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

pub(super) use addressed::is_host;
pub use addressed::{Addressed, BearerCredentials};

use super::api_version::ApiVersion;
use super::negotiation::{Encodings, MediaType, accepted_media_type};
use super::public_url::PublicUrl;
use super::query;
use super::query::{InvalidQuery, ListForm};
use crate::atlas::{CertQuery, InvalidUsername, ProjectId, Username};
use crate::cache::{Address, Encoding};
use crate::gateway::LookupRequest;

/// A well-formed lookup, still to be authenticated.
#[derive(Debug)]
pub struct CertRequest<'r> {
    /// Which certificates.
    pub query: CertQuery,
    pub(crate) form: ListForm,
    pub(crate) media_type: MediaType,
    /// The compression that the caller likes best of those that there are.
    pub(crate) encoding: Option<Encoding>,
    /// The validators of the lists that the caller has already (`If-None-Match`).
    pub(crate) validators: GetAll<'r, HeaderValue>,
    /// Where the links of the answer point.
    pub address: Address<'r>,
    /// The host that the caller has addressed, with its port where it gave one.
    pub(crate) host: &'r str,
    /// Whether the target names the host, as in a request to a proxy.
    pub(crate) is_absolute: bool,
    /// `GET` or `HEAD`.
    pub(crate) method: &'r Method,
    pub(crate) protocol: Version,
    /// Whether the caller wants Atlas to be asked anew (`Cache-Control: no-cache`).
    pub(crate) no_cache: bool,
    /// The trace that the caller is in (W3C Trace Context).
    pub(crate) traceparent: Option<&'r str>,
    pub(crate) credentials: BearerCredentials<'r>,
}

/// How a request came here, as far as its own head does not say it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'r> {
    /// `http` or `https`: of the connection, or as a trusted proxy has said.
    pub scheme: &'r str,
    /// The host that the caller has addressed, if a trusted proxy says so.
    pub host: Option<&'r str>,
    /// Where links point whatever was addressed.
    pub public_url: Option<&'r PublicUrl>,
}

/// Why a request is refused before its caller is authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A body on a method that has none.
    #[error("a lookup has no body")]
    Body,
    /// `CONNECT`, which would make this a tunnel.
    #[error("this is not a tunnel")]
    Connect,
    /// What proxies say of the request is unclear.
    #[error(
        "what the proxies in between say of this request (Forwarded, X-Forwarded-For, -Proto, -Host) cannot be \
         read or is contradictory: let the outermost of them replace or remove what callers send of it"
    )]
    Forwarded,
    /// The `Host` header is missing, repeated or no host.
    #[error(
        "exactly one valid Host header is needed, the same as in the target if there is one in it"
    )]
    Host,
    /// The token's framing is ambiguous: repeated, or not `Bearer` and one token.
    #[error("exactly one Authorization header with one bearer token is needed")]
    Authorization,
    /// The project's id.
    #[error("a group ID is 24 lower-case hexadecimal digits")]
    ProjectId(String),
    /// Neither `GET` nor `HEAD`.
    #[error("only GET and HEAD are answered here")]
    Method,
    /// The name of another host.
    #[error(
        "this gateway does not answer for the host that was addressed: mend the URL, or let its operators add \
         the name to `server.hosts`"
    )]
    Misdirected,
    /// No media type that this endpoint has.
    #[error("no media type of this endpoint is accepted")]
    NotAcceptable,
    /// The query.
    #[error("query parameter {} {}", .0.name, .0.problem)]
    Query(InvalidQuery),
    /// No such path.
    #[error("no such resource")]
    Route,
    /// The target is no path and no URL of one: an authority, `*`, or with bytes that no URI has.
    #[error("the request target is not a path")]
    Target,
    /// A longer target than any legal one.
    #[error("the request target is longer than {LONGEST_TARGET} bytes")]
    TargetTooLong,
    /// The username.
    #[error("the username {0}")]
    Username(InvalidUsername),
}

impl<'r> CertRequest<'r> {
    /// Reads a request's head.
    pub fn read(
        parts: &'r Parts,
        received: Received<'r>,
        has_body: bool,
    ) -> Result<Self, BadRequest> {
        let addressed = Addressed::read(parts)?;
        let Addressed { path, query, .. } = addressed;
        let host = received.host.unwrap_or_else(|| addressed.host());
        let Route {
            version,
            project,
            username,
        } = route(path).ok_or(BadRequest::Route)?;
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(BadRequest::Method);
        }
        if has_body {
            return Err(BadRequest::Body);
        }
        let project = ProjectId::from_path_segment(project)
            .map_err(|_| BadRequest::ProjectId(project.to_owned()))?;
        let username = Username::from_path_segment(username).map_err(BadRequest::Username)?;
        let form = ListForm::read(query).map_err(BadRequest::Query)?;
        let headers = &parts.headers;
        let media_type = accepted_media_type(&headers.get_all(header::ACCEPT), version);
        let media_type = media_type.ok_or(BadRequest::NotAcceptable)?;
        let encodings = Encodings::read(headers.get_all(header::ACCEPT_ENCODING));
        let credentials = addressed.credentials(headers, form.token_in_query)?;
        Ok(Self {
            query: CertQuery { project, username },
            form,
            media_type,
            encoding: encodings.preferred(),
            validators: headers.get_all(header::IF_NONE_MATCH),
            address: match received.public_url {
                Some(url) => url.address(version),
                None => Address {
                    scheme: received.scheme,
                    host,
                    root: version.root(),
                },
            },
            host,
            is_absolute: addressed.is_absolute && received.host.is_none(),
            method: &parts.method,
            protocol: parts.version,
            no_cache: wants_no_cache(headers),
            traceparent: headers.get(TRACEPARENT).and_then(|it| it.to_str().ok()),
            credentials,
        })
    }
}

impl CertRequest<'_> {
    pub(crate) fn lookup(&self) -> LookupRequest<'_> {
        LookupRequest {
            token: match self.credentials {
                BearerCredentials::Bearer(token) => Some(token),
                BearerCredentials::None => None,
            },
            query: &self.query,
            address: self.address,
            method: self.method,
            protocol: self.protocol,
            no_cache: self.no_cache,
            // What is indented is not kept, so there is nothing to be made of it before.
            encoding: self.encoding.filter(|_| !self.form.is_pretty()),
            most: self.form.most(),
            traceparent: self.traceparent,
        }
    }
}

/// Whether a refused request asked for its errors in an envelope, whatever else is wrong with it.
pub(crate) fn wants_envelope(parts: &Parts) -> bool {
    parts.uri.query().is_some_and(query::asks_for_envelope)
}

struct Route<'p> {
    version: ApiVersion,
    project: &'p str,
    username: &'p str,
}

/// The two paths that exist, matched byte for byte; the two free segments come back as they arrived.
fn route(path: &str) -> Option<Route<'_>> {
    let (version, rest) = [ApiVersion::V2, ApiVersion::V1]
        .into_iter()
        .find_map(|version| Some((version, path.strip_prefix(version.root())?)))?;
    let (project, rest) = split_at(b'/', rest.strip_prefix("/groups/")?)?;
    let (username, rest) = split_at(b'/', rest.strip_prefix("databaseUsers/")?)?;
    // A bare `..` is a dot-segment of the path itself, which every client would have resolved.
    let exists = rest == "certs" && !username.is_empty() && username != "..";
    exists.then_some(Route {
        version,
        project,
        username,
    })
}

/// `str::split_once` on a character takes four times as long.
fn split_at(sign: u8, text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_at_checked(memchr::memchr(sign, text.as_bytes())?)?;
    Some((before, rest.get(1..)?))
}

fn wants_no_cache(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

const LONGEST_TARGET: usize = 8_192;
const TRACEPARENT: &str = "traceparent";
