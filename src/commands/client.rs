//! What the commands for people ask of a running gateway, as any caller would.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Request, Url};
use serde::Deserialize;
use tokio::runtime;

use crate::http_client::{CallBounds, ClientOptions, HttpClient, HttpReply, ProxySettings};
use crate::system::{Clock, Trust};
use crate::telemetry::Chain;

/// Which gateway, and who asks.
#[derive(Debug, Args)]
pub(super) struct ClientArguments {
    /// The gateway: `https://certs.internal`; http:// only for a loopback address.
    #[arg(long, value_name = "URL")]
    url: Url,
    /// The caller's token, on the first line of a file.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Roots that are trusted beside the system's, in PEM.
    #[arg(long, value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
    /// The project.
    #[arg(long, value_name = "GROUP_ID")]
    pub(super) group: String,
    /// How long the answer may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Why there is no answer. It never holds the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("{url} answers {status} {code}: {detail}")]
    Answer {
        url: Box<Url>,
        status: StatusCode,
        code: String,
        detail: String,
    },
    #[error("{url} cannot be asked: {why}")]
    Silent { url: Box<Url>, why: String },
    #[error("the token file {} cannot be used: {why}", .path.display())]
    Token { path: PathBuf, why: String },
    #[error("{0} would send the token in clear: use https://, or a loopback address")]
    Clear(Box<Url>),
    #[error("{0} is no answer of a gateway: is the URL that of the callers' listener?")]
    Unknown(Box<Url>),
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(rename = "errorCode", default)]
    code: String,
    #[serde(default)]
    detail: String,
}

impl ClientArguments {
    /// Asks for a path of the gateway, in one of these media types.
    pub(super) fn get(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        accept: &'static str,
    ) -> Result<HttpReply, Unanswered> {
        let mut url = self.url.clone();
        let is_local = match url.host_str() {
            Some("localhost") => true,
            Some(host) => {
                let address = host.trim_start_matches('[').trim_end_matches(']');
                address
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|it| it.is_loopback())
            }
            None => false,
        };
        if url.scheme() != "https" && !is_local {
            return Err(Unanswered::Clear(Box::new(url)));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::new(Method::GET, url.clone());
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization()?);
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let silent = |why: String| Unanswered::Silent {
            url: Box::new(url.clone()),
            why,
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| silent(error.to_string()))?;
        let reply = runtime.block_on(self.send(request)).map_err(silent)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let Ok(document) = serde_json::from_slice::<ErrorDocument>(&reply.body) else {
            return Err(Unanswered::Unknown(Box::new(url)));
        };
        Err(Unanswered::Answer {
            url: Box::new(url),
            status: reply.status,
            code: document.code,
            detail: document.detail,
        })
    }

    async fn send(&self, request: Request) -> Result<HttpReply, String> {
        let (clock, time) = (Clock::system(), Duration::from_secs(self.timeout));
        let options = ClientOptions {
            trust: Trust {
                system: true,
                own: self.ca_certificate.as_deref(),
            },
            only_https: false,
            proxy: ProxySettings {
                url: None,
                password_file: None,
                password: None,
            },
            resolver: None,
            connect: time,
            first_byte: time,
            idle_connections: 1,
        };
        let client = HttpClient::build(options, clock.clone());
        let client = client.map_err(|error| Chain(&error).to_string())?;
        let bounds = CallBounds {
            bytes: LARGEST_ANSWER,
            time,
            from: clock.elapsed(),
        };
        let reply = client.send(request, bounds).await;
        reply.map_err(|error| error.to_string())
    }

    fn authorization(&self) -> Result<HeaderValue, Unanswered> {
        let unusable = |why: String| Unanswered::Token {
            path: self.token_file.clone(),
            why,
        };
        let text = fs::read_to_string(&self.token_file);
        let text = text.map_err(|error| unusable(error.to_string()))?;
        let token = text.lines().next().unwrap_or("").trim();
        if token.is_empty() {
            return Err(unusable("its first line is empty".to_owned()));
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| unusable("its first line is no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

const LARGEST_ANSWER: u64 = 64 << 20;
