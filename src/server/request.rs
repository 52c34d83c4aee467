//! An HTTP request goes in; a bearer token and an [`Asked`] question come out, or a [`BadRequest`].
//!
//! HTTP ends here. Nothing is normalised: the path is matched as the bytes that arrived, and each
//! segment is decoded exactly once. The order of the checks is the order in which they get cheaper to
//! exploit: framing, target, route, method, query, headers.

use http::Method;
use http::Version;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::fields::Fields;
use super::fields::Values;
use super::head::all_between;
use super::head::letters_digits_and;
use super::negotiation::Encodings;
use super::negotiation::MediaType;
use super::negotiation::accepted_media_type;
use super::query;
use super::query::Form;
use super::query::InvalidQuery;
use crate::atlas::InvalidUsername;
use crate::atlas::ProjectId;
use crate::atlas::Question;
use crate::atlas::Username;
use crate::cache::Address;
use crate::cache::Encoding;
use crate::gateway::Lookup;

/// A well-formed lookup, still to be authenticated.
#[derive(Debug)]
pub struct Asked<'r> {
    /// Which certificates.
    pub question: Question,
    /// Which of the two paths was used.
    pub version: ApiVersion,
    /// How the answer is to be written.
    pub form: Form,
    /// The media type of a successful answer.
    pub media_type: MediaType,
    /// The compression that the caller likes best of those that there are.
    pub encoding: Option<Encoding>,
    /// The lists that the caller has already.
    pub known: Values<'r>,
    /// How the caller addressed this gateway.
    pub address: Address<'r>,
    /// `GET` or `HEAD`.
    pub method: &'r Method,
    /// The version of HTTP.
    pub protocol: Version,
    /// Whether the caller wants Atlas to be asked anew (`Cache-Control: no-cache`).
    pub no_cache: bool,
    /// The bearer token.
    pub credentials: Credentials<'r>,
}

/// Proof that a request's target and host are such as a server has that is no proxy. At no door does
/// anybody come by a caller's credentials without it:
///
/// ```compile_fail,E0451
/// use atlas_cert_gateway::server::request::Addressed;
///
/// let forged = Addressed { path: "*", query: "", host: "" };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'r> {
    path: &'r str,
    query: &'r str,
    host: &'r str,
}

/// Which of Atlas's two paths was used; both give the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiVersion {
    /// `/api/atlas/v1.0`
    V1,
    /// `/api/atlas/v2`
    V2,
}

/// What stands in `Authorization`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'r> {
    /// A token to be verified: ASCII.
    Bearer(&'r [u8]),
    /// Nothing, or a scheme that is not ours.
    None,
}

/// Why a request is refused before anybody is asked who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A body on a method that has none.
    #[error("a lookup has no body")]
    Body,
    /// `CONNECT`, which would make this a tunnel.
    #[error("this is not a tunnel")]
    Connect,
    /// The `Host` header is missing, repeated or no host.
    #[error("exactly one valid Host header is needed")]
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
    #[error("this gateway does not answer for the host that was addressed")]
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
    /// The target is no path: absolute, an authority, `*`, or with bytes that no URI has.
    #[error("the request target is not a path")]
    Target,
    /// A longer target than any legal one.
    #[error("the request target is longer than {LONGEST_TARGET} bytes")]
    TargetTooLong,
    /// The username.
    #[error("the username {0}")]
    Username(InvalidUsername),
}

impl ApiVersion {
    /// The path before `/groups/`.
    pub fn root(self) -> &'static str {
        match self {
            Self::V1 => "/api/atlas/v1.0",
            Self::V2 => "/api/atlas/v2",
        }
    }
}

impl<'r> Asked<'r> {
    /// Reads a request's head and its `fields`, which came over a connection of `scheme`.
    pub fn read(
        parts: &'r Parts,
        fields: &Fields<'r>,
        scheme: &'r str,
        has_body: bool,
    ) -> Result<Self, BadRequest> {
        let addressed = Addressed::read(parts, fields)?;
        let Addressed { path, query, host } = addressed;
        if has_body {
            return Err(BadRequest::Body);
        }
        let Route {
            version,
            project,
            username,
        } = route(path).ok_or(BadRequest::Route)?;
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(BadRequest::Method);
        }
        let project = ProjectId::from_path_segment(project)
            .map_err(|_| BadRequest::ProjectId(project.to_owned()))?;
        let username = Username::from_path_segment(username).map_err(BadRequest::Username)?;
        let form = Form::read(query).map_err(BadRequest::Query)?;
        let media_type =
            accepted_media_type(fields.accept, version).ok_or(BadRequest::NotAcceptable)?;
        let credentials = addressed.credentials(fields, form.token_in_query)?;
        Ok(Self {
            question: Question { project, username },
            version,
            form,
            media_type,
            encoding: Encodings::read(fields.accept_encoding).preferred(),
            known: fields.if_none_match,
            address: Address {
                scheme,
                host,
                root: version.root(),
            },
            method: &parts.method,
            protocol: parts.version,
            no_cache: wants_no_cache(fields.cache_control),
            credentials,
        })
    }
}

impl Asked<'_> {
    /// What the gateway is asked.
    pub fn lookup<'a>(&'a self, fields: &Fields<'a>) -> Lookup<'a> {
        Lookup {
            token: match self.credentials {
                Credentials::Bearer(token) => Some(token),
                Credentials::None => None,
            },
            question: &self.question,
            address: self.address,
            method: self.method,
            protocol: self.protocol,
            no_cache: self.no_cache,
            // What is indented is not kept, so there is nothing to be made of it before.
            encoding: self.encoding.filter(|_| !self.form.is_pretty()),
            most: self.form.most(),
            traceparent: fields
                .traceparent
                .first()
                .and_then(|value| value.to_str().ok()),
        }
    }
}

impl<'r> Addressed<'r> {
    /// Judges a request's head by its `fields`.
    pub fn read(parts: &'r Parts, fields: &Fields<'r>) -> Result<Self, BadRequest> {
        let target = target(parts)?;
        Ok(Self {
            path: target.path(),
            query: target.query().unwrap_or_default(),
            host: host(parts, fields.host)?,
        })
    }

    /// The bearer token of the request.
    pub fn credentials<'f>(
        self,
        fields: &Fields<'f>,
        token_in_query: bool,
    ) -> Result<Credentials<'f>, BadRequest> {
        let authorization = fields.authorization;
        if authorization.is_repeated() {
            return Err(BadRequest::Authorization);
        }
        let Some(value) = authorization.first() else {
            return Ok(Credentials::None);
        };
        // RFC 6750, section 2: a client must not use more than one way to send its token.
        if token_in_query {
            return Err(BadRequest::Authorization);
        }
        let bytes = value.as_bytes();
        // Nearly every token has only letters, digits and signs behind the comma, so that one look at its
        // bytes says all that follows.
        if let Some(token) = bytes.strip_prefix(b"Bearer ")
            && all_between(token, b'-', b'z')
        {
            return Ok(Credentials::Bearer(token));
        }
        // Bytes beyond ASCII cannot be a token, so there is none.
        if !bytes.is_ascii() {
            return Ok(Credentials::None);
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = bytes.iter().rposition(|byte| !is_blank(byte));
        let bytes = bytes.get(..end.map_or(0, |end| end + 1)).unwrap_or(bytes);
        let scheme_ends = bytes.iter().position(is_blank).unwrap_or(bytes.len());
        let (scheme, rest) = bytes.split_at_checked(scheme_ends).unwrap_or((bytes, b""));
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(Credentials::None);
        }
        // RFC 6750, section 2.1: "Bearer" 1*SP b64token. We take the one space that clients send.
        let Some(token) = rest.strip_prefix(b" ") else {
            return if rest.is_empty() {
                Ok(Credentials::Bearer(b""))
            } else {
                Err(BadRequest::Authorization)
            };
        };
        if token.first().is_some_and(is_blank) || memchr::memchr(b',', token).is_some() {
            return Err(BadRequest::Authorization);
        }
        Ok(Credentials::Bearer(token))
    }
}

/// Whether a refused request asked for its errors in an envelope, whatever else is wrong with it.
pub fn wants_envelope(parts: &Parts) -> bool {
    parts.uri.query().is_some_and(query::asks_for_envelope)
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer([redacted])",
            Self::None => "None",
        })
    }
}

fn target(parts: &Parts) -> Result<&PathAndQuery, BadRequest> {
    if parts.method == Method::CONNECT {
        return Err(BadRequest::Connect);
    }
    // RFC 9110, section 9.3.7: it asks about the server, not about a resource.
    if parts.method == Method::OPTIONS && parts.uri == "*" {
        return Err(BadRequest::Method);
    }
    let target = parts.uri.path_and_query().ok_or(BadRequest::Target)?;
    let text = target.as_str();
    // HTTP/2 always carries scheme and authority beside the path; in HTTP/1 they make the request one
    // to a proxy (RFC 9112, section 3.2.2), which this is not.
    let to_a_proxy = parts.version <= Version::HTTP_11 && parts.uri.authority().is_some();
    // Which of the two it is, a proxy that ends TLS may say as it likes. An empty one is none to hyper.
    let is_of_http = match parts.uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https"),
        None => parts.uri.authority().is_none(),
    };
    if to_a_proxy || !is_of_http || !text.starts_with('/') {
        return Err(BadRequest::Target);
    }
    if text.len() > LONGEST_TARGET {
        return Err(BadRequest::TargetTooLong);
    }
    // hyper lets these through, although no URI holds them (RFC 3986, appendix A).
    let text = text.as_bytes();
    if !all_between(text, b'!', b'~') || memchr::memchr(b'\\', text).is_some() {
        return Err(BadRequest::Target);
    }
    Ok(target)
}

fn host<'r>(parts: &'r Parts, hosts: Values<'r>) -> Result<&'r str, BadRequest> {
    if hosts.is_repeated() {
        return Err(BadRequest::Host);
    }
    let host = match (hosts.first(), parts.uri.authority()) {
        (Some(host), None) => host.as_bytes(),
        (Some(host), Some(authority)) if host == authority.as_str() => host.as_bytes(),
        (None, Some(authority)) => authority.as_str().as_bytes(),
        // RFC 9112, section 3.2: only HTTP/1.0 may come without a Host.
        (None, None) if parts.version < Version::HTTP_11 => b"localhost",
        (_, _) => return Err(BadRequest::Host),
    };
    // Not by `all`, which takes twice as many instructions for a byte.
    let is_one = host.iter().fold(true, |all, byte| all & is_in_hosts(*byte));
    if host.is_empty() || host.len() > LONGEST_HOST || !is_one {
        return Err(BadRequest::Host);
    }
    str::from_utf8(host).map_err(|_| BadRequest::Host)
}

/// Whether a byte may stand in a host and its port (RFC 3986, section 3.2).
fn is_in_hosts(byte: u8) -> bool {
    IN_HOSTS.get(usize::from(byte)).is_some_and(|is_in| *is_in)
}

/// Looked up: most hosts are too short for many bytes to be looked at together.
const IN_HOSTS: [bool; 256] = letters_digits_and(b"-._~%!$&'()*+;=:[]");

/// One of the two paths, with its free segments as they arrived.
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

fn wants_no_cache(cache_control: Values<'_>) -> bool {
    cache_control
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

const LONGEST_HOST: usize = 255 + ":65535".len();
const LONGEST_TARGET: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_unreserved_bytes_and_the_marks_of_addresses_and_ports() {
        let marks = b"-._~%!$&'()*+;=:[]";
        for byte in 0..=u8::MAX {
            let may = byte.is_ascii_alphanumeric() || marks.contains(&byte);
            assert_eq!(is_in_hosts(byte), may, "{byte:#x}");
        }
    }
}
