//! Alerts and dashboard ask for metrics that are there.

use std::collections::BTreeSet;

use atlas_cert_gateway::telemetry::Metrics;
use atlas_cert_gateway::telemetry::metrics::upstream::{CredentialLabels, Endpoint};

pub(crate) const ALERTS: &str = include_str!("../../../config/monitoring/alerts.yaml");
const ALERT_TESTS: &str = include_str!("../../../config/monitoring/alerts.test.yaml");
const DASHBOARD: &str = include_str!("../../../config/monitoring/dashboard.json");
const PREFIX: &str = "atlas_cert_gateway_";

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_are_on_the_page() {
    let page = page();
    let present: BTreeSet<&str> = page.lines().filter_map(series).collect();
    for (file, text) in [("alerts.yaml", ALERTS), ("dashboard.json", DASHBOARD)] {
        let wanted = metrics_in(text);
        assert!(wanted.len() > 10, "{file} asks for {wanted:?}");
        let missing: Vec<_> = wanted
            .iter()
            .filter(|name| !present.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_that_has_something_to_answer() {
    let shown = metrics_in(DASHBOARD);
    let page = page();
    let hidden: BTreeSet<_> = page
        .lines()
        .filter_map(family)
        .filter(|family| !shown.iter().any(|name| name.starts_with(family)))
        .collect();
    // What explains an incident, but asks no question of its own.
    let for_incidents = [
        "atlas_cert_gateway_access_deny_list_entries",
        "atlas_cert_gateway_access_rules_unused",
        "atlas_cert_gateway_audit_batches_late_total",
        "atlas_cert_gateway_audit_files_packed_total",
        "atlas_cert_gateway_audit_files_removed_total",
        "atlas_cert_gateway_audit_retention_failures_total",
        "atlas_cert_gateway_audit_retention_rounds_total",
        "atlas_cert_gateway_audit_rotations_total",
        "atlas_cert_gateway_audit_sink_dropped_total",
        "atlas_cert_gateway_audit_sync_failures_total",
        "atlas_cert_gateway_compressions_total",
        "atlas_cert_gateway_config_reloads_total",
        "atlas_cert_gateway_expirations_questions_total",
        "atlas_cert_gateway_jwks_keys_ignored_total",
        "atlas_cert_gateway_log_lines_dropped_total",
        "atlas_cert_gateway_lookups_panicked_total",
        "atlas_cert_gateway_memory_stage",
        "atlas_cert_gateway_tls_reloads_total",
        "atlas_cert_gateway_upstream_certificates_without_end_total",
        "atlas_cert_gateway_upstream_lists_miscounted_total",
    ];
    assert_eq!(hidden, BTreeSet::from(for_incidents));
}

#[test]
fn every_alert_has_a_world_in_which_it_fires_and_one_in_which_it_is_silent() {
    let worlds: Vec<&str> = ALERT_TESTS.split("- alertname: ").skip(1).collect();
    for alert in alerts() {
        let of_alert = worlds
            .iter()
            .filter(|world| world.lines().next() == Some(alert));
        let (silent, fires): (Vec<&str>, Vec<&str>) =
            of_alert.partition(|world| world.contains("exp_alerts: []"));
        assert!(!fires.is_empty(), "{alert} never fires");
        assert!(!silent.is_empty(), "{alert} is never silent");
    }
}

#[test]
fn the_dashboard_answers_six_questions_in_their_order() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|row| row["title"].as_str().unwrap())
        .collect();
    let queries = [
        "Is it healthy?",
        "What did it save?",
        "Who is it slow for?",
        "What is left of Atlas's bucket?",
        "What do the replicas share?",
        "What expires?",
    ];
    assert_eq!(rows, queries);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let explained = |panel: &&serde_json::Value| {
        matches!(panel["type"].as_str(), Some("row" | "text"))
            || panel["description"]
                .as_str()
                .is_some_and(|text| text.len() > 10)
    };
    assert!(panels.iter().all(|panel| explained(&panel)));
}

/// The alerts' names.
pub(crate) fn alerts() -> impl Iterator<Item = &'static str> {
    let name = |line: &'static str| line.trim_start().strip_prefix("- alert: ");
    ALERTS.lines().filter_map(name)
}

/// A page on which every metric has a value.
pub(crate) fn page() -> String {
    let (metrics, scrape) = Metrics::register();
    metrics.upstream.called(Endpoint::Certificates, 200, 0.1);
    let credential = || CredentialLabels {
        credential: "platform".to_owned(),
    };
    let upstream = &metrics.upstream;
    upstream
        .rate_limit_remaining
        .get_or_create(&credential())
        .set(1);
    upstream.reserve_in.get_or_create(&credential()).set(1.0);
    upstream.others_calls.get_or_create(&credential()).inc();
    upstream.gate_closed.get_or_create(&credential()).set(0);
    upstream.demand_ratio.get_or_create(&credential()).set(1.0);
    metrics.fleet.joined(5);
    metrics.tls.ask(|| Some(1));
    upstream.token_expires.get_or_create(&credential()).set(1.0);
    scrape.render()
}

/// The name in a line `# TYPE name kind`, where it is one of ours.
pub(crate) fn family(line: &str) -> Option<&str> {
    let name = line.strip_prefix("# TYPE ")?.split(' ').next()?;
    name.starts_with(PREFIX).then_some(name)
}

/// The name in a line `name{labels} value`.
fn series(line: &str) -> Option<&str> {
    let name = line.split(['{', ' ']).next()?;
    name.starts_with(PREFIX).then_some(name)
}

/// Everything in a text that is called like a metric of ours. Names of recording rules go on after a
/// colon before and behind.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |sign: char| sign.is_ascii_alphanumeric() || sign == '_' || sign == ':';
    text.split(|sign| !is_part(sign))
        .filter(|word| word.starts_with(PREFIX) && !word.contains(':'))
        .map(str::to_owned)
        .collect()
}
