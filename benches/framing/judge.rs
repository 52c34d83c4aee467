//! Whether two who have read the same bytes have read the same requests.

use std::collections::HashMap;

use serde_json::Value;

use crate::exchange::Exchange;
use crate::proxies::Line;
use crate::recorder::Forwarded;

/// What one parser has made of a stream.
pub(crate) struct Reading {
    pub(crate) requests: Vec<Request>,
    pub(crate) end: End,
}

/// A request that was taken as one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The user whose certificates it asks for, which tells it from others.
    pub(crate) user: Option<String>,
    pub(crate) has_body: bool,
}

/// What became of the bytes behind the last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// They were refused, and so was everything behind them.
    Refused,
    /// They were not looked at: the last request was the last.
    Closed,
    /// They were taken as the beginning of something that never came.
    Awaited,
}

/// How a proxy compares with the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    BothRefuse,
    /// Request by request.
    Alike,
    /// The proxy does not pass on what the gateway would answer.
    FrontStricter,
    /// The gateway refuses what the proxy passes on.
    GatewayStricter,
    /// The two see different requests.
    Different(String),
}

impl Reading {
    /// The gateway's, from its answers and its own records of them.
    pub(crate) fn of_gateway(exchange: &Exchange, records: &HashMap<String, Value>) -> Self {
        let mut requests = Vec::new();
        for answer in &exchange.answers {
            // An answer that refuses and ends the connection takes nothing as a request.
            if answer.status >= 400 && answer.closes {
                let end = if answer.status == 408 {
                    End::Awaited
                } else {
                    End::Refused
                };
                return Self { requests, end };
            }
            let record = answer.id.as_ref().and_then(|id| records.get(id));
            requests.push(Request {
                user: record.and_then(user_on_record),
                has_body: false,
            });
        }
        let end = if exchange.hangs {
            End::Awaited
        } else {
            End::Closed
        };
        Self { requests, end }
    }

    /// A proxy's, from what it has passed on and what it says itself.
    pub(crate) fn of_proxy(exchange: &Exchange, forwarded: &[Forwarded], lines: &[&Line]) -> Self {
        let requests = forwarded.iter().map(|forwarded| Request {
            user: user(&forwarded.target),
            has_body: forwarded.has_body,
        });
        let refused = |line: &&&Line| line.status >= 400 && !line.passed_on;
        let end = if exchange.hangs || lines.iter().any(|line| line.status == 408) {
            End::Awaited
        } else if lines.iter().any(|line| refused(&line)) {
            End::Refused
        } else {
            End::Closed
        };
        Self {
            requests: requests.collect(),
            end,
        }
    }

    /// What it means that a proxy in front of the gateway reads so.
    pub(crate) fn behind(&self, front: &Self) -> Verdict {
        for (at, (ours, theirs)) in self.requests.iter().zip(&front.requests).enumerate() {
            if ours != theirs {
                return Verdict::Different(format!("request {at}: {ours:?}, {theirs:?} in front"));
            }
        }
        let [ours, theirs] = [self, front].map(|reading| reading.requests.len());
        match (ours.cmp(&theirs), self.end, front.end) {
            // The one that waits has taken for a part of a request what the other takes for a whole one.
            (std::cmp::Ordering::Greater, _, End::Awaited) => {
                Verdict::Different(format!("in front, request {theirs} never ends"))
            }
            (std::cmp::Ordering::Less, End::Awaited, _) => {
                Verdict::Different(format!("request {ours} never ends, which it does in front"))
            }
            (std::cmp::Ordering::Greater, _, _) => Verdict::FrontStricter,
            (std::cmp::Ordering::Less, _, _) => Verdict::GatewayStricter,
            (std::cmp::Ordering::Equal, End::Closed, End::Closed) => Verdict::Alike,
            (std::cmp::Ordering::Equal, _, _) => Verdict::BothRefuse,
        }
    }
}

/// The user in a target.
pub(crate) fn user(target: &str) -> Option<String> {
    let (_, rest) = target.split_once("/databaseUsers/")?;
    Some(rest.split_once("/certs")?.0.to_owned())
}

/// The user in a record. Where the question was not even read, only its path is there.
pub(crate) fn user_on_record(record: &Value) -> Option<String> {
    let username = record["username"].as_str().map(str::to_owned);
    username.or_else(|| user(record["path"].as_str()?))
}
