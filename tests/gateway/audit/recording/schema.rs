//! Records against the schema that is published of them.

use std::borrow::Cow;
use std::time::Duration;

use atlas_cert_gateway::audit::{Arrival, CacheUse, Closing, Origin, Outcome, Refused};
use atlas_cert_gateway::identity::PeerCertificate;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{fetch, purge};
use crate::audit::trail::{Trail, caller, query};

/// The schema names every member that there is, in its order, and says which are always there.
#[tokio::test]
async fn every_record_is_as_the_schema_has_it() {
    let trail = Trail::with(|config| config.refusals_per_minute = 0);
    let query = query("app");
    trail.record("plain").await.unwrap();
    let mut entry = trail.audit.entry(Arrival {
        caller_request_id: Some(b"\xff"[..].into()),
        origin: Cow::Owned(Origin::new(
            ([192, 0, 2, 1], 1).into(),
            Some(&certificate()),
        )),
        ..trail.arrival()
    });
    entry.set_caller(&caller(&"long".repeat(1_000)));
    entry.set_invalid_path(&[b'/'; 2_000]);
    let long_name = "claim".repeat(100);
    let closing = Closing {
        outcome: Outcome::Rejected,
        reason: Some("malformed claim"),
        claim: Some(&long_name),
        cache: CacheUse::Stale,
        ..trail.closing()
    };
    entry.close(closing).await.unwrap();
    trail.audit.record_fetch(&fetch(&trail, &query));
    trail
        .audit
        .record_admin(&purge(&trail, &caller("operator")))
        .await
        .unwrap();
    let denied = Closing {
        outcome: Outcome::Denied,
        ..trail.closing()
    };
    for subject in [None, Some("denied".to_owned()), Some("long".repeat(1_000))] {
        let mut entry = trail.entry();
        if let Some(subject) = subject {
            entry.set_caller(&caller(&subject));
        }
        assert_eq!(entry.refuse(&denied), Refused::Folded);
    }
    trail.manual_clock.advance(Duration::from_mins(1));
    trail.until(|| trail.lines().len() == 8).await;
    let file = std::fs::read_to_string(&trail.files()[0]).unwrap();
    file.lines().for_each(hold_to_schema);
}

/// Whether a record has only members that the schema names, in its order, and all that it requires.
#[track_caller]
pub(crate) fn hold_to_schema(line: &str) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let forms: Form = serde_json::from_str(SCHEMA).unwrap();
    let names: Names = serde_json::from_str(line).unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    let kinds = ["lookup", "fetch", "admin", "refusals", "inventory"];
    let kind = kinds
        .iter()
        .position(|kind| record["kind"] == *kind)
        .unwrap();
    let Form { one_of } = &forms;
    let known = &one_of[kind].properties.0;
    let places = names.0.iter().map(|name| {
        known
            .iter()
            .position(|it| it == name)
            .unwrap_or_else(|| panic!("{name} is not in the schema"))
    });
    assert!(places.is_sorted_by(|a, b| a < b), "{line}");
    for required in schema["oneOf"][kind]["required"].as_array().unwrap() {
        assert!(
            names.0.iter().any(|name| required == name),
            "{required} is missing: {line}"
        );
    }
}

/// A caller's certificate with more names than a record has room for.
fn certificate() -> PeerCertificate {
    PeerCertificate {
        subject: Some("CN=payments,".repeat(100)),
        names: vec!["URI:spiffe://example.org/\"payments\"".to_owned(); 100],
        ..PeerCertificate::read(b"")
    }
}

/// The schema, as far as the order of its members goes, which a map of JSON does not keep.
#[derive(Deserialize)]
struct Form {
    #[serde(rename = "oneOf")]
    one_of: Vec<Properties>,
}

#[derive(Deserialize)]
struct Properties {
    properties: Names,
}

/// The names of an object's members, in their order.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = members.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

const SCHEMA: &str = include_str!("../../../../config/audit-record.schema.json");
