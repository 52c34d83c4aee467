//! The library's client as we set it up, one generation after the other: when nothing comes of the
//! connections of one, the next call goes to a client without any.
//!
//! All calls share one connection of HTTP/2, and a server can keep such a connection alive and answer
//! nothing on it: it answers pings, and allows no stream, resets each, or sends no byte (U14). The
//! library would stay with it for ever. So when a call has waited in vain, or two were reset, and nobody else
//! has had a whole answer meanwhile either, the connections are left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::dns::Resolve;
use reqwest::{Client, Proxy};

use super::{ClientBuildError, ClientOptions};

/// The client in use, and what it is made from.
pub(super) struct Generations {
    recipe: Recipe,
    current: Mutex<Current>,
    /// When the last whole answer was there, in nanoseconds of the clock's `elapsed`.
    answered_at: AtomicU64,
}

struct Current {
    client: Client,
    generation: Generation,
    /// When a call was sent with it that was reset, in the same nanoseconds.
    reset_since: Option<u64>,
}

/// Which of the clients, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

struct Recipe {
    tls: rustls::ClientConfig,
    only_https: bool,
    proxy: Option<Proxy>,
    resolver: Option<Arc<dyn Resolve>>,
    connect: Duration,
    idle_connections: usize,
}

impl Generations {
    pub(super) fn build(options: ClientOptions<'_>) -> Result<Self, ClientBuildError> {
        let recipe = Recipe {
            tls: options.trust.tls()?,
            only_https: options.only_https,
            proxy: options.proxy.read()?,
            resolver: options.resolver,
            connect: options.connect,
            idle_connections: options.idle_connections,
        };
        let client = recipe.client();
        let client = client.map_err(|error| ClientBuildError::Tls(error.without_url()))?;
        Ok(Self {
            recipe,
            current: Mutex::new(Current {
                client,
                generation: Generation::default(),
                reset_since: None,
            }),
            answered_at: AtomicU64::new(0),
        })
    }

    /// The client to send with.
    pub(super) fn current(&self) -> (Client, Generation) {
        let current = self.lock();
        (current.client.clone(), current.generation)
    }

    /// A whole answer has arrived.
    pub(super) fn answered(&self, now: Duration) {
        self.answered_at
            .fetch_max(nanoseconds(now), Ordering::Relaxed);
    }

    /// Nothing came of a call that was sent with this client at that moment.
    pub(super) fn in_vain(&self, generation: Generation, sent_at: Duration) {
        if !self.has_answered_since(nanoseconds(sent_at)) {
            self.leave(generation);
        }
    }

    /// A call that was sent with this client at that moment was reset.
    ///
    /// One alone says little: a connection's first may be sent before it is heard how many are allowed,
    /// and is then refused. So the connections are left after two.
    pub(super) fn was_reset(&self, generation: Generation, sent_at: Duration) {
        let sent_at = nanoseconds(sent_at);
        let mut current = self.lock();
        let since = current.reset_since;
        let is_second = since.is_some_and(|since| !self.has_answered_since(since));
        if current.generation == generation && is_second {
            self.renew(&mut current);
        } else if current.generation == generation {
            current.reset_since = Some(sent_at);
        }
    }

    /// Leaves the connections of this client, if it is still the one in use.
    pub(super) fn leave(&self, generation: Generation) {
        let mut current = self.lock();
        if current.generation == generation {
            self.renew(&mut current);
        }
    }

    fn has_answered_since(&self, moment: u64) -> bool {
        self.answered_at.load(Ordering::Relaxed) > moment
    }

    fn renew(&self, current: &mut Current) {
        if let Ok(client) = self.recipe.client() {
            *current = Current {
                client,
                generation: Generation(current.generation.0 + 1),
                reset_since: None,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipe {
    fn client(&self) -> Result<Client, reqwest::Error> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(self.only_https)
            .redirect(reqwest::redirect::Policy::none())
            // Not to be tried again, and so not to be kept for it, which would cost a copy of its head.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .referer(false)
            .no_proxy()
            .user_agent(concat!("atlas-cert-gateway/", env!("CARGO_PKG_VERSION")))
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(self.idle_connections)
            .tcp_nodelay(true)
            .http2_max_header_list_size(LARGEST_HEAD)
            // All calls share one connection of HTTP/2; one that leads nowhere must be found out.
            .http2_keep_alive_interval(BETWEEN_PINGS)
            .http2_keep_alive_timeout(BETWEEN_PINGS)
            // The whole of a call is timed by our clock: a second timer for each request, set again at
            // each read, would bound nothing that is not bounded.
            .connect_timeout(self.connect);
        if let Some(resolver) = &self.resolver {
            builder = builder.dns_resolver(Arc::clone(resolver));
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build()
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Atlas drops idle connections, and a request on a dropped one is lost.
const KEEP_IDLE: Duration = Duration::from_secs(30);
const BETWEEN_PINGS: Duration = Duration::from_secs(5);
const LARGEST_HEAD: u32 = 64 << 10;
