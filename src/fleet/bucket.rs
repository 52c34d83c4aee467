//! A project's bucket at Atlas, as all replicas of the fleet use it: calls are taken from one bucket in the engine, and
//! what Atlas answers is told to it.
//!
//! Each request brings what the replica last knew of the bucket, and the stricter holds: an engine that has lost its
//! memory hears of it from the first replica that asks.

use std::time::Duration;

use redis::Value;

use super::lease::millis;
use super::reply::{number, parts, word};
use super::{Alone, Fleet};
use crate::atlas::ProjectId;
use crate::telemetry::metrics::fleet::{FleetFunction, FleetRejection};

/// Calls that a replica wants to make, and by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketRequest {
    pub(crate) calls: u64,
    /// Whether they begin a fetch; calls that go on with one always pass while a cooldown ends.
    pub(crate) first: bool,
    /// What must be left of our share, and of the bucket at Atlas.
    pub(crate) kept_back: u64,
    pub(crate) least: u64,
    /// What our share holds, and the time in which one call comes back to it.
    pub(crate) burst: u64,
    pub(crate) interval: Duration,
    /// What the bucket at Atlas holds, and what comes back to it in a minute.
    pub(crate) capacity: u64,
    pub(crate) refill: u64,
    /// Calls that were taken and not made, and those that were made and not taken, since the last request.
    pub(crate) returned: u64,
    pub(crate) untaken: u64,
    pub(crate) known: BucketKnown,
}

/// What is known of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketKnown {
    /// After how long our share is full again, and how long ago that was heard.
    pub(crate) missing: Duration,
    pub(crate) heard_ago: Duration,
    /// What is left at Atlas, and how long ago that was so.
    pub(crate) remaining: u64,
    pub(crate) seen_ago: Duration,
    pub(crate) cooldown: FleetCooldown,
}

/// A cooldown that Atlas has asked one of the replicas for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetCooldown {
    pub(crate) phase: FleetPhase,
    /// For how long nothing is called.
    pub(crate) left: Duration,
    /// The status that began it, 429 or 503; 0 if there is none.
    pub(crate) cause: u16,
    /// How long it is in all.
    pub(crate) wait: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FleetPhase {
    /// Calls are as free as ever.
    #[default]
    Open,
    /// No call passes but a probe, once the time is over.
    Closed,
    /// A probe was answered well: a few calls pass each second.
    Slow,
}

/// What came of a request, and the bucket as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketAnswer {
    pub(crate) taken: Result<(), BucketRefusal>,
    pub(crate) known: BucketKnown,
}

/// Why calls may not be made now; the time is when they may, if no other call takes their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketRefusal {
    BucketLow(Duration),
    Cooldown(Duration),
    OwnShare(Duration),
}

/// What an answer of Atlas says of a project's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Whether it says nothing against asking again.
    pub(crate) is_answered: bool,
    pub(crate) remaining: Option<u64>,
    /// Calls of this replica that are taken and were not sent yet.
    pub(crate) reserved: u64,
    /// Calls that were taken within this time may not be counted in it.
    pub(crate) window: Duration,
    pub(crate) capacity: u64,
    /// The cooldown that it asks for: the status, and how long.
    pub(crate) cooldown: Option<(u16, Duration)>,
}

impl Fleet {
    /// Takes so many calls from the bucket of a project, or none.
    pub(crate) async fn take_calls(
        &self,
        project: &ProjectId,
        request: &BucketRequest,
    ) -> Result<BucketAnswer, Alone> {
        let arguments = request.arguments();
        let reply = self.of_bucket(FleetFunction::Take, project, &arguments);
        let answer = read_answer(reply.await?);
        answer.ok_or_else(|| {
            self.0.metrics.rejected(FleetRejection::Reply);
            Alone
        })
    }

    /// Tells the engine what Atlas has answered.
    pub(crate) async fn observe(
        &self,
        project: &ProjectId,
        observed: &Observed,
    ) -> Result<(), Alone> {
        let arguments = observed.arguments();
        let told = self.of_bucket(FleetFunction::Observe, project, &arguments);
        told.await.map(|_| ())
    }

    async fn of_bucket(
        &self,
        function: FleetFunction,
        project: &ProjectId,
        arguments: &[String],
    ) -> Result<Value, Alone> {
        let key = self.0.names.of_project(project, "b");
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        self.call(function, &[&key], &arguments).await
    }
}

impl BucketRequest {
    /// In the order of `TAKE` in `functions/bucket.lua`.
    fn arguments(&self) -> [String; 17] {
        let BucketKnown {
            missing,
            heard_ago,
            remaining,
            seen_ago,
            cooldown,
        } = self.known;
        [
            self.calls.to_string(),
            flag(self.first),
            self.kept_back.to_string(),
            self.least.to_string(),
            self.burst.to_string(),
            self.capacity.to_string(),
            self.refill.to_string(),
            micros(self.interval),
            self.returned.to_string(),
            self.untaken.to_string(),
            micros(missing),
            millis(heard_ago),
            remaining.to_string(),
            millis(seen_ago),
            millis(cooldown.left),
            cooldown.cause.to_string(),
            millis(cooldown.wait),
        ]
    }
}

impl Observed {
    /// In the order of `OBSERVE` in `functions/bucket.lua`.
    fn arguments(&self) -> [String; 7] {
        let (cause, wait) = self.cooldown.unwrap_or_default();
        let remaining = self.remaining.map(|remaining| remaining.to_string());
        [
            flag(self.is_answered),
            remaining.unwrap_or_default(),
            self.reserved.to_string(),
            millis(self.window),
            self.capacity.to_string(),
            cause.to_string(),
            millis(wait),
        ]
    }
}

fn read_answer(reply: Value) -> Option<BucketAnswer> {
    let [
        what,
        wait,
        missing,
        remaining,
        seen_ago,
        phase,
        left,
        cause,
        cooldown,
    ] = parts(reply)?;
    let span = |value| Some(Duration::from_millis(number(value)?));
    let wait = span(wait)?;
    let taken = match &*word(what)? {
        "granted" => Ok(()),
        "bucket_low" => Err(BucketRefusal::BucketLow(wait)),
        "cooldown" => Err(BucketRefusal::Cooldown(wait)),
        "own_share" => Err(BucketRefusal::OwnShare(wait)),
        _ => return None,
    };
    let phase = match &*word(phase)? {
        "open" => FleetPhase::Open,
        "closed" => FleetPhase::Closed,
        "slow" => FleetPhase::Slow,
        _ => return None,
    };
    let cooldown = FleetCooldown {
        phase,
        left: span(left)?,
        cause: number(cause)?.try_into().ok()?,
        wait: span(cooldown)?,
    };
    let known = BucketKnown {
        missing: Duration::from_micros(number(missing)?),
        heard_ago: Duration::ZERO,
        remaining: number(remaining)?,
        seen_ago: span(seen_ago)?,
        cooldown,
    };
    Some(BucketAnswer { taken, known })
}

fn flag(is_so: bool) -> String {
    u8::from(is_so).to_string()
}

/// Rounded up, so that the engine is never the less strict.
fn micros(span: Duration) -> String {
    span.as_nanos().div_ceil(1_000).to_string()
}
