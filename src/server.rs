//! The HTTP server: its listeners, their limits, and the settings of the public one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gateway::LookupLimits;
use crate::settings::{self, ConfigError, Ranges, Size};

mod accept;
pub mod admin;
pub mod api_version;
pub mod body;
pub(crate) mod connection;
mod expirations;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod hosts;
pub mod negotiation;
mod openapi;
pub(crate) mod proxies;
mod proxy_protocol;
pub(crate) mod public;
pub mod public_url;
pub mod query;
pub mod request;
pub mod response;
pub(crate) mod service;
pub mod tls;
pub mod unsent_budget;

use self::hosts::Hosts;
use self::proxies::Proxies;
use self::public_url::PublicUrl;

/// Settings of the public listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct Config {
    #[serde(deserialize_with = "settings::socket_address")]
    pub listen: SocketAddr,
    pub(crate) fast_path: bool,
    pub(crate) hosts: Hosts,
    pub limits: ServerLimits,
    pub(crate) proxy_protocol: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<PublicUrl>,
    pub tls: Option<tls::Config>,
    pub(crate) trusted_proxies: Proxies,
}

/// What bounds a connection and a request. Every one is on by default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct ServerLimits {
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) connections: usize,
    #[serde(with = "settings::duration")]
    pub(crate) connection_age: Duration,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) connections_per_source: usize,
    #[serde(with = "settings::duration")]
    pub drain_grace: Duration,
    #[serde(with = "settings::duration")]
    pub drain_lead: Duration,
    #[serde(with = "settings::duration")]
    pub(crate) first_byte: Duration,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) headers: usize,
    #[serde(with = "settings::duration")]
    pub(crate) head: Duration,
    pub(crate) head_size: Size,
    #[serde(with = "settings::duration")]
    pub(crate) idle: Duration,
    #[serde(deserialize_with = "settings::whole")]
    pub in_flight: usize,
    #[serde(with = "settings::duration")]
    pub(crate) request: Duration,
    #[serde(with = "settings::duration")]
    pub(crate) response: Duration,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) streams: u32,
    pub(crate) unsent: Size,
    pub(crate) unsent_total: Size,
    #[serde(with = "settings::duration")]
    pub(crate) write_stall: Duration,
}

#[derive(Debug)]
pub(crate) struct Bound {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
}

#[derive(Debug, Default)]
pub(crate) struct PassedSockets {
    pub(crate) callers: Option<std::net::TcpListener>,
    pub(crate) operators: Option<std::net::TcpListener>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            fast_path: true,
            hosts: Hosts::default(),
            limits: ServerLimits::default(),
            proxy_protocol: false,
            public_url: None,
            tls: None,
            trusted_proxies: Proxies::default(),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connection_age: Duration::from_hours(1),
            connections_per_source: 1_000,
            drain_grace: Duration::from_secs(30),
            drain_lead: Duration::from_secs(5),
            first_byte: Duration::from_secs(5),
            headers: 64,
            head: Duration::from_secs(5),
            head_size: Size::kibibytes(16),
            idle: Duration::from_mins(1),
            in_flight: 10_000,
            request: Duration::from_secs(15),
            response: Duration::from_mins(1),
            streams: 100,
            unsent: Size::mebibytes(4),
            unsent_total: Size::mebibytes(64),
            write_stall: Duration::from_secs(10),
        }
    }
}

impl ServerLimits {
    pub(crate) fn of_lookups(&self) -> LookupLimits {
        LookupLimits {
            request: self.request,
            in_flight: self.in_flight,
        }
    }

    fn check(&self, config_errors: &mut Vec<ConfigError>) {
        let usual = Self::default();
        let mut ranges = Ranges::of("server.limits", config_errors);
        let many = 1..=1_000_000;
        for (key, count, allowed, example) in [
            ("connections", self.connections, &many, usual.connections),
            (
                "connections_per_source",
                self.connections_per_source,
                &many,
                usual.connections_per_source,
            ),
            ("headers", self.headers, &(1..=1_000), usual.headers),
            ("in_flight", self.in_flight, &many, usual.in_flight),
        ] {
            ranges.check(key, count, allowed.clone(), example);
        }
        ranges.check("streams", self.streams, 1..=10_000, usual.streams);
        // hyper's buffer holds a whole head and cannot be smaller.
        let head_size = Size::kibibytes(8)..=Size::mebibytes(1);
        ranges.check("head_size", self.head_size, head_size, usual.head_size);
        // At least one answer, made piece by piece, must fit.
        let unsent = Size::kibibytes(64)..=Size::mebibytes(1 << 10);
        let least = if unsent.contains(&self.unsent) {
            self.unsent
        } else {
            *unsent.start()
        };
        let total = least..=Size::mebibytes(1 << 20);
        ranges.check("unsent", self.unsent, unsent, usual.unsent);
        ranges.check("unsent_total", self.unsent_total, total, usual.unsent_total);
        let any = Duration::from_millis(1);
        let (hour, month) = (Duration::from_hours(1), Duration::from_hours(30 * 24));
        for (key, span, longest, example) in [
            (
                "connection_age",
                self.connection_age,
                month,
                usual.connection_age,
            ),
            ("first_byte", self.first_byte, hour, usual.first_byte),
            ("head", self.head, hour, usual.head),
            ("idle", self.idle, month, usual.idle),
            ("request", self.request, hour, usual.request),
            ("response", self.response, hour, usual.response),
            // The kernel takes it as milliseconds in 31 bits, and refuses what is longer.
            ("write_stall", self.write_stall, hour, usual.write_stall),
        ] {
            ranges.check(key, span, any..=longest, example);
        }
        for (key, span, example) in [
            ("drain_grace", self.drain_grace, usual.drain_grace),
            ("drain_lead", self.drain_lead, usual.drain_lead),
        ] {
            ranges.check(key, span, Duration::ZERO..=hour, example);
        }
    }
}

impl Config {
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = self.hosts.config_errors("server.hosts");
        config_errors.extend(self.trusted_proxies.config_errors());
        self.limits.check(&mut config_errors);
        config_errors
    }

    pub(crate) fn warnings(&self) -> Vec<ConfigError> {
        let (limits, usual) = (&self.limits, ServerLimits::default());
        let connections = settings::never_reached(
            (
                "server.limits.connections_per_source",
                limits.connections_per_source,
            ),
            usual.connections_per_source,
            ("server.limits.connections", limits.connections),
        );
        let stall = settings::never_reached(
            ("server.limits.write_stall", limits.write_stall),
            usual.write_stall,
            ("server.limits.response", limits.response),
        );
        let unused = self.proxy_protocol && self.trusted_proxies.is_empty();
        let unused = unused.then(|| {
            let message =
                "has no effect without `server.trusted_proxies`, of which the header is demanded";
            ConfigError::at("server.proxy_protocol", message)
        });
        connections.into_iter().chain(stall).chain(unused).collect()
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(tls::Config::files);
        tls.cloned().collect()
    }
}

impl Bound {
    pub(crate) async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn take(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
