//! What is wrong with the section `atlas`: every mistake with its place. Pure.

use std::time::Duration;

use reqwest::Url;

use super::{AtlasLimits, Config, CredentialConfig};
use crate::atlas::ProjectId;
use crate::settings::{ConfigError, Ranges, Size, never_reached};

impl Config {
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        if let Err(message) = origin(&self.base_url) {
            config_errors.push(ConfigError::at("atlas.base_url", message));
        }
        if let Some((key, message)) = self.proxy().config_error() {
            config_errors.push(ConfigError::at(format!("atlas.{key}"), message));
        }
        self.limits.config_errors(&mut config_errors);
        if self.credentials.is_empty() {
            config_errors.push(ConfigError::at(
                "atlas.credentials",
                "there is none: without a credential nothing can be asked of Atlas",
            ));
        }
        for (number, credential) in self.credentials.iter().enumerate() {
            let place = format!("atlas.credentials[{number}]");
            credential.config_errors(&place, &mut config_errors);
            let before = self.credentials.iter().take(number);
            for other in before {
                if other.name == credential.name {
                    let message = "another credential has this name; metrics and records name it";
                    config_errors.push(ConfigError::at(format!("{place}.name"), message));
                }
                if other.identity().is_some() && other.identity() == credential.identity() {
                    let message = "the same account as another credential's: put the projects of \
                                   both into one, so that they share one token and its limits";
                    config_errors.push(ConfigError::at(&place, message));
                }
            }
        }
        config_errors
    }

    pub(crate) fn has_credential(&self, project: &ProjectId) -> bool {
        let mut patterns = self.credentials.iter().flat_map(|it| &it.projects);
        patterns.any(|pattern| crate::upstream::credential::matches(pattern, project.as_str()))
    }

    pub(crate) fn warnings(&self) -> Vec<ConfigError> {
        self.limits.warnings().collect()
    }
}

impl AtlasLimits {
    fn config_errors(&self, config_errors: &mut Vec<ConfigError>) {
        let usual = Self::default();
        let mut ranges = Ranges::of("atlas.limits", config_errors);
        ranges.check(
            "share_percent",
            self.share_percent,
            1..=100,
            usual.share_percent,
        );
        ranges.check("capacity", self.capacity, 1..=MOST_CALLS, usual.capacity);
        if self.reserve >= self.capacity {
            ranges.wrong("reserve", "must be less than the capacity");
        }
        let refill = self.refill_per_minute;
        if refill.saturating_mul(self.share_percent) / 100 == 0 {
            let message = "our share of it must be at least one call a minute";
            ranges.wrong("refill_per_minute", message);
        } else {
            let usual = usual.refill_per_minute;
            ranges.check("refill_per_minute", refill, 1..=MOST_CALLS, usual);
        }
        let (calls, many) = (1..=10_000, 0..=1_000_000);
        let (together, each) = (self.concurrency, self.concurrency_per_project);
        ranges.check("concurrency", together, calls.clone(), usual.concurrency);
        let usual_each = usual.concurrency_per_project;
        ranges.check("concurrency_per_project", each, calls, usual_each);
        ranges.check("queue", self.queue, many, usual.queue);
        let page_bytes = Size::kibibytes(1)..=Size::mebibytes(1_024);
        ranges.check("page_bytes", self.page_bytes, page_bytes, usual.page_bytes);
        ranges.check("pages", self.pages, 1..=1_000, usual.pages);
        let hour = Duration::from_hours(1);
        let waits = Duration::ZERO..=hour;
        ranges.check("queue_wait", self.queue_wait, waits, usual.queue_wait);
        for (key, span, usual) in [
            ("connect", self.connect, usual.connect),
            ("first_byte", self.first_byte, usual.first_byte),
            ("page", self.page, usual.page),
            ("fetch", self.fetch, usual.fetch),
        ] {
            ranges.check(key, span, Duration::from_millis(1)..=hour, usual);
        }
        if !self.fetch.is_zero() && self.fetch < self.page {
            ranges.wrong("fetch", "must be no shorter than a single page may take");
        }
    }

    fn warnings(&self) -> impl Iterator<Item = ConfigError> {
        let usual = Self::default();
        let calls = never_reached(
            (
                "atlas.limits.concurrency_per_project",
                self.concurrency_per_project,
            ),
            usual.concurrency_per_project,
            ("atlas.limits.concurrency", self.concurrency),
        );
        let connect = ("atlas.limits.connect", self.connect);
        let first_byte = ("atlas.limits.first_byte", self.first_byte);
        let page = ("atlas.limits.page", self.page);
        let queue_wait = ("atlas.limits.queue_wait", self.queue_wait);
        let fetch = ("atlas.limits.fetch", self.fetch);
        let spans = [
            never_reached(connect, usual.connect, first_byte),
            never_reached(first_byte, usual.first_byte, page),
            never_reached(queue_wait, usual.queue_wait, fetch),
        ];
        calls.into_iter().chain(spans.into_iter().flatten())
    }
}

const MOST_CALLS: u64 = 1_000_000_000;

impl CredentialConfig {
    fn config_errors(&self, place: &str, config_errors: &mut Vec<ConfigError>) {
        let mut refuse = |wrong: bool, key: &str, message: &str| {
            if wrong {
                config_errors.push(ConfigError::at(format!("{place}{key}"), message));
            }
        };
        refuse(self.name.trim().is_empty(), ".name", "is empty");
        refuse(
            self.projects.is_empty(),
            ".projects",
            "is empty: write [\"*\"] for all",
        );
        let allowed = |text: &String| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'*'))
        };
        let form = "a project id is 24 lower-case hexadecimal digits; `*` stands for any of them";
        refuse(!self.projects.iter().all(allowed), ".projects", form);
        match (&self.service_account, &self.api_key) {
            (Some(account), None) => {
                let given = (&account.client_secret_file, &account.client_secret);
                let message =
                    "give client_secret_file, or the secret in the environment, and not both";
                refuse(!one_of(given), ".service_account", message);
                let id = &account.client_id;
                // A colon would end the id in Basic credentials, RFC 7617 section 2.
                let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic() && b != b':');
                refuse(
                    !plain,
                    ".service_account.client_id",
                    "must be visible ASCII without a colon",
                );
            }
            (None, Some(key)) => {
                let given = (&key.private_key_file, &key.private_key);
                let message = "give private_key_file, or the key in the environment, and not both";
                refuse(!one_of(given), ".api_key", message);
                let public = &key.public_key;
                let plain = !public.is_empty() && public.bytes().all(|b| b.is_ascii_graphic());
                refuse(!plain, ".api_key.public_key", "must be visible ASCII");
            }
            (None, None) => refuse(true, "", "give a service_account or an api_key"),
            (Some(_), Some(_)) => {
                refuse(true, "", "give a service_account or an api_key, not both");
            }
        }
    }

    pub(crate) fn identity(&self) -> Option<&str> {
        let account = self.service_account.as_ref();
        let key = self.api_key.as_ref();
        let id = account.map(|account| account.client_id.as_str());
        id.or_else(|| key.map(|key| key.public_key.as_str()))
    }
}

fn one_of<A, B>(given: (&Option<A>, &Option<B>)) -> bool {
    given.0.is_some() != given.1.is_some()
}

/// The base URL without anything behind its port; everything that is ever sent to Atlas begins with it.
pub(crate) fn origin(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL; write https://cloud.mongodb.com")?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        return Err("only a scheme, a host and a port: no path, query or user");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must begin with https://; http:// is only for a loopback address"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Result<std::net::IpAddr, _> = host.parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Secret;

    fn places(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        let config_errors = config.config_errors();
        config_errors
            .into_iter()
            .map(|config_error| config_error.place)
            .collect()
    }

    const GOOD: &str = r#"
        [[credentials]]
        name = "platform"
        projects = ["*"]
        service_account = { client_id = "mdb_sa_id_0", client_secret_file = "x" }
    "#;

    #[test]
    fn a_service_account_and_nothing_else_is_enough() {
        assert_eq!(places(GOOD), [""; 0]);
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = r#"
            base_url = "http://cloud.mongodb.com"
            proxy = "http://user:password@egress"
            [limits]
            share_percent = 0
            reserve = 1200
            fetch = "1s"
            [[credentials]]
            name = ""
            projects = []
            [[credentials]]
            name = "a"
            projects = ["ABC"]
            service_account = { client_id = "a:b" }
            [[credentials]]
            name = "a"
            projects = ["*"]
            api_key = { public_key = "k", private_key_file = "x", private_key = "y" }
        "#;
        assert_eq!(
            places(text),
            [
                "atlas.base_url",
                "atlas.proxy",
                "atlas.limits.share_percent",
                "atlas.limits.reserve",
                "atlas.limits.refill_per_minute",
                "atlas.limits.fetch",
                "atlas.credentials[0].name",
                "atlas.credentials[0].projects",
                "atlas.credentials[0]",
                "atlas.credentials[1].projects",
                "atlas.credentials[1].service_account",
                "atlas.credentials[1].service_account.client_id",
                "atlas.credentials[2].api_key",
                "atlas.credentials[2].name",
            ]
        );
        assert_eq!(places(""), ["atlas.credentials"]);
        let twice = format!("{GOOD}{}", GOOD.replace("platform", "other"));
        assert_eq!(places(&twice), ["atlas.credentials[1]"]);
    }

    #[test]
    fn plain_http_is_for_loopback_addresses_only() {
        for good in [
            "https://cloud.mongodb.com",
            "https://cloud.mongodb.com/",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost",
        ] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in [
            "http://cloud.mongodb.com",
            "http://127.0.0.1.example.com",
            "https://cloud.mongodb.com/api",
            "https://cloud.mongodb.com/?x",
            "https://user@cloud.mongodb.com",
            "ftp://cloud.mongodb.com",
            "cloud.mongodb.com",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let mut config: Config = toml::from_str(GOOD).unwrap();
        let account = config.credentials[0].service_account.as_mut().unwrap();
        account.client_secret = Some(Secret::new("mdb_sa_sk_canary".to_owned()));
        assert!(!toml::to_string(&config).unwrap().contains("canary"));
        assert!(!format!("{config:?}").contains("canary"));
    }
}
