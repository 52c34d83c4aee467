//! What replicas tell one another: purges and changed lists, by a stream that is read to its end after every ring
//! of a bell, every second and after every new connection. So what was told while a replica was cut off reaches it
//! when it is back; and where the stream has lost something, every list here is ended once.

use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use redis::Value;
use tokio::sync::Notify;
use tracing::warn;

use super::event::{FleetEvent, What};
use super::purge_times::{IsDenied, PurgeTimes};
use super::reply::{number, parts, text, word};
use super::{Alone, Fleet};
use crate::atlas::CertQuery;
use crate::telemetry::metrics::fleet::{FleetFunction, FleetRejection};

/// What a replica does with what it hears. `None` says that something was lost.
pub(crate) type OnEvent = Box<dyn Fn(Option<FleetEvent>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What is done when the engine is heard for the first time, before any event: it is told the last one there is.
pub(crate) type OnFirstHearing = Box<dyn FnOnce(String) -> BoxFuture<'static, ()> + Send>;

/// How far the stream was heard.
#[derive(Default)]
pub(super) struct Events {
    bell: Notify,
    purge_times: PurgeTimes,
    place: Mutex<Option<Place>>,
    on_event: std::sync::OnceLock<OnEvent>,
    on_first_hearing: Mutex<Option<OnFirstHearing>>,
}

/// The last event that was heard, or was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    id: String,
    number: u64,
}

/// One event of the stream.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    id: String,
    number: u64,
    at: u64,
    sealed: Vec<u8>,
}

impl Events {
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// When a list was last purged, and softly purged, without a trace of it in the engine; as arguments of functions.
    pub(super) fn purged(&self, query: &CertQuery) -> [String; 2] {
        self.purge_times.of(query).map(|at| at.to_string())
    }

    fn take_on_first_hearing(&self) -> Option<OnFirstHearing> {
        let mut on_first = self
            .on_first_hearing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        on_first.take()
    }

    /// The number of the last event that was heard.
    pub(super) fn number(&self) -> u64 {
        self.place().map_or(0, |place| place.number)
    }

    fn place(&self) -> Option<Place> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    fn set_place(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }
}

impl Place {
    /// As another process compares it.
    fn text(&self) -> String {
        format!("{} {}", self.number, self.id)
    }

    /// As the engine has it beside the stream.
    fn read(value: Value) -> Option<Self> {
        let text = word(value)?;
        let (number, id) = text.split_once(' ')?;
        Some(Self {
            id: id.to_owned(),
            number: number.parse().ok()?,
        })
    }
}

impl Default for Place {
    /// Before the first.
    fn default() -> Self {
        Self {
            id: "0-0".to_owned(),
            number: 0,
        }
    }
}

impl Fleet {
    /// What is done with events, once and before [`Fleet::run`].
    pub(crate) fn on_event(&self, on_event: OnEvent) {
        if self.0.events.on_event.set(on_event).is_err() {
            unreachable!("a gateway is wired once");
        }
    }

    /// Which lists a purge by an operator leaves as they are, once and before [`Fleet::run`].
    pub(crate) fn on_denied(&self, is_denied: IsDenied) {
        self.0.events.purge_times.on_denied(is_denied);
    }

    /// What is done when the engine is heard for the first time; before [`Fleet::run`].
    pub(crate) fn on_first_hearing(&self, on_first: OnFirstHearing) {
        let waiting = &self.0.events.on_first_hearing;
        *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_first);
    }

    /// The last event that was heard; `None` before the first connection, and where there never was one: an engine
    /// that has begun anew would look the same.
    pub(crate) fn place(&self) -> Option<String> {
        let place = self.0.events.place()?;
        (place.number > 0).then(|| place.text())
    }

    /// Tells the others. Says the number of the event, by which it can be [confirmed](Fleet::confirmed).
    pub(crate) async fn tell(&self, event: &FleetEvent) -> Result<u64, Alone> {
        let (stream, count) = (self.0.names.of_fleet("ev"), self.0.names.of_fleet("n"));
        let (kind, bell) = (event.what.kind(), self.0.names.of_fleet("bell"));
        let sealed = self.seal_event(event);
        let arguments = [kind.as_bytes(), &sealed, bell.as_bytes()];
        let told = self.call(FleetFunction::Tell, &[&stream, &count], &arguments);
        number(told.await?).ok_or(Alone)
    }

    pub(super) fn seal_event(&self, event: &FleetEvent) -> Vec<u8> {
        let text = serde_json::to_vec(event).expect("an event is plain data");
        self.0.keys.seal(&self.about_events(), text)
    }

    fn about_events(&self) -> Vec<u8> {
        self.0.names.of_fleet("event 1").into_bytes()
    }

    /// Hears what was told since the last time.
    pub(super) async fn hear(&self) -> Result<(), Alone> {
        let events = &self.0.events;
        let time = self.engine_time().await?;
        // The engine's clock may have been set back, and would be behind for as long.
        events.purge_times.bound(time);
        let last = self.plain("GET", &[&self.0.names.of_fleet("n")]).await?;
        let last = Place::read(last).unwrap_or_default();
        let Some(mut place) = events.place() else {
            self.hear_of_purges().await?;
            // The first connection: there is nothing here that could be too old, or this says what may be.
            let on_first = events.take_on_first_hearing();
            if let Some(on_first) = on_first {
                on_first(last.text()).await;
            }
            events.set_place(last);
            return Ok(());
        };
        if place == last {
            return Ok(());
        }
        let stream = self.0.names.of_fleet("ev");
        let after = ["COUNT", "1000", "STREAMS", &*stream, &*place.id];
        let told = told(self.plain("XREAD", &after).await?);
        if told.is_empty() {
            // They are gone, or the engine has begun anew.
            return self.lost(last).await;
        }
        for told in told {
            if told.number != place.number + 1 {
                return self.lost(last).await;
            }
            self.apply(&told).await;
            let Told { id, number, .. } = told;
            place = Place { id, number };
            events.set_place(place.clone());
        }
        if place.number < last.number {
            // There are more of them.
            events.ring();
        }
        Ok(())
    }

    /// Learns which purges have left no trace in the engine but their events: what lies there may be older.
    async fn hear_of_purges(&self) -> Result<(), Alone> {
        let stream = self.0.names.of_fleet("ev");
        let mut last = Place::default().id;
        loop {
            let after = ["COUNT", "1000", "STREAMS", &*stream, &*last];
            let told = told(self.plain("XREAD", &after).await?);
            for told in &told {
                if let Some(event) = self.open_event(told) {
                    self.0.events.purge_times.note(&event, told.at);
                }
            }
            let Some(newest) = told.into_iter().next_back() else {
                return Ok(());
            };
            last = newest.id;
        }
    }

    fn open_event(&self, told: &Told) -> Option<FleetEvent> {
        let opened = self.0.keys.open(&self.about_events(), &told.sealed).ok()?;
        serde_json::from_slice(&opened).ok()
    }

    async fn apply(&self, told: &Told) {
        let Some(event) = self.open_event(told) else {
            // It may be of a key that is not ours yet; what it would have ended here, is ended.
            self.0.metrics.rejected(FleetRejection::Seal);
            self.note_lost();
            self.act(None).await;
            return;
        };
        self.0.metrics.event(event.what.kind());
        self.0.events.purge_times.note(&event, told.at);
        if event.replica != self.0.replica {
            self.act(Some(event)).await;
        }
    }

    async fn lost(&self, place: Place) -> Result<(), Alone> {
        self.hear_of_purges().await?;
        self.note_lost();
        self.act(None).await;
        self.0.events.set_place(place);
        Ok(())
    }

    fn note_lost(&self) {
        self.0.metrics.events_lost.inc();
        warn!("events of the fleet were lost: every list here is ended once");
    }

    async fn act(&self, event: Option<FleetEvent>) {
        if let Some(on_event) = self.0.events.on_event.get() {
            on_event(event).await;
        }
    }

    /// The engine's clock, in milliseconds.
    async fn engine_time(&self) -> Result<u64, Alone> {
        let time = parts::<2>(self.plain("TIME", &[]).await?).ok_or(Alone)?;
        let [Some(seconds), Some(micros)] = time.map(number) else {
            return Err(Alone);
        };
        Ok(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
    }

    async fn plain(&self, command: &str, arguments: &[&str]) -> Result<Value, Alone> {
        let mut sent = redis::cmd(command);
        for argument in arguments {
            sent.arg(*argument);
        }
        self.send(FleetFunction::Hear, &sent).await
    }
}

impl What {
    /// The word that stands in clear, and in the metrics.
    fn kind(self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Purged => "purge",
            Self::SoftlyPurged => "soft_purge",
        }
    }
}

/// The events of a reply of `XREAD` of one stream, which RESP3 gives as a map.
fn told(reply: Value) -> Vec<Told> {
    let Value::Map(mut streams) = reply else {
        return Vec::new();
    };
    let Some((_, Value::Array(events))) = streams.pop() else {
        return Vec::new();
    };
    events.into_iter().filter_map(Told::read).collect()
}

impl Told {
    fn read(value: Value) -> Option<Self> {
        let [id, members] = parts(value)?;
        let Value::Array(members) = members else {
            return None;
        };
        let (mut event, mut at, mut sealed) = (None, None, None);
        let mut members = members.into_iter();
        while let (Some(name), Some(value)) = (members.next(), members.next()) {
            match &*text(name)? {
                b"n" => event = number(value),
                b"t" => at = number(value),
                b"e" => sealed = text(value),
                _ => {}
            }
        }
        Some(Self {
            id: word(id)?,
            number: event?,
            at: at?,
            sealed: sealed?,
        })
    }
}
