//! The client library as we set it up; and set it up anew when nothing comes of its connections.
//!
//! All calls share one connection of HTTP/2, and a server can keep such a connection alive and let
//! nothing be asked on it: it answers pings, and allows no stream or no byte of a form (U14). The
//! library would stay with it for ever. So when a call has waited in vain for its head, and nobody else
//! has had one meanwhile either, the next call goes to a client without connections.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Client;
use reqwest::Proxy;
use reqwest::dns::Resolve;

use crate::roots::NoTls;
use crate::settings::Mistake;
use crate::upstream::config::Config;
use crate::upstream::config::Limits;

/// The client in use, and what it is made from.
pub(super) struct Clients {
    recipe: Recipe,
    current: Mutex<(Client, Number)>,
    /// When the last head of an answer arrived, in nanoseconds of the clock's `elapsed`.
    heard_at: AtomicU64,
}

/// Which of the clients, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number(u64);

struct Recipe {
    only_https: bool,
    tls: rustls::ClientConfig,
    proxy: Option<Proxy>,
    names: Option<Arc<dyn Resolve>>,
    limits: Limits,
}

impl Clients {
    pub(super) fn build(
        config: &Config,
        names: Option<&Arc<dyn Resolve>>,
    ) -> Result<Self, Vec<Mistake>> {
        let tls = config.trust().tls().map_err(|why| {
            let place = match &why {
                NoTls::Own(_) => "atlas.ca_certificate",
                NoTls::Rootless | NoTls::Unspeakable(_) => "atlas",
            };
            Mistake::at(place, why.to_string())
        });
        let proxy = config.proxy.as_ref().map(Proxy::all).transpose();
        let proxy = proxy.map_err(|_| Mistake::at("atlas.proxy", "is no URL of a proxy"));
        let (tls, proxy) = match (tls, proxy) {
            (Ok(tls), Ok(proxy)) => (tls, proxy),
            (tls, proxy) => {
                let mistakes = [tls.err(), proxy.err()];
                return Err(mistakes.into_iter().flatten().collect());
            }
        };
        let recipe = Recipe {
            only_https: config.base_url.starts_with("https://"),
            tls,
            proxy,
            names: names.cloned(),
            limits: config.limits.clone(),
        };
        let client = recipe.client().map_err(|error| {
            let message = format!("cannot speak TLS: {}", error.without_url());
            vec![Mistake::at("atlas", message)]
        })?;
        Ok(Self {
            recipe,
            current: Mutex::new((client, Number::default())),
            heard_at: AtomicU64::new(0),
        })
    }

    /// The client to send with.
    pub(super) fn current(&self) -> (Client, Number) {
        self.lock().clone()
    }

    /// The head of an answer has arrived.
    pub(super) fn heard(&self, now: Duration) {
        self.heard_at.fetch_max(nanoseconds(now), Ordering::Relaxed);
    }

    /// A call that was sent with this client at that moment has waited in vain for its head.
    pub(super) fn waited_in_vain(&self, number: Number, sent_at: Duration) {
        if self.heard_at.load(Ordering::Relaxed) > nanoseconds(sent_at) {
            return;
        }
        let mut current = self.lock();
        if current.1 == number
            && let Ok(client) = self.recipe.client()
        {
            *current = (client, Number(number.0 + 1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Client, Number)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipe {
    fn client(&self) -> Result<Client, reqwest::Error> {
        let limits = &self.limits;
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
            .pool_max_idle_per_host(limits.concurrency)
            .tcp_nodelay(true)
            .http2_max_header_list_size(LARGEST_HEAD)
            // All calls share one connection of HTTP/2; one that leads nowhere must be found out.
            .http2_keep_alive_interval(BETWEEN_PINGS)
            .http2_keep_alive_timeout(BETWEEN_PINGS)
            // For the whole of a call the clock's time alone is counted, in `Transport::send`: a second
            // timer for each request, set again at each read, would bound nothing that is not bounded.
            .connect_timeout(limits.connect);
        if let Some(names) = &self.names {
            builder = builder.dns_resolver(Arc::clone(names));
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
