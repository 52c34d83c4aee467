//! The whole job: each request is written down, judged, spoiled if the script says so, and answered.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::answer::Answer;
use crate::bucket::Buckets;
use crate::clock::Now;
use crate::credential::{Authenticator, Credential};
use crate::fault::{Effect, Wire};
use crate::held::Held;
use crate::query;
use crate::recorder::{Recorder, SeenRequest};
use crate::routes;
use crate::script::{Call, Script};
use crate::settings::Rules;
use crate::target::Target;
use crate::world::World;

/// The simulated Atlas, without its socket.
pub(crate) struct Atlas {
    pub(crate) now: Now,
    pub(crate) rules: Held<Arc<Rules>>,
    pub(crate) world: Held<World>,
    pub(crate) authenticator: Authenticator,
    pub(crate) buckets: Held<Buckets>,
    pub(crate) script: Script,
    pub(crate) recorder: Recorder,
}

/// A request, wholly read.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Its place in the record.
    pub(crate) number: usize,
    pub(crate) at: SystemTime,
    pub(crate) peer: SocketAddr,
    pub(crate) method: Method,
    /// Path and query, byte for byte.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What the path means.
    pub(crate) meaning: Target,
}

impl Heard {
    pub(crate) fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

impl Atlas {
    /// Answers one request, and says how the answer is to be put on the wire.
    pub(crate) async fn serve(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> (Answer, Option<Wire>) {
        let heard = self.read(request, peer).await;
        let rules = self.rules.with(|rules| Arc::clone(rules));
        let effects = self.script.effects(&call(&heard));
        hold_back(rules.latency).await;
        for effect in &effects {
            befall(effect).await;
        }
        let scripted = effects.iter().find_map(|effect| match effect {
            Effect::Answer(answer) => Some((**answer).clone()),
            Effect::Both(..)
            | Effect::Change(_)
            | Effect::Delay(_)
            | Effect::Hold(_)
            | Effect::Then(_)
            | Effect::Wire(_) => None,
        });
        let mut answer = scripted.unwrap_or_else(|| routes::answer(self, &heard, &rules));
        // By the clock of this Atlas; a fault may change it or leave it out.
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(self.now())) {
            answer.headers.entry(DATE).or_insert(date);
        }
        let mut wire = None;
        for effect in effects {
            self.spoil(&mut answer, &mut wire, effect);
        }
        self.recorder.answered(heard.number, answer.status);
        (answer, wire)
    }

    /// The time in the simulated world.
    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    async fn read(&self, request: Request<Incoming>, peer: SocketAddr) -> Heard {
        let (parts, body) = request.into_parts();
        // A body that is too long or breaks off counts as none: the endpoints here take small forms.
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let target = parts
            .uri
            .path_and_query()
            .map_or("", http::uri::PathAndQuery::as_str);
        let mut heard = Heard {
            number: 0,
            at: self.now(),
            peer,
            meaning: Target::read(&parts.method, parts.uri.path()),
            method: parts.method,
            target: target.to_owned(),
            headers: parts.headers,
            body,
        };
        heard.number = self.recorder.arrived(seen(&heard, parts.version));
        heard
    }

    fn spoil(&self, answer: &mut Answer, wire: &mut Option<Wire>, effect: Effect) {
        match effect {
            Effect::Answer(_) | Effect::Delay(_) | Effect::Hold(_) => {}
            Effect::Both(one, other) => {
                self.spoil(answer, wire, *one);
                self.spoil(answer, wire, *other);
            }
            Effect::Change(change) => change(answer),
            Effect::Then(change) => {
                let now = self.now();
                self.world.with(|world| change(world.at(now)));
            }
            Effect::Wire(fault) => *wire = wire.take().or(Some(fault)),
        }
    }
}

async fn befall(effect: &Effect) {
    match effect {
        Effect::Delay(by) => hold_back(*by).await,
        Effect::Hold(gate) => gate.pass().await,
        Effect::Answer(_)
        | Effect::Both(..)
        | Effect::Change(_)
        | Effect::Then(_)
        | Effect::Wire(_) => {}
    }
}

/// Latency, in real time.
async fn hold_back(by: Duration) {
    if !by.is_zero() {
        let _ = tokio::time::timeout(by, pending::<()>()).await;
    }
}

fn call(heard: &Heard) -> Call<'_> {
    Call {
        endpoint: heard.meaning.endpoint,
        page: query::page_asked(heard.query()),
        project: heard.meaning.project.as_deref(),
        username: heard.meaning.username.as_deref(),
    }
}

fn seen(heard: &Heard, version: Version) -> SeenRequest {
    SeenRequest {
        number: 0,
        at: heard.at,
        version,
        peer: heard.peer,
        method: heard.method.clone(),
        target: heard.target.clone(),
        headers: heard.headers.clone(),
        body: heard.body.clone(),
        endpoint: heard.meaning.endpoint,
        project: heard.meaning.project.clone(),
        username: heard.meaning.username.clone(),
        page: query::page_asked(heard.query()),
        credential: Credential::None,
        status: None,
    }
}

const MAX_BODY: usize = 64 * 1024;
