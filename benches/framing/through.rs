//! What went through a proxy to the gateway: whether both have counted the same, and no caller got an answer
//! to another one's question.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::exchange::Exchange;
use crate::judge::{user, user_on_record};
use crate::proxies::Line;
use crate::streams::Stream;

/// One run through one proxy.
pub(crate) struct Passage<'r> {
    pub(crate) sent: &'r [Exchange],
    /// What the proxy says of it.
    pub(crate) lines: &'r [Line],
    /// What the gateway has on record, by the request's id.
    pub(crate) records: &'r HashMap<String, Value>,
}

/// A stream's number, and what is wrong with what became of it; none where no stream is known.
pub(crate) type Fault = (Option<usize>, String);

impl Passage<'_> {
    /// How many requests the proxy has passed on.
    pub(crate) fn passed_on(&self) -> usize {
        self.lines.iter().filter(|line| line.passed_on).count()
    }

    /// Everything that does not fit together.
    pub(crate) fn faults(&self, streams: &[Stream]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let callers = self.sent.iter().zip(0..streams.len());
        let callers: HashMap<Ipv4Addr, usize> = callers
            .map(|(exchange, at)| (exchange.caller, at))
            .collect();
        let mut counted = HashSet::new();
        let mut answered: HashMap<Ipv4Addr, Vec<&str>> = HashMap::new();
        let mut given_up = Vec::new();
        for line in self.lines.iter().filter(|line| line.passed_on) {
            let stream = callers.get(&line.caller).copied();
            let mut fault = |what: &str| faults.push((stream, format!("{what}: {line:?}")));
            let Some(id) = &line.id else {
                // HAProxy sees only then that a body is none when it has already passed on the head.
                match line.status {
                    400..500 => given_up.push(user(&line.target)),
                    _ => fault("never answered"),
                }
                continue;
            };
            answered.entry(line.caller).or_default().push(id);
            if !counted.insert(id) {
                fault("counted twice");
            }
            match self.records.get(id) {
                Some(record) if user_on_record(record) != user(&line.target) => {
                    fault(&format!("got the answer to {record}"));
                }
                // What is no request is refused and not on record.
                None if line.status < 400 => fault("not on record"),
                _ => {}
            }
        }
        for (id, record) in self.records.iter().filter(|(id, _)| !counted.contains(id)) {
            match given_up
                .iter()
                .position(|user| *user == user_on_record(record))
            {
                Some(at) => drop(given_up.swap_remove(at)),
                None => faults.push((None, format!("{id} was passed on by no one: {record}"))),
            }
        }
        for (at, exchange) in self.sent.iter().enumerate() {
            let ids = exchange
                .answers
                .iter()
                .filter_map(|answer| answer.id.as_deref());
            let (got, passed) = (
                ids.collect::<Vec<&str>>(),
                answered.remove(&exchange.caller),
            );
            // nginx gives an answer to HTTP/0.9 without its head.
            if !exchange.is_foreign && got != passed.unwrap_or_default() {
                faults.push((Some(at), format!("answers came in another turn: {got:?}")));
            }
        }
        faults
    }
}
