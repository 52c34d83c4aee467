//! Which records are wanted: one set of filters for `audit search` and for `GET /audit/lookups`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use crate::atlas::{ProjectId, Timestamp};
use crate::identity::network;
use crate::system::Clock;

use super::Order;

/// A record has to pass all that are given.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who asked: the token's subject.
    #[arg(long)]
    pub subject: Option<String>,
    /// Who issued the token.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// For which client it was issued.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The token itself, by its `jti`.
    #[arg(long, value_name = "JTI")]
    pub token_id: Option<String>,
    /// The access rule that granted or denied it.
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// From where: an IP address, or one with a port (`10.0.0.1:50123`, `[::1]:50123`).
    #[arg(long, value_name = "ADDRESS", value_parser = peer)]
    pub peer: Option<Peer>,
    /// About which project.
    #[arg(long, value_name = "GROUP_ID", value_parser = group)]
    pub group: Option<String>,
    /// About which database user.
    #[arg(long)]
    pub username: Option<String>,
    /// How it ended: answered, denied, unauthenticated, rejected, failed or abandoned.
    #[arg(long, value_parser = outcome)]
    pub outcome: Option<String>,
    /// With which HTTP status.
    #[arg(long, value_parser = status)]
    pub status: Option<u16>,
    /// Lookups, fetches from Atlas, what operators did, or refusals that were folded: lookup, fetch, admin
    /// or refusals.
    #[arg(long, value_parser = kind)]
    pub kind: Option<String>,
    /// Not before this: `2026-08-10T02:06:35Z`, `2026-08-10`, or `24h` for as long ago.
    #[arg(long, value_name = "TIME", value_parser = instant_by_now)]
    pub since: Option<Timestamp>,
    /// Before this.
    #[arg(long, value_name = "TIME", value_parser = instant_by_now)]
    pub until: Option<Timestamp>,
    /// The `X-Request-Id` of an answer.
    #[arg(long, value_name = "ID", value_parser = id)]
    pub request_id: Option<Uuid>,
    /// A fetch from Atlas, and every answer that it filled.
    #[arg(long, value_name = "ID", value_parser = id)]
    pub fill_id: Option<Uuid>,
    /// Which answers had a certificate, by its serial number (`_id`), and with which fetches it came and went.
    #[arg(long, value_name = "SERIAL", value_parser = certificate)]
    pub certificate: Option<i64>,
    /// Only records with a number above this: the next page, oldest first.
    #[arg(long, value_name = "SEQ", value_parser = number)]
    pub after: Option<u64>,
    /// Only records with a number below this: the next page, newest first.
    #[arg(long, value_name = "SEQ", value_parser = number)]
    pub before: Option<u64>,
}

/// Who was connected, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// From any port of it.
    Address(IpAddr),
    /// From this port.
    Socket(SocketAddr),
}

/// A filter that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// There is none of this name.
    #[error("has no parameter of this name; there are {NAMES}")]
    Unknown,
    /// It has a value already.
    #[error("takes `{0}` once")]
    Twice(&'static str),
    /// Its value is not what it takes.
    #[error("takes as `{name}` {allowed}")]
    Value {
        /// Which filter.
        name: &'static str,
        /// What it takes.
        allowed: &'static str,
    },
}

impl Filter {
    /// Sets the filter of this name; `24h` is counted from `now`.
    pub fn set(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), BadFilter> {
        match name {
            "subject" => once("subject", &mut self.subject, Ok(value.to_owned())),
            "issuer" => once("issuer", &mut self.issuer, Ok(value.to_owned())),
            "client-id" => once("client-id", &mut self.client_id, Ok(value.to_owned())),
            "token-id" => once("token-id", &mut self.token_id, Ok(value.to_owned())),
            "rule" => once("rule", &mut self.rule, Ok(value.to_owned())),
            "peer" => once("peer", &mut self.peer, peer(value)),
            "username" => once("username", &mut self.username, Ok(value.to_owned())),
            "group" => once("group", &mut self.group, group(value)),
            "outcome" => once("outcome", &mut self.outcome, outcome(value)),
            "status" => once("status", &mut self.status, status(value)),
            "kind" => once("kind", &mut self.kind, kind(value)),
            "since" => once("since", &mut self.since, instant(value, now)),
            "until" => once("until", &mut self.until, instant(value, now)),
            "request-id" => once("request-id", &mut self.request_id, id(value)),
            "fill-id" => once("fill-id", &mut self.fill_id, id(value)),
            "certificate" => once("certificate", &mut self.certificate, certificate(value)),
            "after" => once("after", &mut self.after, number(value)),
            "before" => once("before", &mut self.before, number(value)),
            _ => Err(BadFilter::Unknown),
        }
    }
}

impl Peer {
    /// The members of which a record of it has one. A listener on `[::]` sees IPv4 addresses as mapped
    /// ones; proxies tell an address without a port, and folded refusals are of one, or of a network of IPv6.
    pub(super) fn spellings(self) -> Vec<String> {
        match self {
            Self::Socket(SocketAddr::V4(peer)) => {
                let (ip, port) = (peer.ip(), peer.port());
                vec![
                    format!(",\"peer\":\"{peer}\""),
                    format!(",\"peer\":\"[::ffff:{ip}]:{port}\""),
                ]
            }
            Self::Socket(SocketAddr::V6(peer)) => vec![format!(",\"peer\":\"{peer}\"")],
            Self::Address(IpAddr::V4(ip)) => vec![
                format!(",\"peer\":\"{ip}:"),
                format!(",\"peer\":\"{ip}\""),
                format!(",\"peer\":\"[::ffff:{ip}]:"),
            ],
            Self::Address(IpAddr::V6(ip)) => vec![
                format!(",\"peer\":\"[{ip}]:"),
                format!(",\"peer\":\"{ip}\""),
                format!(",\"peer\":\"{}/64\"", network(ip.into())),
            ],
        }
    }
}

fn once<T>(
    name: &'static str,
    place: &mut Option<T>,
    value: Result<T, &'static str>,
) -> Result<(), BadFilter> {
    let value = value.map_err(|allowed| BadFilter::Value { name, allowed })?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadFilter::Twice(name)),
    }
}

/// A project's id; the error says what is allowed, as in all of these.
fn group(text: &str) -> Result<String, &'static str> {
    let id: Result<ProjectId, _> = text.parse();
    id.map(|id| id.as_str().to_owned())
        .map_err(|_| "24 lower-case hexadecimal digits")
}

fn outcome(text: &str) -> Result<String, &'static str> {
    let words = [
        "answered",
        "denied",
        "unauthenticated",
        "rejected",
        "failed",
        "abandoned",
    ];
    let allowed = "answered, denied, unauthenticated, rejected, failed or abandoned";
    one_of(&words, text, allowed)
}

fn kind(text: &str) -> Result<String, &'static str> {
    let words = ["lookup", "fetch", "admin", "refusals"];
    one_of(&words, text, "lookup, fetch, admin or refusals")
}

/// An instant, or how long before `now` it was.
pub(super) fn instant(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let at = || Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")));
    let instant = ago(text).map(|span| now.minus(span)).or_else(at);
    instant.ok_or(
        "a time (2026-08-10T02:06:35Z, or 2026-08-10) or how long ago it was (90s, 15m, 24h, 7d)",
    )
}

/// The same for a command line, which is read now.
pub fn instant_by_now(text: &str) -> Result<Timestamp, &'static str> {
    instant(text, Clock::system().now().wall)
}

fn peer(text: &str) -> Result<Peer, &'static str> {
    let address = |address: IpAddr| Peer::Address(address.to_canonical());
    let socket =
        |peer: SocketAddr| Peer::Socket(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let read = text.parse().map(address);
    read.or_else(|_| text.parse().map(socket))
        .map_err(|_| "an IP address (10.0.0.1, 2001:db8::1) or one with a port (10.0.0.1:50123, [::1]:50123)")
}

fn status(text: &str) -> Result<u16, &'static str> {
    let status = (text.len() == 3).then(|| text.parse().ok()).flatten();
    let status = status.filter(|status| (100..=599).contains(status));
    status.ok_or("an HTTP status, 100 to 599")
}

/// Which record comes first.
pub fn order(text: &str) -> Result<Order, &'static str> {
    match text {
        "newest" => Ok(Order::NewestFirst),
        "oldest" => Ok(Order::OldestFirst),
        _ => Err("newest or oldest"),
    }
}

fn id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "a UUID")
}

fn certificate(text: &str) -> Result<i64, &'static str> {
    text.parse()
        .map_err(|_| "a certificate's serial number: the digits of its `_id`")
}

fn number(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "a record's number")
}

fn one_of(words: &[&str], text: &str, allowed: &'static str) -> Result<String, &'static str> {
    let is_one = words.contains(&text);
    is_one.then(|| text.to_owned()).ok_or(allowed)
}

fn ago(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| number.parse().ok()).flatten()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

const NAMES: &str = "subject, issuer, client-id, token-id, rule, peer, group, username, outcome, status, kind, \
                     since, until, request-id, fill-id, certificate, first, limit, before and after";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Filter, String> {
        let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        let mut filter = Filter::default();
        for (name, value) in pairs {
            filter
                .set(name, value, now)
                .map_err(|bad| bad.to_string())?;
        }
        Ok(filter)
    }

    #[test]
    fn an_instant_is_a_time_a_day_or_how_long_ago_it_was() {
        for (text, instant) in [
            ("2026-08-10T04:06:35+02:00", "2026-08-10T02:06:35Z"),
            ("2026-08-10", "2026-08-10T00:00:00Z"),
            ("24h", "2026-08-09T02:06:35Z"),
            ("90s", "2026-08-10T02:05:05Z"),
            ("15m", "2026-08-10T01:51:35Z"),
            ("7d", "2026-08-03T02:06:35Z"),
        ] {
            let filter = read(&[("since", text)]).unwrap();
            assert_eq!(filter.since, Timestamp::parse(instant), "{text}");
        }
    }

    #[test]
    fn a_peer_is_looked_for_in_every_spelling_that_a_record_may_have() {
        for (text, spellings) in [
            (
                "10.0.0.1",
                &["10.0.0.1:", "10.0.0.1\"", "[::ffff:10.0.0.1]:"][..],
            ),
            (
                "::ffff:10.0.0.1",
                &["10.0.0.1:", "10.0.0.1\"", "[::ffff:10.0.0.1]:"],
            ),
            ("10.0.0.1:80", &["10.0.0.1:80\"", "[::ffff:10.0.0.1]:80\""]),
            (
                "2001:DB8:0:0::1",
                &["[2001:db8::1]:", "2001:db8::1\"", "2001:db8::/64\""],
            ),
            ("[0::1]:80", &["[::1]:80\""]),
        ] {
            let expected: Vec<String> = spellings
                .iter()
                .map(|spelling| format!(",\"peer\":\"{spelling}"))
                .collect();
            assert_eq!(peer(text).unwrap().spellings(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_is_allowed() {
        for (pairs, told) in [
            (
                &[("outcome", "answerd")][..],
                "takes as `outcome` answered, denied",
            ),
            (&[("group", "XYZ")], "takes as `group` 24 lower-case"),
            (&[("kind", "lookups")], "takes as `kind` lookup, fetch"),
            (&[("since", "yesterday")], "takes as `since` a time"),
            (&[("until", "h")], "takes as `until` a time"),
            (&[("since", "-1h")], "takes as `since` a time"),
            (
                &[("since", "99999999999999999999d")],
                "takes as `since` a time",
            ),
            (&[("request-id", "1")], "takes as `request-id` a UUID"),
            (&[("before", "x")], "takes as `before` a record's number"),
            (
                &[("subject", "a"), ("subject", "b")],
                "takes `subject` once",
            ),
            (&[("colour", "blue")], "there are subject, issuer"),
            (&[("peer", "localhost")], "takes as `peer` an IP address"),
            (&[("peer", "10.0.0.1:")], "takes as `peer` an IP address"),
            (&[("status", "99")], "takes as `status` an HTTP status"),
            (&[("status", "2xx")], "takes as `status` an HTTP status"),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.contains(told), "{pairs:?}: {error}");
        }
    }

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        filter: Filter,
    }

    const ID: &str = "0198a3f0-0000-7000-8000-000000000000";
    /// An option, a value that it takes, and one that it does not take.
    type Example = (&'static str, &'static str, Option<&'static str>);
    const OPTIONS: [Example; 18] = [
        ("subject", "ci", None),
        ("issuer", "https://idp.internal.example", None),
        ("client-id", "payments", None),
        ("token-id", "1", None),
        ("rule", "payments reads", None),
        ("peer", "10.0.0.1", Some("localhost")),
        ("group", "32b6e34b3d91647abb20e7b8", Some("XYZ")),
        ("username", "app", None),
        ("outcome", "denied", Some("allowed")),
        ("status", "403", Some("4xx")),
        ("kind", "lookup", Some("lookups")),
        ("since", "2026-08-10", Some("yesterday")),
        ("until", "2026-08-09", Some("h")),
        ("request-id", ID, Some("7")),
        ("fill-id", ID, Some("7")),
        ("certificate", "5225608189600411232", Some("0x5e")),
        ("after", "7", Some("-1")),
        ("before", "7", Some("x")),
    ];

    #[test]
    fn the_command_and_the_admin_listener_take_the_same_filters() {
        let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        let known = Program::command();
        let known = known.get_arguments().filter_map(clap::Arg::get_long);
        let options = OPTIONS.map(|(name, ..)| name);
        assert_eq!(known.collect::<Vec<_>>(), options);
        for (name, value, wrong) in OPTIONS {
            let read = |value: &str| Program::try_parse_from(["", &format!("--{name}={value}")]);
            let mut by_http = Filter::default();
            by_http.set(name, value, now).unwrap();
            let by_command = read(value).unwrap().filter;
            assert_eq!(by_command, by_http, "{name}");
            assert_ne!(by_command, Filter::default(), "{name}");
            if let Some(wrong) = wrong {
                assert!(read(wrong).is_err(), "{name}");
                assert!(Filter::default().set(name, wrong, now).is_err(), "{name}");
            }
        }
    }
}
