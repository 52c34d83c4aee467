//! The proxy on the way out, as a section of the configuration names it: its URL with the user in it, and
//! the password from a file or the environment.

use std::path::Path;

use percent_encoding::percent_decode_str;
use reqwest::{Proxy, Url};

use crate::system::{Secret, SecretFileError};

/// What a section says of its proxy. The system's proxy variables are not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxySettings<'s> {
    /// `proxy`: `http://egress.internal:3128`, or `http://user@egress.internal:3128`.
    pub(crate) url: Option<&'s str>,
    /// `proxy_password_file`.
    pub(crate) password_file: Option<&'s Path>,
    /// The same password, which only ever comes from the environment.
    pub(crate) password: Option<&'s Secret>,
}

/// Why there is no such proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The password cannot be read.
    #[error("the proxy's password cannot be used")]
    Password(#[source] SecretFileError),
    /// What is given as a proxy is none.
    #[error("{0}")]
    Url(&'static str),
}

/// A proxy's URL and the user in it.
struct ProxyAddress {
    url: Url,
    user: Option<String>,
}

impl ProxySettings<'_> {
    /// What cannot be meant: the key that it is said of, and what to write instead. Reads no file.
    pub(crate) fn config_error(&self) -> Option<(&'static str, &'static str)> {
        let has_password = self.password_file.is_some() || self.password.is_some();
        let Some(url) = self.url else {
            return has_password.then_some(("proxy_password_file", WITHOUT_PROXY));
        };
        match (ProxyAddress::read(url), has_password) {
            (Err(message), _) => Some(("proxy", message)),
            (Ok(ProxyAddress { user: None, .. }), true) => Some(("proxy", WITHOUT_USER)),
            (Ok(ProxyAddress { user: Some(_), .. }), false) => Some(("proxy", WITHOUT_PASSWORD)),
            (Ok(_), _) => (self.password_file.is_some() && self.password.is_some())
                .then_some(("proxy_password_file", TWO_PASSWORDS)),
        }
    }

    /// The proxy, if there is one. Reads the password's file: waits for the disk.
    pub(super) fn read(&self) -> Result<Option<Proxy>, ProxyError> {
        let Some(url) = self.url else { return Ok(None) };
        let ProxyAddress { url, user } = ProxyAddress::read(url).map_err(ProxyError::Url)?;
        let proxy = Proxy::all(url).map_err(|_| ProxyError::Url(NO_URL))?;
        let Some(user) = user else {
            return Ok(Some(proxy));
        };
        let read = self.password_file.map(Secret::read).transpose();
        let read = read.map_err(ProxyError::Password)?;
        let password = read.as_ref().or(self.password);
        let password = password.ok_or(ProxyError::Url(WITHOUT_PASSWORD))?;
        Ok(Some(proxy.basic_auth(&user, password.expose())))
    }
}

impl ProxyAddress {
    fn read(text: &str) -> Result<Self, &'static str> {
        let mut url = Url::parse(text).map_err(|_| NO_URL)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with http:// or https://");
        }
        if url.password().is_some() {
            return Err(
                "must not hold a password: write http://user@host:port, and the password into a file \
                 that `proxy_password_file` names",
            );
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(
                "only a scheme, a user, a host and a port: http://user@egress.internal:3128",
            );
        }
        let user = percent_decode_str(url.username()).decode_utf8();
        let user = user
            .map_err(|_| "the user in it is no UTF-8 text")?
            .into_owned();
        // RFC 7617, section 2: a colon would end it.
        if user.contains(|sign: char| sign == ':' || sign.is_control()) {
            return Err("the user in it holds a colon or a control character");
        }
        // The user goes into a header, and not into what is logged.
        url.set_username("").map_err(|()| NO_URL)?;
        Ok(Self {
            url,
            user: (!user.is_empty()).then_some(user),
        })
    }
}

const NO_URL: &str = "is no URL of a proxy; write http://egress.internal:3128";
const WITHOUT_USER: &str =
    "there is a password and no user: write http://user@egress.internal:3128";
const WITHOUT_PASSWORD: &str =
    "it names a user; the file with the password is `proxy_password_file`";
const WITHOUT_PROXY: &str = "it is the password of a proxy, and `proxy` names none";
const TWO_PASSWORDS: &str =
    "give `proxy_password_file`, or the password in the environment, and not both";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_user_and_a_password_or_neither_and_no_secret_in_its_url() {
        let secret = Secret::new("canary".to_owned());
        let file = Path::new("password");
        for (url, password_file, password, expected) in [
            (None, None, None, None),
            (Some("http://egress:3128"), None, None, None),
            (Some("https://egress"), None, None, None),
            (Some("http://gateway@egress:3128"), Some(file), None, None),
            (Some("http://a%40b@egress:3128/"), None, Some(&secret), None),
            (None, Some(file), None, Some("proxy_password_file")),
            (
                Some("http://gateway@egress"),
                Some(file),
                Some(&secret),
                Some("proxy_password_file"),
            ),
            (Some("http://egress"), Some(file), None, Some("proxy")),
            (Some("http://gateway@egress"), None, None, Some("proxy")),
            (
                Some("http://gateway:canary@egress"),
                None,
                None,
                Some("proxy"),
            ),
            (Some("http://:canary@egress"), None, None, Some("proxy")),
            (
                Some("http://a%3Acanary@egress"),
                Some(file),
                None,
                Some("proxy"),
            ),
            (Some("http://egress/path"), None, None, Some("proxy")),
            (Some("http://egress?canary"), None, None, Some("proxy")),
            (Some("socks5://egress"), None, None, Some("proxy")),
            (Some("egress:3128"), None, None, Some("proxy")),
            (Some(""), None, None, Some("proxy")),
        ] {
            let settings = ProxySettings {
                url,
                password_file,
                password,
            };
            let config_error = settings.config_error();
            assert_eq!(config_error.map(|(key, _)| key), expected, "{url:?}");
            let said = config_error.map_or("", |(_, message)| message);
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
