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

pub use accounts::ApiKey;
pub use accounts::Projects;
pub use accounts::ServiceAccount;
pub use answer::Answer;
pub use bucket::BucketSize;
pub use bucket::Filling;
pub use certificate::Certificate;
pub use clock::ManualClock;
pub use clock::Now;
pub use clock::system_clock;
pub use credential::Credential;
pub use digest::DigestRules;
pub use fault::Ending;
pub use fault::Fault;
pub use gate::Gate;
pub use oauth::TokenRules;
pub use recorder::SeenRequest;
pub use script::Asked;
pub use script::On;
pub use script::Planted;
pub use settings::CLIENT_ID;
pub use settings::CLIENT_SECRET;
pub use settings::Http2Rules;
pub use settings::PRIVATE_KEY;
pub use settings::PUBLIC_KEY;
pub use settings::Rules;
pub use settings::Settings;
pub use simulator::Simulator;
pub use target::Endpoint;
pub use tls::Tls;
pub use world::InProject;
pub use world::InUser;
pub use world::ListOrder;
pub use world::World;
pub use world::X509Type;
