//! Filters, and what a naive reader takes them for.

use std::net::SocketAddr;
use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::audit::search::{Filter, Peer};
use serde_json::Value;

use super::SUBJECTS;
use crate::audit::trail::START;

/// One of each kind, and some together.
pub(super) fn filters(naive: &[(String, Value)]) -> Vec<Filter> {
    let middle = START.plus(Duration::from_mins(1));
    let some_id = naive[300].1["request_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let text = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    vec![
        none(),
        Filter {
            subject: text("ünï\"côdé"),
            ..none()
        },
        Filter {
            subject: text("payments"),
            outcome: text("denied"),
            ..none()
        },
        Filter {
            subject: text("payment"),
            ..none()
        },
        Filter {
            username: text("app\\one"),
            ..none()
        },
        Filter {
            group: text("32b6e34b3d91647abb20e7b8"),
            ..none()
        },
        Filter {
            kind: text("admin"),
            ..none()
        },
        Filter {
            issuer: text("https://idp.internal.example"),
            token_id: text("token-1"),
            subject: text("payments"),
            ..none()
        },
        Filter {
            issuer: text("https://idp.internal"),
            ..none()
        },
        Filter {
            client_id: text("client \"two\""),
            ..none()
        },
        Filter {
            rule: text("reads \\ writes"),
            ..none()
        },
        Filter {
            peer: Some("192.0.2.7".parse().map(Peer::Address).unwrap()),
            ..none()
        },
        Filter {
            peer: Some("192.0.2.70".parse().map(Peer::Address).unwrap()),
            ..none()
        },
        Filter {
            peer: Some("2001:db8::1".parse().map(Peer::Address).unwrap()),
            outcome: text("denied"),
            ..none()
        },
        Filter {
            peer: Some("192.0.2.8:50123".parse().map(Peer::Socket).unwrap()),
            ..none()
        },
        Filter {
            status: Some(403),
            ..none()
        },
        Filter {
            status: Some(200),
            subject: text("payments"),
            ..none()
        },
        Filter {
            status: Some(100),
            ..none()
        },
        Filter {
            kind: text("fetch"),
            ..none()
        },
        Filter {
            outcome: text("failed"),
            ..none()
        },
        Filter {
            subject: text(SUBJECTS[3]),
            kind: text("lookup"),
            ..none()
        },
        Filter {
            since: Some(middle),
            ..none()
        },
        Filter {
            until: Some(middle),
            outcome: text("denied"),
            ..none()
        },
        Filter {
            request_id: Some(some_id),
            ..none()
        },
        Filter {
            after: Some(700),
            before: Some(703),
            ..none()
        },
    ]
}

/// Whether a naive reader would pick `record`.
pub(super) fn passes(filter: &Filter, record: &Value) -> bool {
    let is = |wanted: &Option<String>, name: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| record[name] == **wanted)
    };
    let time = Timestamp::parse(record["time"].as_str().unwrap()).unwrap();
    let seq = record["seq"].as_u64().unwrap();
    is(&filter.subject, "subject")
        && is(&filter.username, "username")
        && is(&filter.group, "group_id")
        && is(&filter.issuer, "issuer")
        && is(&filter.client_id, "client_id")
        && is(&filter.token_id, "token_id")
        && is(&filter.rule, "rule")
        && filter
            .peer
            .is_none_or(|peer| is_peer(peer, &record["peer"]))
        && filter
            .status
            .is_none_or(|status| record["status"] == status)
        && is(&filter.outcome, "outcome")
        && is(&filter.kind, "kind")
        && filter.since.is_none_or(|since| time >= since)
        && filter.until.is_none_or(|until| time < until)
        && filter
            .request_id
            .is_none_or(|id| record["request_id"] == id.to_string())
        && filter.after.is_none_or(|after| seq > after)
        && filter.before.is_none_or(|before| seq < before)
}

fn is_peer(wanted: Peer, peer: &Value) -> bool {
    let peer: Option<SocketAddr> = peer.as_str().map(|peer| peer.parse().unwrap());
    peer.is_some_and(|peer| match wanted {
        Peer::Address(address) => peer.ip() == address,
        Peer::Socket(socket) => peer == socket,
    })
}
