//! Which changed keys need a restart, and which a reload puts in place.

use toml::{Table, Value};

use super::Config;

/// The keys in which `fresh` differs from what the process was `started` with, of those that only a
/// restart can put in place.
///
/// A key that is not named here as changeable is not: one that is forgotten is reported in vain, and not
/// passed over in silence.
pub(crate) fn needs_restart(started: &Config, fresh: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    compare(&table(started), &table(fresh), "", &mut keys);
    keys
}

fn table(config: &Config) -> Table {
    Table::try_from(config).expect("settings are texts, numbers, lists and tables")
}

fn compare(started: &Table, fresh: &Table, place: &str, keys: &mut Vec<String>) {
    let added = fresh.keys().filter(|key| !started.contains_key(*key));
    for key in started.keys().chain(added) {
        let place = if place.is_empty() {
            key.clone()
        } else {
            format!("{place}.{key}")
        };
        match (started.get(key), fresh.get(key)) {
            (before, now) if before == now => {}
            _ if CHANGEABLE.contains(&place.as_str()) => {}
            (Some(Value::Table(started)), Some(Value::Table(fresh))) => {
                compare(started, fresh, &place, keys);
            }
            (_, _) => keys.push(place),
        }
    }
}

/// What [`App::reload`](crate::app::App::reload) puts in place, with all that stands below.
const CHANGEABLE: [&str; 16] = [
    "access",
    "atlas.credentials",
    "atlas.limits.capacity",
    "atlas.limits.refill_per_minute",
    "atlas.limits.reserve",
    "atlas.limits.share_percent",
    "cache.min_refresh_interval",
    "cache.negative_ttl",
    "cache.refresh_ahead",
    "cache.stale_if_error",
    "cache.ttl",
    "identity.issuers",
    // Whether there is TLS at all needs a restart.
    "server.tls.certificate",
    "server.tls.client_ca",
    "server.tls.private_key",
    "telemetry.log",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_cannot_change_while_it_runs_is_named_and_nothing_else() {
        let tls = "[server.tls]\ncertificate = 'a'\nprivate_key = 'b'\n";
        for (before, after, expected) in [
            ("", "", &[][..]),
            ("", "[cache]\nttl = '1m'\n[telemetry]\nlog = 'debug'", &[]),
            (
                "",
                "[[access.rules]]\nname = 'a'\nsubjects = ['*']\nprojects = ['*']\nusernames = ['*']",
                &[],
            ),
            ("", "[atlas.limits]\nshare_percent = 25", &[]),
            ("", "[atlas.limits]\npages = 21", &["atlas.limits.pages"]),
            ("", "[cache]\nmax_size = '1MiB'", &["cache.max_size"]),
            (
                "",
                "[identity]\ntoken_cache_size = '1MiB'",
                &["identity.token_cache_size"],
            ),
            ("", tls, &["server.tls"]),
            (tls, "", &["server.tls"]),
            (
                tls,
                "[server.tls]\ncertificate = 'c'\nprivate_key = 'd'\nclient_ca = 'e'",
                &[],
            ),
            (
                "",
                "[server]\nlisten = '127.0.0.1:1'\n[audit]\ndirectory = 'b'\nhead_key_file = 'k'",
                &["audit.directory", "audit.head_key_file", "server.listen"],
            ),
        ] {
            let mut named = needs_restart(&config(before), &config(after));
            named.sort();
            assert_eq!(named, expected, "{before} -> {after}");
        }
    }

    #[test]
    fn every_key_that_may_change_is_one() {
        let text = "[server.tls]\ncertificate = 'a'\nprivate_key = 'b'\nclient_ca = 'c'";
        let settings = Value::Table(table(&config(text)));
        for key in CHANGEABLE {
            let found = key.split('.').try_fold(&settings, |at, step| at.get(step));
            assert!(found.is_some(), "{key}");
        }
    }
}
