//! The wire to Atlas: a request for one target goes in, a whole answer of bounded size comes out, or how
//! it was lost.

use std::fmt;
use std::sync::Arc;

use http::Method;
use reqwest::dns::Resolve;
use reqwest::{Request, Url};

use super::config::{Config, origin};
use crate::clock::Clock;
use crate::http_client::{BuildError, HttpClient, ProxyError, Setup};
use crate::roots::NoTls;
use crate::settings::ConfigError;
use crate::telemetry::Chain;

pub use crate::http_client::HttpErrorKind;
pub(crate) use crate::http_client::{Answer, Bounds};

/// The client of all calls to Atlas, bound to one origin.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Arc<HttpClient>,
    /// Scheme, host and port of Atlas, and nothing behind them.
    origin: Url,
}

impl HttpErrorKind {
    /// One of a few words, for traces.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Encoded | Self::Malformed | Self::TooLarge => "invalid",
            Self::NoConnection | Self::Reset | Self::Torn => "connection",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
        }
    }
}

impl Transport {
    pub(crate) fn build(
        config: &Config,
        clock: Clock,
        names: Option<&Arc<dyn Resolve>>,
    ) -> Result<Self, Vec<ConfigError>> {
        let limits = &config.limits;
        let setup = Setup {
            trust: config.trust(),
            only_https: config.base_url.starts_with("https://"),
            proxy: config.proxy(),
            resolver: names.cloned(),
            connect: limits.connect,
            first_byte: limits.first_byte,
            idle_connections: limits.concurrency,
        };
        let client = HttpClient::build(setup, clock).map_err(|error| {
            let place = match &error {
                BuildError::Proxy(ProxyError::Url(_)) => "atlas.proxy",
                BuildError::Proxy(ProxyError::Password(_)) => "atlas.proxy_password_file",
                BuildError::Roots(NoTls::Own(_)) => "atlas.ca_certificate",
                BuildError::Roots(NoTls::Rootless | NoTls::Unspeakable(_)) | BuildError::Tls(_) => {
                    "atlas"
                }
            };
            ConfigError::at(place, Chain(&error).to_string())
        });
        let origin = origin(&config.base_url);
        let origin = origin.map_err(|message| ConfigError::at("atlas.base_url", message));
        match (client, origin) {
            (Ok(client), Ok(origin)) => Ok(Self {
                client: Arc::new(client),
                origin,
            }),
            (client, origin) => {
                let config_errors = [client.err(), origin.err()];
                Err(config_errors.into_iter().flatten().collect())
            }
        }
    }

    /// Whom everything is sent to: a host and its port.
    pub(crate) fn place(&self) -> (&str, u16) {
        let port = self.origin.port_or_known_default().unwrap_or_default();
        (self.origin.host_str().unwrap_or_default(), port)
    }

    /// A request for exactly this target; `None` if the URL's parser would rewrite it.
    ///
    /// A path that changed on its way into the request would be asked for with our credential, which
    /// may read more than what the caller was allowed. Nor may a target name another host, as one with
    /// two slashes at its beginning would: what is sent is the origin, and behind it the target.
    pub(crate) fn request(&self, method: Method, target: &str) -> Option<Request> {
        let url = self.origin.join(target).ok()?;
        let origin = self.origin.as_str().strip_suffix('/')?;
        let is_same = url.as_str().strip_prefix(origin) == Some(target);
        if !is_same || !target.starts_with('/') || url.fragment().is_some() {
            return None;
        }
        Some(Request::new(method, url))
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request,
        bounds: Bounds,
    ) -> Result<Answer, HttpErrorKind> {
        let answer = self.client.send(request, bounds).await;
        answer.map_err(|failed| failed.kind)
    }

    /// The next call uses new connections.
    pub(crate) fn leave_connections(&self) {
        self.client.leave_connections();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("origin", &self.origin.as_str())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_would_be_rewritten_is_never_sent() {
        let config = Config::default();
        let transport = Transport::build(&config, Clock::system(), None).unwrap();
        let sent = |target: &str| {
            let request = transport.request(Method::GET, target)?;
            Some(request.url().as_str().to_owned())
        };
        let base = "/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers";
        for same in [
            format!("{base}/a%2Fb/certs?pageNum=1"),
            format!("{base}/CN%3Dapp1/certs"),
            format!("{base}/..%3B/certs"),
        ] {
            let expected = format!("https://cloud.mongodb.com{same}");
            assert_eq!(sent(&same), Some(expected));
        }
        for changed in [
            format!("{base}/../certs"),
            format!("{base}/%2e%2E/certs"),
            format!("{base}/a\tb/certs"),
            format!("{base}/a b/certs"),
            format!("{base}/a#b/certs"),
            format!("{base}\\x"),
            ".evil.example/certs".to_owned(),
            "@evil.example/certs".to_owned(),
            ":80/certs".to_owned(),
            "//evil.example/certs".to_owned(),
            "https://evil.example/certs".to_owned(),
            String::new(),
        ] {
            assert_eq!(sent(&changed), None, "{changed}");
        }
    }
}
