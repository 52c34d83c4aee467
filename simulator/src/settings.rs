//! What a simulator is started with, and the rules that may change while it runs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::accounts::{ApiKey, ServiceAccount};
use crate::bucket::BucketSize;
use crate::clock::{Now, system_clock};
use crate::digest::DigestRules;
use crate::oauth::TokenRules;
use crate::tls::Tls;
use crate::world::World;

/// What [`Simulator::start`](crate::Simulator::start) takes.
#[derive(Clone)]
pub struct Settings {
    /// Where to listen; port 0 by default.
    pub listen: SocketAddr,
    /// The clock by which tokens, certificates, nonces and buckets live.
    pub now: Now,
    /// What exists.
    pub world: World,
    /// What is enforced.
    pub rules: Rules,
    /// Whether to speak TLS.
    pub tls: Option<Tls>,
    /// How many requests the record keeps; the oldest are forgotten first. The counts stay true.
    pub keep_requests: usize,
}

impl Settings {
    /// The defaults with this world.
    pub fn with_world(world: World) -> Self {
        Self {
            world,
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let now = system_clock();
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            world: World::new(now()),
            now,
            rules: Rules::default(),
            tls: None,
            keep_requests: 100_000,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("world", &self.world)
            .field("rules", &self.rules)
            .field("tls", &self.tls.is_some())
            .field("keep_requests", &self.keep_requests)
            .finish_non_exhaustive()
    }
}

/// What the simulator enforces. [`Simulator::rules`](crate::Simulator::rules) changes it at any time;
/// a request is judged by the rules that held when it arrived.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The service accounts; by default one, [`CLIENT_ID`] with [`CLIENT_SECRET`].
    pub service_accounts: Vec<ServiceAccount>,
    /// The API keys; by default one, [`PUBLIC_KEY`] with [`PRIVATE_KEY`].
    pub api_keys: Vec<ApiKey>,
    /// The lives and limits of tokens.
    pub tokens: TokenRules,
    /// How Digest is spoken.
    pub digest: DigestRules,
    /// The bucket that list and create calls of certificates share, per project.
    pub bucket: BucketSize,
    /// The addresses that may use a credential; `None` allows all.
    pub access_list: Option<Vec<IpAddr>>,
    /// Scheme and host in `links`: Atlas's own, so that a client that follows or leaks them is seen.
    pub public_host: String,
    /// How long every answer is held back, in real time.
    pub latency: Duration,
    /// What new connections of HTTP/2 are told.
    pub http2: Http2Rules,
}

/// Settings of HTTP/2 that a server states when a connection begins; `None` leaves the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2Rules {
    /// How many streams may be open at once; with 0 nothing can be asked at all.
    pub streams: Option<u32>,
    /// How many bytes of a request's body may be sent; with 0 no form ever arrives.
    pub window: Option<u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            service_accounts: vec![ServiceAccount::new(CLIENT_ID, CLIENT_SECRET)],
            api_keys: vec![ApiKey::new(PUBLIC_KEY, PRIVATE_KEY)],
            tokens: TokenRules::default(),
            digest: DigestRules::default(),
            bucket: BucketSize::X509,
            access_list: None,
            public_host: "https://cloud.mongodb.com".to_owned(),
            latency: Duration::ZERO,
            http2: Http2Rules::default(),
        }
    }
}

/// The client id of the service account that exists by default.
pub const CLIENT_ID: &str = "mdb_sa_id_66f1c0ffee00000000000001";
/// Its secret.
pub const CLIENT_SECRET: &str = "mdb_sa_sk_simulated-Secret_0123456789-abcdefghijkl";
/// The public key of the API key that exists by default.
pub const PUBLIC_KEY: &str = "simulato";
/// Its private key.
pub const PRIVATE_KEY: &str = "7a1e5bb2-0000-4000-8000-51bb1a7e0001";
