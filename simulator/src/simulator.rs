//! The handle that a test holds: starts the simulator, scripts it, asks what it saw, ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use crate::atlas::Atlas;
use crate::bucket::EndpointSet;
use crate::credential::Authenticator;
use crate::held::Held;
use crate::recorder::{Recorder, SeenRequest};
use crate::script::{Asked, On, Script};
use crate::server::Server;
use crate::settings::{Rules, Settings};
use crate::target::Endpoint;
use crate::world::World;

/// A running simulator. It ends, with all its connections, when it is dropped.
pub struct Simulator {
    atlas: Arc<Atlas>,
    server: Server,
    scheme: &'static str,
}

impl Simulator {
    /// Starts a simulator; when this returns, it accepts connections.
    ///
    /// It is `async` because it needs a Tokio runtime to run in.
    #[expect(
        clippy::unused_async,
        reason = "binding may have to wait one day; starting a server reads so"
    )]
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let Settings {
            listen,
            now,
            world,
            rules,
            tls,
            keep_requests,
        } = settings;
        let atlas = Arc::new(Atlas {
            now,
            rules: Held::new(Arc::new(rules)),
            world: Held::new(world),
            authenticator: Authenticator::seeded(SEED),
            buckets: Held::default(),
            script: Script::default(),
            recorder: Recorder::keeping(keep_requests),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.map(|tls| tls.acceptor()).transpose()?;
        let server = Server::start(listen, tls, Arc::clone(&atlas))?;
        Ok(Self {
            atlas,
            server,
            scheme,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:port`, or `https://localhost:port` under TLS.
    pub fn base_url(&self) -> String {
        let address = self.local_addr();
        match self.scheme {
            "https" => format!("https://localhost:{}", address.port()),
            scheme => format!("{scheme}://{address}"),
        }
    }

    /// States a rule about requests that match; see [`On`].
    pub fn on(&self, asked: Asked) -> On<'_> {
        self.atlas.script.on(asked)
    }

    /// Withdraws every rule.
    pub fn clear_script(&self) {
        self.atlas.script.clear();
    }

    /// Looks at the world or changes it, at the present of the simulator's clock.
    pub fn world<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        let now = self.atlas.now();
        self.atlas.world.with(|world| work(world.at(now)))
    }

    /// Changes what is enforced, from the next request on.
    pub fn rules(&self, change: impl FnOnce(&mut Rules)) {
        self.atlas.rules.with(|rules| change(Arc::make_mut(rules)));
    }

    /// Ends every connection and refuses new ones, as a host that is down.
    pub async fn stop_accepting(&self) -> io::Result<()> {
        self.server.go_down().await
    }

    /// Accepts connections again, at the same address.
    pub async fn resume(&self) -> io::Result<()> {
        self.server.come_up().await
    }
}

/// What it saw.
impl Simulator {
    /// Every request that is still kept, in the order of arrival.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.atlas.recorder.requests()
    }

    /// Forgets all requests and counts.
    pub fn forget_requests(&self) {
        self.atlas.recorder.forget();
    }

    /// How many requests arrived for this endpoint.
    pub fn calls(&self, endpoint: Endpoint) -> usize {
        self.atlas.recorder.calls(endpoint)
    }

    /// How many requests arrived.
    pub fn all_calls(&self) -> usize {
        self.atlas.recorder.all_calls()
    }

    /// How many lists of certificates were asked for, challenges included.
    pub fn certificate_calls(&self) -> usize {
        self.calls(Endpoint::Certificates)
    }

    /// How many requests were answered with this status.
    pub fn answers(&self, status: u16) -> usize {
        self.atlas.recorder.answers(status)
    }

    /// Waits until so many requests have arrived for this endpoint.
    pub async fn wait_for_calls(&self, endpoint: Endpoint, count: usize) {
        self.atlas.recorder.wait_for_calls(endpoint, count).await;
    }

    /// Whether a request that is kept has this text in its target, a header or its body.
    pub fn saw_anywhere(&self, needle: &str) -> bool {
        self.atlas.recorder.saw(needle)
    }

    /// How many connections stand now.
    pub fn connections_open(&self) -> usize {
        self.server.open()
    }

    /// How many connections were accepted.
    pub fn connections_accepted(&self) -> usize {
        self.server.accepted()
    }
}

/// Tokens, nonces and buckets.
impl Simulator {
    /// How many tokens are alive, of all service accounts together.
    pub fn live_tokens(&self) -> usize {
        let now = self.atlas.now();
        self.atlas
            .authenticator
            .tokens
            .with(|tokens| tokens.live(None, now))
    }

    /// How many tokens of this service account are alive.
    pub fn live_tokens_of(&self, client_id: &str) -> usize {
        let now = self.atlas.now();
        self.atlas
            .authenticator
            .tokens
            .with(|tokens| tokens.live(Some(client_id), now))
    }

    /// How many tokens were minted.
    pub fn mints(&self) -> usize {
        self.atlas
            .authenticator
            .tokens
            .with(|tokens| tokens.minted())
    }

    /// How many tokens were revoked by their account.
    pub fn revokes(&self) -> usize {
        self.atlas
            .authenticator
            .tokens
            .with(|tokens| tokens.revoked())
    }

    /// Ends every token before its time, as Atlas may.
    pub fn revoke_all_tokens(&self) {
        self.atlas
            .authenticator
            .tokens
            .with(crate::oauth::Tokens::revoke_all);
    }

    /// How many Digest challenges were sent.
    pub fn digest_challenges(&self) -> usize {
        self.atlas
            .authenticator
            .nonces
            .with(|nonces| nonces.challenges())
    }

    /// How many right Digest credentials came with a nonce count that had not risen.
    pub fn digest_repeats(&self) -> usize {
        self.atlas
            .authenticator
            .nonces
            .with(|nonces| nonces.repeats())
    }

    /// How many certificate calls the bucket of this project still holds.
    pub fn bucket_remaining(&self, project: &str) -> u64 {
        self.bucket(project, |tokens| *tokens)
    }

    /// Takes tokens out of the bucket of this project, as its other clients do.
    pub fn drain_bucket(&self, project: &str, tokens: u64) {
        self.bucket(project, |remaining| {
            *remaining = remaining.saturating_sub(tokens);
        });
    }

    fn bucket<R>(&self, project: &str, work: impl FnOnce(&mut u64) -> R) -> R {
        let size = self.atlas.rules.with(|rules| rules.bucket);
        let set = EndpointSet::X509Authentication;
        let now = self.atlas.now();
        self.atlas
            .buckets
            .with(|all| work(all.remaining(set, project, &size, now)))
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Tokens and nonces are the same in every run.
const SEED: u64 = 20_260_810;
