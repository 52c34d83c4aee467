//! The HTTP client of all calls to Atlas, bound to one origin.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, Method};
use reqwest::dns::Resolve;
use reqwest::{Body, Request, Url};
use tracing::Instrument;

use super::config::{Config, origin};
use crate::http_client::{
    CallBounds, ClientBuildError, ClientOptions, HttpClient, HttpErrorKind, HttpReply, ProxyError,
};
use crate::settings::ConfigError;
use crate::system::{Clock, NoTls};
use crate::telemetry::Chain;
use crate::telemetry::metrics::upstream::{Endpoint, UpstreamMetrics};
use crate::telemetry::traces::ClientCall;

#[derive(Clone)]
pub(super) struct AtlasClient {
    client: Arc<HttpClient>,
    clock: Clock,
    metrics: UpstreamMetrics,
    origin: Url,
}

impl AtlasClient {
    pub(super) fn build(
        config: &Config,
        clock: &Clock,
        metrics: &UpstreamMetrics,
        resolver: Option<Arc<dyn Resolve>>,
    ) -> Result<Self, Vec<ConfigError>> {
        let limits = &config.limits;
        let options = ClientOptions {
            trust: config.trust(),
            only_https: config.base_url.starts_with("https://"),
            proxy: config.proxy(),
            resolver,
            connect: limits.connect,
            first_byte: limits.first_byte,
            idle_connections: limits.concurrency,
        };
        let client = HttpClient::build(options, clock.clone()).map_err(|error| {
            let place = match &error {
                ClientBuildError::Proxy(ProxyError::Url(_)) => "atlas.proxy",
                ClientBuildError::Proxy(ProxyError::Password(_)) => "atlas.proxy_password_file",
                ClientBuildError::Roots(NoTls::Own(_)) => "atlas.ca_certificate",
                ClientBuildError::Roots(NoTls::Rootless | NoTls::Unspeakable(_))
                | ClientBuildError::Tls(_) => "atlas",
            };
            vec![ConfigError::at(place, Chain(&error).to_string())]
        })?;
        Ok(Self {
            client: Arc::new(client),
            clock: clock.clone(),
            metrics: metrics.clone(),
            origin: origin(&config.base_url).expect("it was checked with the configuration"),
        })
    }

    /// The URL of exactly this path; `None` if the URL's parser would rewrite it.
    ///
    /// A path that changed on its way into the request would be asked for with our credential, which may
    /// read more than what the caller was allowed. It never names another host: it is set behind the origin.
    pub(super) fn url(&self, path: &str) -> Option<Url> {
        let mut url = self.origin.clone();
        url.set_path(path);
        let is_same = url.path() == path && !path.starts_with("//");
        is_same.then_some(url)
    }

    /// Sends one request, with nothing in it but what is said here, and reads the whole answer. `resends`
    /// is how many times it was sent before.
    pub(super) async fn send(
        &self,
        endpoint: Endpoint,
        (url, headers, form): (Url, HeaderMap, Option<String>),
        bounds: CallBounds,
        resends: u32,
    ) -> Result<HttpReply, HttpErrorKind> {
        let method = if form.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let host = self.origin.host_str().expect("an origin has a host");
        let port = self.origin.port_or_known_default();
        let span = ClientCall {
            method: if form.is_some() { "POST" } else { "GET" },
            template: endpoint.template(),
            place: (host, port.expect("http and https have a port")),
            resends,
        }
        .span();
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = form.map(Body::from);
        // Pinned, as it is large and would be moved into what is wrapped around it.
        let reply = pin!(self.client.send(request, bounds));
        let reply = reply.instrument(span.span()).await;
        let reply = reply.map_err(|error| error.kind);
        let status = reply.as_ref().map(|reply| reply.status.as_u16());
        span.answered(status.map_err(|kind| kind.word()));
        let took = self.clock.elapsed().saturating_sub(bounds.from);
        let status = status.unwrap_or(0);
        self.metrics.called(endpoint, status, took.as_secs_f64());
        reply
    }

    pub(super) fn leave_connections(&self) {
        self.client.leave_connections();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_would_be_rewritten_is_never_sent() {
        let (clock, metrics) = (Clock::system(), UpstreamMetrics::default());
        let client = AtlasClient::build(&Config::default(), &clock, &metrics, None).unwrap();
        let sent = |path: &str| Some(client.url(path)?.to_string());
        let base = "/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers";
        for same in [
            format!("{base}/a%2Fb/certs"),
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
            format!("{base}/a?b/certs"),
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
