//! What `check --online` finds of the engine and of the other replicas. It changes nothing there.

use std::time::Duration;

use redis::{RedisError, Value};

use super::Fleet;
use super::connection::{ConnectError, Connection};
use super::functions::VERSION;
use super::reply::number;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetCheck {
    /// Its name and version.
    pub(crate) engine: String,
    /// Whether it can be written to.
    pub(crate) is_primary: bool,
    pub(crate) has_functions: bool,
    /// Whether our user may run what is not of the library.
    pub(crate) may_run_scripts: bool,
    /// By how many seconds our clock is ahead of its; behind, if negative.
    pub(crate) clock_ahead: i64,
    /// Whether it writes to a disk; `None` if our user may not ask.
    pub(crate) persists: Option<bool>,
    /// How many replicas run, and how many of them are configured otherwise.
    pub(crate) members: usize,
    pub(crate) differing: usize,
}

impl Fleet {
    /// Connects once more, and looks.
    pub(crate) async fn check(&self) -> Result<FleetCheck, ConnectError> {
        let connection = Connection::open_to_look(&self.0.config, &self.0.clock).await?;
        let looked = self.look(&connection);
        let looked = self.0.clock.timeout(LONGEST_CHECK, looked).await;
        looked
            .map_err(|_| ConnectError::Late)?
            .map_err(ConnectError::Refused)
    }

    async fn look(&self, connection: &Connection) -> Result<FleetCheck, RedisError> {
        let ask = async |words: &[&str]| {
            let (command, arguments) = words.split_first().expect("a command has a name");
            connection.send(redis::cmd(command).arg(arguments)).await
        };
        let greeting = ask(&["HELLO", "3"]).await?;
        let said = |name| member(&greeting, name).unwrap_or_default();
        let time = ask(&["TIME"]).await?;
        let theirs = parts(time).into_iter().next().and_then(number);
        let theirs = i64::try_from(theirs.unwrap_or(0)).unwrap_or(i64::MAX);
        let now = self.0.clock.now().wall.seconds();
        let saved = ask(&["CONFIG", "GET", "save"]).await;
        let logged = ask(&["CONFIG", "GET", "appendonly"]).await;
        let persists = saved.ok().zip(logged.ok()).map(|(saved, logged)| {
            member(&saved, "save").is_some_and(|points| !points.is_empty())
                || member(&logged, "appendonly").as_deref() == Some("yes")
        });
        let who = ask(&["HGETALL", &self.0.names.of_fleet("who")]).await?;
        let members = fingerprints(&who, now);
        let own = self.0.members.fingerprint();
        Ok(FleetCheck {
            engine: format!("{} {}", said("server"), said("version")),
            is_primary: said("role") == "master",
            has_functions: connection.version().await?.is_some_and(|it| it >= VERSION),
            may_run_scripts: ask(&["EVAL", "return 1", "0"]).await.is_ok(),
            clock_ahead: now.saturating_sub(theirs),
            persists,
            members: members.len(),
            differing: members.iter().filter(|it| *it != own).count(),
        })
    }
}

/// The fingerprints of the replicas that have said lately that they run.
fn fingerprints(who: &Value, now: i64) -> Vec<String> {
    let Value::Map(members) = who else {
        return Vec::new();
    };
    let said = members.iter().filter_map(|(_, said)| text(said));
    let present = said.filter_map(|said| {
        let mut words = said.split(' ');
        let seen = words.next()?.parse::<i64>().ok()? / 1_000;
        let is_present = now.saturating_sub(seen) < PRESENT;
        is_present
            .then(|| words.nth(1).map(str::to_owned))
            .flatten()
    });
    present.collect()
}

fn member(map: &Value, name: &str) -> Option<String> {
    let Value::Map(members) = map else {
        return None;
    };
    let found = members
        .iter()
        .find(|(key, _)| text(key).as_deref() == Some(name));
    text(&found?.1)
}

fn parts(value: Value) -> Vec<Value> {
    let Value::Array(parts) = value else {
        return Vec::new();
    };
    parts
}

fn text(value: &Value) -> Option<String> {
    if let Value::SimpleString(text) = value {
        return Some(text.clone());
    }
    let Value::BulkString(text) = value else {
        return None;
    };
    String::from_utf8(text.clone()).ok()
}

const LONGEST_CHECK: Duration = Duration::from_secs(5);
/// In seconds: one that was seen longer ago than this has stopped, whichever clock is a little off.
const PRESENT: i64 = 15;
