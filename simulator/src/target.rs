//! The request target, byte for byte as it arrived, and the endpoint that it means.

use std::str;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `GET …/databaseUsers/{username}/certs`
    Certificates,
    /// `POST …/databaseUsers/{username}/certs`
    CreateCertificate,
    /// `GET …/databaseUsers`
    DatabaseUsers,
    /// `GET /api/atlas/v2/rateLimits`
    RateLimits,
    /// `POST /api/oauth/revoke`
    Revoke,
    /// `POST /api/oauth/token`
    Token,
    /// Anything else.
    Unknown,
}

/// Which form of the API a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// `/api/atlas/v2`, with versions in `Accept`.
    V2,
    /// `/api/atlas/v1.0`, plain JSON.
    V1,
}

/// A request target that has been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) api: Api,
    /// The project as it stands in the path, well-formed or not.
    pub(crate) project: Option<String>,
    /// The username after one decoding.
    pub(crate) username: Option<String>,
    /// Whether a username came in another encoding than the strict one. It names a user that does
    /// not exist, whatever it decodes to: that is how a rewritten path is noticed.
    pub(crate) misspelt: bool,
    /// Whether the path exists, but not with this method.
    pub(crate) wrong_method: bool,
}

impl Target {
    pub(crate) fn read(method: &Method, path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').collect();
        let (api, rest) = match segments.as_slice() {
            ["", "api", "atlas", "v2", rest @ ..] => (Api::V2, rest),
            ["", "api", "atlas", "v1.0", rest @ ..] => (Api::V1, rest),
            ["", "api", "oauth", "token"] => {
                return Self::plain(Endpoint::Token).on(method, "POST");
            }
            ["", "api", "oauth", "revoke"] => {
                return Self::plain(Endpoint::Revoke).on(method, "POST");
            }
            _ => return Self::plain(Endpoint::Unknown),
        };
        let target = match rest {
            ["groups", group, "databaseUsers"] => Self::plain(Endpoint::DatabaseUsers)
                .of(group)
                .on(method, "GET"),
            ["groups", group, "databaseUsers", name, "certs"] if !name.is_empty() => {
                Self::certificates(method).of(group).named(name)
            }
            ["rateLimits"] if api == Api::V2 => Self::plain(Endpoint::RateLimits).on(method, "GET"),
            _ => Self::plain(Endpoint::Unknown),
        };
        Self { api, ..target }
    }

    fn plain(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            api: Api::V2,
            project: None,
            username: None,
            misspelt: false,
            wrong_method: false,
        }
    }

    fn certificates(method: &Method) -> Self {
        if method == Method::POST {
            Self::plain(Endpoint::CreateCertificate)
        } else {
            Self::plain(Endpoint::Certificates).on(method, "GET")
        }
    }

    fn on(self, method: &Method, allowed: &str) -> Self {
        Self {
            wrong_method: method.as_str() != allowed,
            ..self
        }
    }

    fn of(self, group: &str) -> Self {
        Self {
            project: Some(group.to_owned()),
            ..self
        }
    }

    fn named(self, segment: &str) -> Self {
        match percent_decode_str(segment).decode_utf8() {
            Ok(name) => {
                let misspelt = strictly_encoded(&name) != segment;
                Self {
                    username: Some(name.into_owned()),
                    misspelt,
                    ..self
                }
            }
            Err(_) => Self {
                username: Some(segment.to_owned()),
                misspelt: true,
                ..self
            },
        }
    }
}

/// Whether this is an id as Atlas makes them: 24 lower-case hex digits.
pub(crate) fn is_project_id(text: &str) -> bool {
    text.len() == 24
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name as one path segment, all but the unreserved characters of RFC 3986 encoded.
pub(crate) fn strictly_encoded(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn certificates_of(segment: &str) -> Target {
        let path =
            format!("/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers/{segment}/certs");
        Target::read(&Method::GET, &path)
    }

    #[test]
    fn a_strictly_encoded_name_is_decoded_once() {
        for (segment, name) in [
            ("app1", "app1"),
            ("CN%3Dapp1", "CN=app1"),
            ("a%2Fb", "a/b"),
            ("100%25", "100%"),
            ("J%C3%BCrgen", "J\u{fc}rgen"),
        ] {
            let target = certificates_of(segment);
            assert_eq!(target.username.as_deref(), Some(name));
            assert!(!target.misspelt, "{segment}");
        }
    }

    #[test]
    fn every_other_spelling_is_noticed() {
        for segment in [
            "CN=app1",
            "CN%3dapp1",
            "%61pp1",
            "a+b",
            "a:b",
            "%ff",
            "%zz",
            "a%",
        ] {
            assert!(certificates_of(segment).misspelt, "{segment}");
        }
    }

    #[test]
    fn a_path_that_is_not_exactly_one_of_atlass_is_unknown() {
        for path in [
            "/",
            "/api/atlas/v2",
            "/api/atlas/v3/groups/g/databaseUsers/u/certs",
            "/api/atlas/v2/groups/g/databaseUsers//certs",
            "/api/atlas/v2/groups/g/databaseUsers/a/b/certs",
            "/api/atlas/v2/groups/g/databaseUsers/a/certs/",
            "//api/atlas/v2/groups/g/databaseUsers/a/certs",
            "/API/atlas/v2/groups/g/databaseUsers/a/certs",
            "/api/atlas/v1.0/rateLimits",
        ] {
            assert_eq!(
                Target::read(&Method::GET, path).endpoint,
                Endpoint::Unknown,
                "{path}"
            );
        }
    }
}
