//! Metrics of the fleet: what this replica shares with the others, and how that goes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Label, Register, from_zero};

words! {
    /// A function of the library that the engine runs for us.
    #[expect(missing_docs, reason = "each is explained where it is defined, in Lua")]
    pub enum FleetFunction {
        Fail = "fail",
        FailToken = "fail_token",
        /// Plain commands, by which events are read.
        Hear = "hear",
        Heard = "heard",
        Here = "here",
        KeepToken = "keep_token",
        Leave = "leave",
        Look = "look",
        Observe = "observe",
        Open = "open",
        PurgeList = "purge_list",
        PurgeProject = "purge_project",
        Renew = "renew",
        Spend = "spend",
        Store = "store",
        StoreToken = "store_token",
        Take = "take",
        Tell = "tell",
        Token = "token",
    }
}

words! {
    /// What came of calling a function.
    pub(crate) enum FleetResult {
        Ok = "ok",
        /// There is no connection: this replica is alone.
        Alone = "alone",
        /// The engine said nothing for too long.
        Silent = "silent",
        /// It answered with an error.
        Refused = "refused",
    }
}

words! {
    /// Where the list of a fetch came from.
    pub(crate) enum ListSource {
        /// Another replica's fetch had brought it.
        Adopted = "adopted",
        /// This replica fetched it, for the fleet.
        Led = "led",
        /// Another replica's fetch was waited for.
        Waited = "waited",
        /// This replica fetched it, for itself.
        Alone = "alone",
    }
}

words! {
    /// Why something in the engine is not believed.
    pub(crate) enum FleetRejection {
        /// It was not sealed by this fleet, or not for this.
        Seal = "seal",
        /// It is dated ahead of our clock.
        Future = "future",
        /// It is no list of that project and user.
        Content = "content",
        /// It is no reply of the function.
        Reply = "reply",
    }
}

/// Handles to the metrics of the fleet.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help text says what each metric counts")]
pub struct FleetMetrics {
    pub connected: Gauge,
    pub(crate) members: Gauge,
    pub(crate) replicas: Gauge,
    pub(crate) config_differs: Gauge,
    operations: Family<OperationLabels, Counter>,
    operation_seconds: OperationSeconds,
    lists: Family<Label<ListSource>, Counter>,
    pub(crate) takeovers: Counter,
    events: Family<Label<&'static str>, Counter>,
    pub(crate) events_lost: Counter,
    rejected: Family<Label<FleetRejection>, Counter>,
}

type OperationLabels = [(&'static str, &'static str); 2];
type OperationSeconds = Family<Label<FleetFunction>, Histogram, fn() -> Histogram>;

impl FleetMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(OPERATION_SECONDS);
        Self {
            connected: registry.gauge(
                "fleet_connected",
                "1 while this replica shares with the others, 0 while it is alone or has no fleet",
            ),
            members: registry.gauge("fleet_members", "Replicas of the fleet that run"),
            replicas: registry.gauge(
                "fleet_replicas",
                "The most replicas that the configuration expects, 0 where there is no fleet",
            ),
            config_differs: registry.gauge(
                "fleet_config_differs",
                "Replicas whose configuration of lists and limits is another than this one's",
            ),
            operations: registry.add(
                "fleet_operations",
                "Calls of the engine's functions, by function and what came of it",
                Family::default(),
            ),
            operation_seconds: registry.add(
                "fleet_operation_seconds",
                "How long calls of the engine's functions took that were answered",
                Family::new_with_constructor(seconds),
            ),
            lists: registry.add(
                "fleet_lists",
                "Lists that a fetch brought, by where they came from",
                from_zero("result", ListSource::ALL),
            ),
            takeovers: registry.counter(
                "fleet_takeovers",
                "Fetches begun because the replica that was waited for did not end its own",
            ),
            events: registry.add(
                "fleet_events",
                "What other replicas have told, by kind",
                from_zero("kind", EVENT_KINDS),
            ),
            events_lost: registry.counter(
                "fleet_events_lost",
                "Times at which events were missed, so that every list here was ended",
            ),
            rejected: registry.add(
                "fleet_rejected",
                "What lay in the engine and was not believed, by why",
                from_zero("why", FleetRejection::ALL),
            ),
        }
    }

    /// This process is one of at most so many replicas. Only then are there series of what the engine is called for.
    pub fn joined(&self, replicas: u32) {
        self.replicas.set(replicas.into());
        for function in FleetFunction::ALL {
            drop(
                self.operation_seconds
                    .get_or_create(&[("operation", function)]),
            );
            for result in FleetResult::ALL {
                let labels = [("operation", function.word()), ("result", result.word())];
                drop(self.operations.get_or_create(&labels));
            }
        }
    }

    /// Counts one call.
    pub(crate) fn called(&self, function: FleetFunction, result: FleetResult) {
        let labels = [("operation", function.word()), ("result", result.word())];
        self.operations.get_or_create(&labels).inc();
    }

    /// Notes how long a call took that was answered.
    pub(crate) fn answered(&self, function: FleetFunction, seconds: f64) {
        let histogram = self
            .operation_seconds
            .get_or_create(&[("operation", function)]);
        histogram.observe(seconds);
    }

    pub(crate) fn list(&self, source: ListSource) {
        self.lists.get_or_create(&[("result", source)]).inc();
    }

    pub(crate) fn event(&self, kind: &'static str) {
        self.events.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn rejected(&self, why: FleetRejection) {
        self.rejected.get_or_create(&[("why", why)]).inc();
    }
}

impl Default for FleetMetrics {
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

pub(crate) const EVENT_KINDS: [&str; 3] = ["changed", "purge", "soft_purge"];
/// From a tenth of a millisecond to half a second, the longest wait.
const OPERATION_SECONDS: [f64; 8] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5];
