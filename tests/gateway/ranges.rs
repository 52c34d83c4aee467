//! Every number, duration and size of the configuration: what `check` lets pass, the gateway works with
//! (S10).

use atlas_cert_gateway::config::Config;
use toml::Value;

use crate::world::{PROJECT, World, certs, configuration, set, set_rule, token, write_secrets};

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Duration,
    Size,
}

/// Where it stands.
#[derive(Clone, Debug)]
enum Key {
    /// `server.limits.connections`.
    Plain(String),
    /// Of the first issuer.
    Issuer(&'static str),
    /// Of the first rule.
    Rule(&'static str),
}

impl Kind {
    /// Nothing, the least, a great deal, and the most that can be written.
    fn extremes(self) -> [Value; 4] {
        match self {
            Self::Number => [0, 1, 5_000_000_000, i64::MAX].map(Value::from),
            Self::Duration => ["0s", "1ms", "30d", "99999999999999999999d"].map(Value::from),
            Self::Size => ["0B", "1B", "4096GiB", "17179869183GiB"].map(Value::from),
        }
    }

    fn of(value: &Value) -> Option<Self> {
        if value.is_integer() {
            return Some(Self::Number);
        }
        let text = value.as_str()?;
        if !text.starts_with(|sign: char| sign.is_ascii_digit()) {
            None
        } else if text.ends_with("iB") {
            Some(Self::Size)
        } else {
            text.ends_with(['s', 'm', 'h', 'd'])
                .then_some(Self::Duration)
        }
    }
}

impl Key {
    fn put(&self, plan: &mut crate::world::Plan, value: Value) {
        match self {
            Self::Plain(key) => {
                if key.starts_with("audit.second.") {
                    set(&mut plan.config, "audit.second.to", "unix:///nowhere");
                }
                set(&mut plan.config, key, value);
                // What it is judged together with, out of its way.
                match key.as_str() {
                    "atlas.limits.capacity" => set(&mut plan.config, "atlas.limits.reserve", 0),
                    "atlas.limits.fetch" => set(&mut plan.config, "atlas.limits.page", "1ms"),
                    "atlas.limits.page" => set(&mut plan.config, "atlas.limits.fetch", "1h"),
                    "insight.inventory" => {
                        let named = [("id", PROJECT), ("name", "payments")];
                        let named = named.map(|(key, value)| (key.to_owned(), value.into()));
                        let project = toml::Table::from_iter(named);
                        set(&mut plan.config, "insight.projects", vec![project]);
                    }
                    _ => {}
                }
            }
            Self::Issuer(key) => {
                let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
                let issuer = issuers[0].as_table_mut().unwrap();
                issuer.insert((*key).to_owned(), value);
            }
            Self::Rule(key) => set_rule(plan, 0, key, value),
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Plain(key) => key.clone(),
            Self::Issuer(key) => format!("identity.issuers[0].{key}"),
            Self::Rule(key) => format!("access.rules[0].{key}"),
        }
    }
}

/// Every key with a number, a duration or a size.
fn keys() -> Vec<(Key, Kind)> {
    let defaults: toml::Table = Config::default().to_toml().parse().unwrap();
    let mut keys = Vec::new();
    gather(&defaults, "", &mut keys);
    keys.extend([
        (Key::Plain("audit.second.queue".to_owned()), Kind::Size),
        (Key::Plain("memory.ceiling".to_owned()), Kind::Size),
        (Key::Issuer("leeway"), Kind::Duration),
        (Key::Issuer("max_lifetime"), Kind::Duration),
        (Key::Rule("lookups_per_minute"), Kind::Number),
        (Key::Rule("misses_per_minute"), Kind::Number),
    ]);
    keys
}

fn gather(table: &toml::Table, place: &str, keys: &mut Vec<(Key, Kind)>) {
    for (key, value) in table {
        let place = format!("{place}{key}");
        if let Value::Table(table) = value {
            gather(table, &format!("{place}."), keys);
        } else if let Some(kind) = Kind::of(value) {
            keys.push((Key::Plain(place), kind));
        }
    }
}

/// What a configuration with this value is refused for, at this key; `None` if it is not.
fn refusal(key: &Key, value: &Value) -> Option<String> {
    let files = tempfile::tempdir().unwrap();
    write_secrets(&files);
    let mut plan = crate::world::Plan {
        config: configuration(&files),
        atlas: atlas_simulator::Settings::with_world(atlas_simulator::World::new(
            std::time::SystemTime::UNIX_EPOCH,
        )),
        statm: None,
        disk_free: None,
    };
    key.put(&mut plan, value.clone());
    let config_errors = Config::parse(&plan.config.to_string(), []).err()?;
    let texts: Vec<String> = config_errors.iter().map(ToString::to_string).collect();
    let place = key.place();
    let own: Vec<&String> = texts
        .iter()
        .filter(|text| text.starts_with(&place))
        .collect();
    assert_eq!(own.len(), 1, "{place} = {value}: {texts:?}");
    Some(own[0].clone())
}

/// The bounds that a refusal names.
fn bounds(text: &str) -> Option<[Value; 2]> {
    let (least, rest) = text.split_once("from ")?.1.split_once(" to ")?;
    let most = rest.split_once(", such as ")?.0;
    let value =
        |text: &str| format!("value = {text}").parse::<toml::Table>().unwrap()["value"].clone();
    Some([value(least), value(most)])
}

#[test]
fn s10_every_limit_has_bounds_and_says_them_with_an_example() {
    let keys = keys();
    assert!(keys.len() > 35, "{}", keys.len());
    for (key, kind) in keys {
        let refused = kind.extremes().map(|value| refusal(&key, &value));
        let most = refused[3].as_ref();
        // `reserve` is bounded by another key alone.
        let is_said = most.is_some_and(|text| bounds(text).is_some() || text.contains("capacity"));
        let sized = kind == Kind::Size && most.is_some_and(|text| text.contains("a size is"));
        assert!(is_said || sized, "{}: {most:?}", key.place());
    }
}

// Deadlines of the kernel are real ones, whatever the world's clock says.
#[tokio::test]
async fn s10_what_check_lets_pass_is_served_and_no_connection_is_reset() {
    for (key, kind) in keys() {
        let extremes = kind.extremes();
        let said = extremes.iter().filter_map(|value| refusal(&key, value));
        let said: Vec<Value> = said.filter_map(|text| bounds(&text)).flatten().collect();
        for value in extremes.into_iter().chain(said) {
            if refusal(&key, &value).is_some() {
                continue;
            }
            let world = World::with(|plan| {
                key.put(plan, value.clone());
                // Every test of this process would be counted.
                plan.statm = Some("/nowhere".into());
            })
            .await;
            let (target, token) = (certs(PROJECT, "app1"), token());
            let lookup = world.send("GET", &target, &token, &[]);
            let reply = world.while_time_passes(lookup).await;
            let place = key.place();
            match place.as_str() {
                // The caller's token lives longer than that.
                "identity.issuers[0].max_lifetime" => {
                    assert!([200, 401].contains(&reply.status), "{place} = {value}");
                }
                // Less time than an answer takes, or no place to wait.
                _ => assert!(reply.status >= 200, "{place} = {value}: {}", reply.status),
            }
            assert_ne!(reply.status, 500, "{place} = {value}");
        }
    }
}

#[test]
fn s10_mistakes_in_several_limits_are_all_told_at_once() {
    let text = "[server.limits]\nwrite_stall = \"30d\"\nstreams = 5000000000\nheaders = 0\n\
                [atlas.limits]\nqueue = 9000000000\n[cache]\nttl = \"400d\"\n";
    let config_errors = Config::parse(text, []).unwrap_err();
    let texts: Vec<String> = config_errors.iter().map(ToString::to_string).collect();
    for expected in [
        "server.limits.write_stall (line 2): must be from \"1ms\" to \"1h\", such as \"10s\"",
        "server.limits.streams (line 3): must be from 1 to 10000, such as 100",
        "server.limits.headers (line 4): must be from 1 to 1000, such as 64",
        "atlas.limits.queue (line 6): must be from 0 to 1000000, such as 1000",
        "cache.ttl (line 8): must be from \"0s\" to \"1d\", such as \"5m\"",
    ] {
        assert!(
            texts.contains(&expected.to_owned()),
            "{expected}: {texts:#?}"
        );
    }
}

#[test]
fn s10_a_limit_that_another_keeps_from_being_reached_is_warned_of() {
    let files = tempfile::tempdir().unwrap();
    write_secrets(&files);
    let warned = |key: &str, value: Value, other: &str, bound: Value| {
        let mut config = configuration(&files);
        set(&mut config, key, value);
        set(&mut config, other, bound);
        let config = Config::parse(&config.to_string(), []).unwrap();
        let warnings = config.warnings();
        warnings.iter().any(|warning| warning.place == key)
    };
    for (key, value, other, bound) in [
        (
            "server.limits.connections_per_source",
            Value::from(200),
            "server.limits.connections",
            Value::from(100),
        ),
        (
            "server.limits.write_stall",
            "10m".into(),
            "server.limits.response",
            "1m".into(),
        ),
        (
            "atlas.limits.first_byte",
            "8s".into(),
            "atlas.limits.page",
            "5s".into(),
        ),
        (
            "atlas.limits.concurrency_per_project",
            Value::from(50),
            "atlas.limits.concurrency",
            Value::from(32),
        ),
    ] {
        assert!(warned(key, value.clone(), other, bound), "{key}");
        assert!(!warned(key, value.clone(), other, value), "{key}");
    }
}
