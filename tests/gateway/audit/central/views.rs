//! The views for collectors of security events hold what the published schemas allow: no other names, of their types,
//! with what is required.

use std::borrow::Cow;
use std::collections::BTreeMap;

use atlas_cert_gateway::audit::{Arrival, CacheUse, Closing, Origin, Outcome};
use serde_json::Value;

use crate::audit::central::shipped::{central_trail, until_shipped};
use crate::audit::trail::{Trail, caller, query};
use crate::harness::postgres::Postgres;

#[tokio::test]
async fn lookups_are_api_activity_of_the_open_cybersecurity_schema() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let events = events(&postgres, "audit.audit_ocsf").await;
    for event in &events {
        let found = fields(event, &OCSF);
        for required in OCSF_REQUIRED {
            assert!(found.contains_key(required), "{required}: {event}");
        }
        // Each of these objects, where it is there, has at least one of its members.
        for (object, members) in OCSF_ONE_OF {
            let is_there = found.keys().any(|path| path.starts_with(object));
            let member = |name: &&str| found.contains_key(&*format!("{object}.{name}"));
            assert!(!is_there || members.iter().any(member), "{object}: {event}");
        }
        let number = |name: &str| event[name].as_i64().unwrap();
        assert_eq!(
            number("type_uid"),
            number("class_uid") * 100 + number("activity_id")
        );
        let status = event["status"].as_str().unwrap();
        assert_eq!(
            OCSF_STATUS[usize::try_from(number("status_id")).unwrap()],
            status
        );
        let severity = event["severity"].as_str().unwrap();
        assert_eq!(
            OCSF_SEVERITY[usize::try_from(number("severity_id")).unwrap()],
            severity
        );
    }
    let said = |path: &str| -> Vec<Value> {
        let values = events.iter().map(|event| event.pointer(path).cloned());
        values.map(Option::unwrap_or_default).collect()
    };
    assert_eq!(said("/status_id"), [1, 2, 2, 0, 1, 1, 1]);
    assert_eq!(said("/src_endpoint/ip"), ADDRESSES);
    assert_eq!(said("/actor/user/uid")[..2], ["ci", "ci"]);
    assert_eq!(said("/resources/1/name")[0], "app");
    assert_eq!(said("/metadata/sequence"), [2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn lookups_are_events_of_the_elastic_common_schema() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let events = events(&postgres, "audit.audit_ecs").await;
    for event in &events {
        let found = fields(event, &ECS);
        for required in ["@timestamp", "ecs.version"] {
            assert!(found.contains_key(required), "{required}: {event}");
        }
        for (field, allowed) in ECS_ALLOWED {
            let value = found[field].as_str().unwrap();
            assert!(allowed.contains(&value), "{field}: {value}");
        }
        let labels = event["labels"].as_object().unwrap();
        assert!(labels.values().all(Value::is_string), "{event}");
    }
    let said = |path: &str| -> Vec<Value> {
        let values = events.iter().map(|event| event.pointer(path).cloned());
        values.map(Option::unwrap_or_default).collect()
    };
    let (success, failure) = ("success", "failure");
    assert_eq!(
        said("/event/outcome"),
        [
            success, failure, failure, "unknown", success, success, success
        ]
    );
    assert_eq!(said("/source/ip"), ADDRESSES);
    assert_eq!(said("/source/port")[0], 50123);
    assert_eq!(said("/error/code")[1], "ACCESS_FORBIDDEN");
    assert_eq!(said("/user/target/name")[0], "app");
}

/// Lookups that ended in every way, of callers at every kind of address, as a view shows them.
async fn events(postgres: &Postgres, view: &str) -> Vec<Value> {
    let trail = central_trail(postgres, |_| ());
    trail.record("ci").await.unwrap();
    let (query, ci) = (query("app"), caller("ci"));
    let mut denied = trail.entry();
    denied.set_caller(&ci);
    denied.set_query(&query);
    refuse(&trail, denied, Outcome::Denied, 403).await;
    // Neither who asks is known, nor what about.
    refuse(&trail, trail.entry(), Outcome::Unauthenticated, 401).await;
    drop(trail.entry());
    let proxy = Origin::new("192.0.2.7:50123".parse().unwrap(), None);
    for origin in [
        Origin::new("[2001:db8::1]:443".parse().unwrap(), None),
        proxy.forwarded("2001:db8::1".parse().unwrap(), None),
        proxy.forwarded("192.0.2.8".parse().unwrap(), None),
    ] {
        let arrival = Arrival {
            origin: Cow::Owned(origin),
            ..trail.arrival()
        };
        trail
            .audit
            .entry(arrival)
            .close(trail.closing())
            .await
            .unwrap();
    }
    until_shipped(&trail, postgres).await;
    let auditor = postgres.client("auditor").await;
    let select = format!("SELECT event::text FROM {view} ORDER BY seq");
    let rows = auditor.query(&select, &[]).await.unwrap();
    assert_eq!(rows.len(), ADDRESSES.len());
    let events = rows.iter().map(|row| serde_json::from_str(row.get(0)));
    events.map(Result::unwrap).collect()
}

async fn refuse(
    trail: &Trail,
    entry: atlas_cert_gateway::audit::Entry<'_>,
    outcome: Outcome,
    status: u16,
) {
    let closing = Closing {
        outcome,
        status,
        error_code: Some("ACCESS_FORBIDDEN"),
        cache: CacheUse::None,
        certificates: None,
        ..trail.closing()
    };
    entry.close(closing).await.unwrap();
}

/// All values by their paths, each of which is a field of the schema and of its type.
fn fields<'e>(event: &'e Value, schema: &[(&str, &str)]) -> BTreeMap<String, &'e Value> {
    let schema: BTreeMap<&str, &str> = schema.iter().copied().collect();
    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), event)];
    while let Some((path, value)) = waiting.pop() {
        if schema.get(&*path) == Some(&"object") {
            assert!(value.is_object(), "{path}: {value}");
            continue;
        }
        match value {
            Value::Object(members) => waiting.extend(members.iter().map(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                (format!("{path}{dot}{name}"), value)
            })),
            Value::Array(values) => {
                waiting.extend(values.iter().map(|value| (path.clone(), value)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let known = schema.get(&*path);
                let kind = known.unwrap_or_else(|| panic!("no field is {path}: {event}"));
                let is_of_it = match *kind {
                    "boolean_t" => value.is_boolean(),
                    "integer_t" | "long" | "long_t" | "port_t" | "timestamp_t" => value.is_i64(),
                    "ip" | "ip_t" => {
                        let text = value.as_str().unwrap();
                        text.parse::<std::net::IpAddr>().is_ok()
                    }
                    "date" | "keyword" | "string_t" => value.is_string(),
                    other => panic!("nothing is known of the type {other}"),
                };
                assert!(is_of_it, "{path} is no {kind}: {value}");
                found.insert(path, value);
            }
        }
    }
    found
}

/// A field or an object, and what stands there, or of which it has one.
type Choice = (&'static str, &'static [&'static str]);

/// Of those who asked, in their order.
const ADDRESSES: [&str; 7] = [
    "192.0.2.7",
    "192.0.2.7",
    "192.0.2.7",
    "192.0.2.7",
    "2001:db8::1",
    "2001:db8::1",
    "192.0.2.8",
];
/// From OCSF 1.3.0, `events/application/api.json`, `events/base_event.json` and `objects/`: what the view uses.
const OCSF: [(&str, &str); 37] = [
    ("activity_id", "integer_t"),
    ("activity_name", "string_t"),
    ("actor.app_uid", "string_t"),
    ("actor.idp.uid", "string_t"),
    ("actor.session.is_remote", "boolean_t"),
    ("actor.session.issuer", "string_t"),
    ("actor.session.uid", "string_t"),
    ("actor.user.uid", "string_t"),
    ("api.operation", "string_t"),
    ("api.request.uid", "string_t"),
    ("api.response.code", "integer_t"),
    ("api.response.error", "string_t"),
    ("api.service.name", "string_t"),
    ("category_name", "string_t"),
    ("category_uid", "integer_t"),
    ("class_name", "string_t"),
    ("class_uid", "integer_t"),
    ("duration", "long_t"),
    ("metadata.product.name", "string_t"),
    ("metadata.product.vendor_name", "string_t"),
    ("metadata.sequence", "integer_t"),
    ("metadata.uid", "string_t"),
    ("metadata.version", "string_t"),
    ("resources.name", "string_t"),
    ("resources.type", "string_t"),
    ("resources.uid", "string_t"),
    ("severity", "string_t"),
    ("severity_id", "integer_t"),
    ("src_endpoint.ip", "ip_t"),
    ("src_endpoint.port", "port_t"),
    ("status", "string_t"),
    ("status_code", "string_t"),
    ("status_detail", "string_t"),
    ("status_id", "integer_t"),
    ("time", "timestamp_t"),
    ("type_uid", "long_t"),
    ("unmapped", "object"),
];
const OCSF_REQUIRED: [&str; 11] = [
    "activity_id",
    "api.operation",
    "api.request.uid",
    "category_uid",
    "class_uid",
    "metadata.product.vendor_name",
    "metadata.version",
    "severity_id",
    "src_endpoint.ip",
    "time",
    "type_uid",
];
/// Its constraints `at_least_one`, as far as the view has those members.
const OCSF_ONE_OF: [Choice; 7] = [
    ("actor.idp", &["name", "uid"]),
    ("actor.user", &["account", "name", "uid"]),
    ("actor", &["app_uid", "session.is_remote", "user.uid"]),
    ("api.service", &["name", "uid"]),
    ("metadata.product", &["name", "uid"]),
    ("resources", &["name", "uid"]),
    ("src_endpoint", &["ip", "name", "uid"]),
];
/// By `status_id`.
const OCSF_STATUS: [&str; 3] = ["Unknown", "Success", "Failure"];
/// By `severity_id`.
const OCSF_SEVERITY: [&str; 7] = [
    "Unknown",
    "Informational",
    "Low",
    "Medium",
    "High",
    "Critical",
    "Fatal",
];
/// From ECS 8.11.0, `generated/csv/fields.csv`: what the view uses.
const ECS: [(&str, &str); 23] = [
    ("@timestamp", "date"),
    ("ecs.version", "keyword"),
    ("error.code", "keyword"),
    ("event.action", "keyword"),
    ("event.category", "keyword"),
    ("event.duration", "long"),
    ("event.id", "keyword"),
    ("event.kind", "keyword"),
    ("event.outcome", "keyword"),
    ("event.provider", "keyword"),
    ("event.sequence", "long"),
    ("event.type", "keyword"),
    ("http.response.status_code", "long"),
    ("labels", "object"),
    ("observer.name", "keyword"),
    ("observer.product", "keyword"),
    ("rule.name", "keyword"),
    ("source.address", "keyword"),
    ("source.ip", "ip"),
    ("source.port", "long"),
    ("user.id", "keyword"),
    ("user.target.domain", "keyword"),
    ("user.target.name", "keyword"),
];
/// The values that it allows, of the category those for a type `info` of `iam`.
const ECS_ALLOWED: [Choice; 4] = [
    (
        "event.kind",
        &[
            "alert",
            "asset",
            "enrichment",
            "event",
            "metric",
            "state",
            "pipeline_error",
            "signal",
        ],
    ),
    ("event.category", &["iam"]),
    (
        "event.type",
        &[
            "admin", "change", "creation", "deletion", "group", "info", "user",
        ],
    ),
    ("event.outcome", &["failure", "success", "unknown"]),
];
