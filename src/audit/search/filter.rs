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
    /// Lookups, fetches from Atlas, questions of what expires, what operators did, or refusals that were folded:
    /// lookup, fetch, inventory, admin or refusals.
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
    /// Only fetches with which a certificate appeared or vanished, against the fetch before.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub changed: Option<bool>,
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
    /// Whether only fetches with which something changed are wanted.
    pub(crate) fn wants_changes(&self) -> bool {
        self.changed == Some(true)
    }

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
            "changed" => once("changed", &mut self.changed, flag(value)),
            "after" => once("after", &mut self.after, number(value)),
            "before" => once("before", &mut self.before, number(value)),
            _ => Err(BadFilter::Unknown),
        }
    }
}

impl Peer {
    /// The members of which a record of it has one. A listener on `[::]` sees IPv4 addresses as mapped
    /// ones; proxies tell an address without a port, and folded refusals are of one, or of a network of IPv6.
    pub(in crate::audit) fn spellings(self) -> Vec<String> {
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

fn flag(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "true or false")
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
    let words = ["lookup", "fetch", "inventory", "admin", "refusals"];
    one_of(&words, text, "lookup, fetch, inventory, admin or refusals")
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
                     since, until, request-id, fill-id, certificate, changed, first, limit, scope, behind, before and after";

#[cfg(test)]
mod tests;
