//! Readiness: whether this replica should be given requests, and what is ill although it should.
//!
//! A replica is taken out of service only where it can answer no caller and another one could: it drains,
//! no record can be written by those whose word counts, its memory is full, or it has no keys of any
//! issuer. Atlas, an issuer, a credential or a copy of the trail that is ill is ill for all replicas at
//! once; to take them all out would turn lists that are still in memory into nothing. So that is
//! `degraded`, in an answer of 200, in the metrics and in an alert.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Serialize, Serializer};

use crate::audit::AuditPart;
use crate::gateway::Gateway;
use crate::memory::Stage;
use crate::server::tls::ServerTls;
use crate::telemetry::metrics::readiness::{ReadinessMetrics, ReadinessPart};

pub(crate) struct Readiness {
    gateway: Arc<Gateway>,
    tls: Option<ServerTls>,
    draining: Arc<AtomicBool>,
    metrics: ReadinessMetrics,
}

/// The state of this replica; serialised, it is the answer to `/readyz`. Displayed, it is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ReadinessReport {
    pub(crate) ready: bool,
    pub(crate) problems: Vec<PartFault>,
    pub(crate) degraded: Vec<PartFault>,
}

/// Something that is ill. Names no user and holds no secret: it is read without a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PartFault {
    #[serde(serialize_with = "word_of")]
    pub(crate) part: ReadinessPart,
    pub(crate) problem: String,
}

impl Readiness {
    /// Of this gateway, until it drains. `tls` is what its callers are shown.
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        tls: Option<ServerTls>,
        metrics: ReadinessMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            gateway: Arc::clone(gateway),
            tls,
            draining: Arc::default(),
            metrics,
        })
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
    }

    pub(crate) fn report(&self) -> ReadinessReport {
        let mut report = ReadinessReport::default();
        self.end(&mut report);
        self.audit(&mut report);
        self.memory(&mut report);
        self.keys(&mut report);
        self.credentials(&mut report);
        self.deny_list(&mut report);
        self.atlas(&mut report);
        self.fleet(&mut report);
        self.snapshot(&mut report);
        self.panics(&mut report);
        self.tls(&mut report);
        report.ready = report.problems.is_empty();
        self.metrics
            .show(&parts(&report.problems), &parts(&report.degraded));
        report
    }

    fn end(&self, report: &mut ReadinessReport) {
        if self.draining.load(Ordering::Relaxed) {
            report.problem(ReadinessPart::Draining, "the process is stopping");
        }
    }

    fn audit(&self, report: &mut ReadinessReport) {
        let health = self.gateway.audit.health();
        if self.gateway.audit.disk_is_short() {
            let problem =
                "less of the disk is free than `audit.reserve`: refusals share one record a minute";
            report.degraded(ReadinessPart::Audit, problem);
        }
        if let Some(fault) = self.gateway.audit.database_fault() {
            report.degraded(ReadinessPart::Database, fault);
        }
        for fault in health.faults {
            let part = match fault.part {
                AuditPart::Journal => ReadinessPart::Audit,
                AuditPart::SecondSink => ReadinessPart::SecondSink,
            };
            if health.writable {
                report.degraded(part, fault.problem);
            } else {
                report.problem(ReadinessPart::Audit, fault.problem);
            }
        }
    }

    fn memory(&self, report: &mut ReadinessReport) {
        match self.gateway.memory.stage() {
            Stage::Plenty => {}
            Stage::Saving => report.degraded(
                ReadinessPart::Memory,
                "it is short: lists are not renewed ahead of time, and the cache keeps half",
            ),
            Stage::Closing => report.degraded(
                ReadinessPart::Memory,
                "it is short: no connection is kept for another request",
            ),
            Stage::HitsOnly => report.degraded(
                ReadinessPart::Memory,
                "it is short: only what is in memory is answered",
            ),
            Stage::Full => {
                report.problem(
                    ReadinessPart::Memory,
                    "no connection is taken for want of memory",
                );
            }
        }
    }

    fn keys(&self, report: &mut ReadinessReport) {
        let (identity, now) = (&self.gateway.identity, self.gateway.clock.now());
        let has_keys = identity.has_keys(now);
        for fault in identity.issuer_faults(now) {
            if has_keys {
                report.degraded(ReadinessPart::Keys, fault.to_string());
            } else {
                report.problem(ReadinessPart::Keys, fault.to_string());
            }
        }
    }

    fn credentials(&self, report: &mut ReadinessReport) {
        for trouble in self.gateway.upstream.readiness() {
            let problem = format!("{}: {}", trouble.credential, trouble.why);
            report.degraded(ReadinessPart::Credentials, problem);
        }
    }

    fn deny_list(&self, report: &mut ReadinessReport) {
        if let Some(trouble) = self.gateway.deny_file.trouble() {
            report.degraded(ReadinessPart::DenyList, trouble);
        }
    }

    fn atlas(&self, report: &mut ReadinessReport) {
        for fault in self.gateway.upstream.faults() {
            report.degraded(ReadinessPart::Atlas, fault.to_string());
        }
    }

    fn fleet(&self, report: &mut ReadinessReport) {
        let fleet = self.gateway.fleet.as_ref();
        if let Some((fleet, why)) = fleet.and_then(|fleet| Some((fleet, fleet.problem()?))) {
            let replicas = fleet.replicas();
            let problem = format!(
                "its engine cannot be used, so this replica goes on alone, with one {replicas}th of what all may \
                 spend: {why}"
            );
            report.degraded(ReadinessPart::Fleet, problem);
        }
    }

    fn snapshot(&self, report: &mut ReadinessReport) {
        let snapshot = self.gateway.snapshot.as_ref();
        if let Some(fault) = snapshot.and_then(|snapshot| snapshot.fault()) {
            report.degraded(ReadinessPart::Snapshot, fault);
        }
    }

    /// Callers who check the certificate's validity cannot connect; others, and those connected, are served.
    fn tls(&self, report: &mut ReadinessReport) {
        let now = self.gateway.clock.now().wall;
        if let Some(fault) = self.tls.as_ref().and_then(|tls| tls.fault(now)) {
            report.degraded(ReadinessPart::Tls, fault);
        }
    }

    /// A caller who finds a request that panics could else take all replicas out.
    fn panics(&self, report: &mut ReadinessReport) {
        if self
            .gateway
            .panics
            .are_too_many(self.gateway.clock.elapsed())
        {
            report.degraded(
                ReadinessPart::Panics,
                "three lookups have failed within a minute because of a bug; the log says where",
            );
        }
    }
}

impl ReadinessReport {
    fn problem(&mut self, part: ReadinessPart, problem: impl Into<String>) {
        let problem = problem.into();
        self.problems.push(PartFault { part, problem });
    }

    fn degraded(&mut self, part: ReadinessPart, problem: impl Into<String>) {
        let problem = problem.into();
        self.degraded.push(PartFault { part, problem });
    }

    pub(crate) fn is_well(&self) -> bool {
        self.problems.is_empty() && self.degraded.is_empty()
    }
}

impl fmt::Display for ReadinessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ready { "ready" } else { "not ready" })?;
        for fault in &self.problems {
            write!(f, "; {fault}")?;
        }
        for fault in &self.degraded {
            write!(f, "; degraded: {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part.word(), self.problem)
    }
}

fn parts(faults: &[PartFault]) -> Vec<ReadinessPart> {
    faults.iter().map(|fault| fault.part).collect()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields over by reference"
)]
fn word_of<S: Serializer>(part: &ReadinessPart, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(part.word())
}
