//! The library's client as we set it up, one generation after the other: when nothing comes of the connections
//! of one, the next call goes to a client without any.
//!
//! All calls share one connection of HTTP/2, and a server can keep such a connection alive and answer nothing on
//! it: it answers pings, and allows no stream, resets each, or sends no byte (U14). The library would stay with
//! it for ever. So when a call has waited in vain, or two were reset, and no other call has had a whole answer
//! meanwhile either, the connections are left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;

use super::{ClientBuildError, ClientOptions};

type MakeClient = dyn Fn() -> Result<Client, reqwest::Error> + Send + Sync;

/// The client in use, and how another is made.
pub(super) struct Generations {
    make: Box<MakeClient>,
    current: Mutex<CurrentClient>,
}

/// Times are those of the clock's `elapsed`.
struct CurrentClient {
    client: Client,
    generation: u64,
    /// When the last whole answer was there, of whatever generation.
    answered_at: Option<Duration>,
    /// When a call was sent with it that was reset.
    reset_since: Option<Duration>,
}

impl Generations {
    pub(super) fn build(options: ClientOptions<'_>) -> Result<Self, ClientBuildError> {
        let make = maker(options)?;
        let client = make().map_err(|error| ClientBuildError::Tls(error.without_url()))?;
        Ok(Self {
            make,
            current: Mutex::new(CurrentClient {
                client,
                generation: 0,
                answered_at: None,
                reset_since: None,
            }),
        })
    }

    /// The client to send with, and its generation.
    pub(super) fn current(&self) -> (Client, u64) {
        let current = self.lock();
        (current.client.clone(), current.generation)
    }

    /// A whole answer has arrived.
    pub(super) fn answered(&self, now: Duration) {
        let mut current = self.lock();
        current.answered_at = current.answered_at.max(Some(now));
    }

    /// Nothing came of a call that was sent with this generation at that moment.
    pub(super) fn in_vain(&self, generation: u64, sent_at: Duration) {
        if self.lock().answered_at <= Some(sent_at) {
            self.leave(generation);
        }
    }

    /// A call that was sent with this generation at that moment was reset.
    ///
    /// One alone says little: a connection's first may be sent before it is heard how many are allowed,
    /// and is then refused. So the connections are left after two.
    pub(super) fn was_reset(&self, generation: u64, sent_at: Duration) {
        let mut current = self.lock();
        if current.generation != generation {
            return;
        }
        if current.reset_since.is_some() && current.answered_at <= current.reset_since {
            drop(current);
            self.leave(generation);
        } else {
            current.reset_since = Some(sent_at);
        }
    }

    /// Leaves the connections of this generation, if it is still the one in use.
    pub(super) fn leave(&self, generation: u64) {
        let mut current = self.lock();
        if current.generation == generation
            && let Ok(client) = (self.make)()
        {
            current.client = client;
            current.generation += 1;
            current.reset_since = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, CurrentClient> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the roots and the proxy; what it returns makes a client with them, without any connection.
fn maker(options: ClientOptions<'_>) -> Result<Box<MakeClient>, ClientBuildError> {
    let (tls, proxy) = (options.trust.tls()?, options.proxy.read()?);
    let (only_https, connect) = (options.only_https, options.connect);
    let (resolver, idle_connections) = (options.resolver, options.idle_connections);
    Ok(Box::new(move || {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(only_https)
            .redirect(reqwest::redirect::Policy::none())
            // Not to be tried again, and so not to be kept for it, which would cost a copy of its head.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .referer(false)
            .no_proxy()
            .user_agent(concat!("atlas-cert-gateway/", env!("CARGO_PKG_VERSION")))
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(idle_connections)
            .tcp_nodelay(true)
            .http2_max_header_list_size(LARGEST_HEAD)
            // All calls share one connection of HTTP/2; one that leads nowhere must be found out.
            .http2_keep_alive_interval(BETWEEN_PINGS)
            .http2_keep_alive_timeout(BETWEEN_PINGS)
            // The whole of a call is timed by our clock: a second timer for each request, set again at
            // each read, would bound nothing that is not bounded.
            .connect_timeout(connect);
        if let Some(resolver) = &resolver {
            builder = builder.dns_resolver(Arc::clone(resolver));
        }
        if let Some(proxy) = &proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build()
    }))
}

/// Atlas drops idle connections, and a request on a dropped one is lost.
const KEEP_IDLE: Duration = Duration::from_secs(30);
const BETWEEN_PINGS: Duration = Duration::from_secs(5);
const LARGEST_HEAD: u32 = 64 << 10;
