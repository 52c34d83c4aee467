//! The target, the host and the bearer token of a request, if they are such as an origin server takes.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version, header};

use super::{BadRequest, LONGEST_TARGET};
use crate::server::head::{all_between, letters_digits_and};

/// Proof that a request's target and host are such as an origin server takes. Without it there is no way to
/// a caller's credentials:
///
/// ```compile_fail,E0451
/// use atlas_cert_gateway::server::request::Addressed;
///
/// let forged = Addressed { path: "*", query: "", host: "", is_absolute: false };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'r> {
    pub(super) path: &'r str,
    pub(super) query: &'r str,
    host: &'r str,
    pub(super) is_absolute: bool,
}

/// What stands in `Authorization`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BearerCredentials<'r> {
    /// A token to be verified: ASCII.
    Bearer(&'r [u8]),
    /// Nothing, or a scheme that is not ours.
    None,
}

impl<'r> Addressed<'r> {
    /// Judges a request's head.
    pub fn read(parts: &'r Parts) -> Result<Self, BadRequest> {
        let target = target(parts)?;
        Ok(Self {
            path: target.path(),
            query: target.query().unwrap_or(""),
            host: host(parts)?,
            // HTTP/2 always carries scheme and authority beside the path.
            is_absolute: parts.version <= Version::HTTP_11 && parts.uri.authority().is_some(),
        })
    }

    /// The host that was addressed, with its port where the caller gave one.
    pub fn host(self) -> &'r str {
        self.host
    }

    /// Whether the target names the host, as in a request to a proxy.
    pub(in crate::server) fn is_absolute(self) -> bool {
        self.is_absolute
    }

    /// The bearer token of the request.
    pub fn credentials(
        self,
        headers: &HeaderMap,
        token_in_query: bool,
    ) -> Result<BearerCredentials<'_>, BadRequest> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(BearerCredentials::None);
        };
        if values.next().is_some() {
            return Err(BadRequest::Authorization);
        }
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
            return Ok(BearerCredentials::Bearer(token));
        }
        // Bytes beyond ASCII cannot be a token, so there is none.
        if !bytes.is_ascii() {
            return Ok(BearerCredentials::None);
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = bytes.iter().rposition(|byte| !is_blank(byte));
        let (bytes, _) = bytes.split_at(end.map_or(0, |end| end + 1));
        let scheme_ends = bytes.iter().position(is_blank).unwrap_or(bytes.len());
        let (scheme, rest) = bytes.split_at(scheme_ends);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(BearerCredentials::None);
        }
        // RFC 6750, section 2.1: "Bearer" 1*SP b64token. We take the one space that clients send.
        let Some(token) = rest.strip_prefix(b" ") else {
            return if rest.is_empty() {
                Ok(BearerCredentials::Bearer(b""))
            } else {
                Err(BadRequest::Authorization)
            };
        };
        if token.first().is_some_and(is_blank) || memchr::memchr(b',', token).is_some() {
            return Err(BadRequest::Authorization);
        }
        Ok(BearerCredentials::Bearer(token))
    }
}

impl std::fmt::Debug for BearerCredentials<'_> {
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
    // Which of the two it is, a proxy that ends TLS may say as it likes. An empty one is none to hyper.
    let is_of_http = match parts.uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https"),
        None => parts.uri.authority().is_none(),
    };
    if !is_of_http || !text.starts_with('/') {
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

fn host(parts: &Parts) -> Result<&str, BadRequest> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadRequest::Host);
    }
    let host = match (host, parts.uri.authority()) {
        (Some(host), None) => host.as_bytes(),
        // RFC 9112, section 3.2.2: the target's counts. Who forwards by one and routes by the other can be
        // made to do both, so they have to be the same.
        (Some(host), Some(authority))
            if host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            authority.as_str().as_bytes()
        }
        (None, Some(authority)) if parts.version != Version::HTTP_11 => {
            authority.as_str().as_bytes()
        }
        // RFC 9112, section 3.2: only HTTP/1.0 may come without a Host.
        (None, None) if parts.version < Version::HTTP_11 => b"localhost",
        (_, _) => return Err(BadRequest::Host),
    };
    if !is_host(host) {
        return Err(BadRequest::Host);
    }
    str::from_utf8(host).map_err(|_| BadRequest::Host)
}

/// Whether this may be a host, maybe with a port.
pub(in crate::server) fn is_host(host: &[u8]) -> bool {
    // Not by `all`, which takes twice as many instructions for a byte.
    let is_one = host.iter().fold(true, |all, byte| all & is_in_hosts(*byte));
    is_one && !host.is_empty() && host.len() <= LONGEST_HOST
}

/// Whether a byte may stand in a host and its port (RFC 3986, section 3.2).
fn is_in_hosts(byte: u8) -> bool {
    IN_HOSTS
        .get(usize::from(byte))
        .copied()
        .expect("there are 256 bytes")
}

/// Looked up: most hosts are too short for many bytes to be looked at together.
const IN_HOSTS: [bool; 256] = letters_digits_and(b"-._~%!$&'()*+;=:[]");

const LONGEST_HOST: usize = 255 + ":65535".len();

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
