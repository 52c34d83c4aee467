//! The public URL of this gateway, with which its links begin.

use http::Uri;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::api_version::ApiVersion;
use crate::cache::Address;

/// `https://certs.internal`, maybe with a port and a path below which an ingress has put the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: &'static str,
    host: String,
    /// Of each version of the API, in the order of [`ApiVersion`].
    roots: [String; 2],
}

impl PublicUrl {
    pub(crate) fn address(&self, version: ApiVersion) -> Address<'_> {
        let [v1, v2] = &self.roots;
        Address {
            scheme: self.scheme,
            host: &self.host,
            root: match version {
                ApiVersion::V1 => v1,
                ApiVersion::V2 => v2,
            },
        }
    }

    /// The URL of a path of this gateway.
    pub(super) fn of_path(&self, path: &str) -> String {
        format!("{}://{}{}{path}", self.scheme, self.host, self.path())
    }

    /// Below which an ingress has put the gateway.
    fn path(&self) -> &str {
        let [v1, _] = &self.roots;
        let path = v1.strip_suffix(ApiVersion::V1.root());
        path.expect("a root ends with its version's")
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    fn read(text: &str) -> Option<Self> {
        let url: Uri = text.parse().ok()?;
        let scheme = match url.scheme_str()? {
            "http" => "http",
            "https" => "https",
            _ => return None,
        };
        let authority = url.authority()?;
        // A fragment is dropped unread, and a user is nothing that links tell.
        let is_bare = url.query().is_none() && !text.contains(['#', '@', '"', '\\']);
        let has_none = authority.as_str().len() == authority.host().len();
        let port_is_one = has_none || authority.port_u16().is_some_and(|port| port > 0);
        if authority.host().is_empty() || !is_bare || !port_is_one {
            return None;
        }
        let path = url.path().trim_end_matches('/');
        if path.split('/').any(|part| matches!(part, "." | "..")) || path.contains("//") {
            return None;
        }
        let root = |version: ApiVersion| format!("{path}{}", version.root());
        Some(Self {
            scheme,
            host: authority.as_str().to_owned(),
            roots: [root(ApiVersion::V1), root(ApiVersion::V2)],
        })
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))?;
        Self::read(&text).ok_or_else(|| D::Error::custom(FORM))
    }
}

impl Serialize for PublicUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.of_path(""))
    }
}

const FORM: &str = "a public URL is http:// or https:// and the host by which callers find this gateway, \
                    such as \"https://certs.internal\", without user, query or fragment";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_the_url_whatever_ends_it() {
        for (text, root, printed) in [
            ("https://certs.internal", "", "https://certs.internal"),
            ("https://certs.internal/", "", "https://certs.internal"),
            ("http://10.0.0.1:8080", "", "http://10.0.0.1:8080"),
            (
                "https://[2001:db8::1]:8443",
                "",
                "https://[2001:db8::1]:8443",
            ),
            (
                "https://i.example/atlas/certs/",
                "/atlas/certs",
                "https://i.example/atlas/certs",
            ),
        ] {
            let url = PublicUrl::read(text).unwrap();
            let address = url.address(ApiVersion::V2);
            assert_eq!(address.root, format!("{root}/api/atlas/v2"), "{text}");
            assert_eq!(serde_json::to_value(&url).unwrap(), printed, "{text}");
        }
    }

    #[test]
    fn what_no_link_can_begin_with_is_refused() {
        for text in [
            "",
            "certs.internal",
            "/certs",
            "ftp://certs.internal",
            "https://",
            "https:///certs",
            "https://user@certs.internal",
            "https://user:word@certs.internal",
            "https://a?b",
            "https://a#b",
            "https://a/../b",
            "https://a//b",
            "https://a:0",
            "https://a:x",
            "https://a:70000",
            "https://a:",
            "https://a b",
            "https://a/\"b",
            "mailto:a@b",
        ] {
            assert_eq!(PublicUrl::read(text), None, "{text}");
        }
    }
}
