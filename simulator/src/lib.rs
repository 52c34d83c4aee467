//! A local MongoDB Atlas on a real socket, that enforces what Atlas enforces.
//!
//! It knows one corner of the Atlas Administration API, the X.509 certificates of database users,
//! and is strict there: the exact bytes of a path, the version in `Accept`, the bounds of the
//! paging, the limits on tokens and on calls. What is not documented is decided in the stricter way,
//! so that a client which passes here does not depend on Atlas's patience; each such decision is
//! marked where it is made.
//!
//! ```no_run
//! use atlas_simulator::{Asked, Fault, ManualClock, Settings, Simulator, World};
//!
//! # async fn test(now: std::time::SystemTime) -> std::io::Result<()> {
//! let clock = ManualClock::at(now);
//! let mut world = World::new(clock.now());
//! world.project("32b6e34b3d91647abb20e7b8").user("app1").certificates(1_203);
//!
//! let atlas = Simulator::start(Settings {
//!     now: clock.reader(),
//!     ..Settings::with_world(world)
//! })
//! .await?;
//!
//! atlas.on(Asked::certificates().page(2)).once().respond(Fault::unexpected_error());
//! // ... ask the gateway, whose `base_url` is `atlas.base_url()` ...
//! assert_eq!(atlas.certificate_calls(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a request
//!
//! [`server`] accepts, [`connection`] speaks HTTP. [`atlas`] writes the request down
//! ([`recorder`]), looks up what the [`script`] has for it, waits where a [`fault`] or a [`gate`]
//! says so, and lets [`routes`] answer: [`target`] and [`query`] read, [`credential`] identifies
//! ([`oauth`], [`digest`]), [`bucket`] limits, [`world`] knows, [`listing`] and [`errors`] write.
//! Then the faults change the answer, or [`connection`] spoils its bytes.
//!
//! No lock is held across an await: everything shared sits in a [`held::Held`].

mod simulator;

mod settings;
mod accounts;
mod clock;

mod world;
mod certificate;
mod issuing;
mod numbers;

mod script;
mod fault;
mod gate;
mod recorder;

mod server;
mod tls;
mod stream;
mod connection;
mod body;

mod atlas;
mod routes;
mod target;
mod query;
mod credential;
mod oauth;
mod digest;
mod bucket;

mod answer;
mod errors;
mod listing;
mod pretty;
mod held;

pub use accounts::{ApiKey, Projects, ServiceAccount};
pub use answer::Answer;
pub use bucket::{BucketSize, Filling};
pub use certificate::Certificate;
pub use clock::{ManualClock, Now, system_clock};
pub use credential::Credential;
pub use digest::DigestRules;
pub use fault::{Ending, Fault};
pub use gate::Gate;
pub use oauth::TokenRules;
pub use recorder::SeenRequest;
pub use script::{Asked, On, Planted};
pub use settings::{
    CLIENT_ID, CLIENT_SECRET, Http2Rules, PRIVATE_KEY, PUBLIC_KEY, Rules, Settings,
};
pub use simulator::Simulator;
pub use target::Endpoint;
pub use tls::Tls;
pub use world::{InProject, InUser, ListOrder, World, X509Type};
