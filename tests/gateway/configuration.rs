//! The configuration: every key of the documented file, every mistake at once, the environment over it.

mod found;

use std::fs;
use std::path::{Path, PathBuf};

use atlas_cert_gateway::config::Config;

use crate::dependencies;

const DOCUMENTED: &str = include_str!("../../config/gateway.toml");

#[test]
fn the_documented_file_equals_the_defaults() {
    let documented: Config = toml::from_str(DOCUMENTED).unwrap();
    assert_eq!(documented.to_toml(), Config::default().to_toml());
}

#[test]
fn the_documented_file_names_every_setting() {
    let defaults: toml::Table = Config::default().to_toml().parse().unwrap();
    let documented: toml::Table = DOCUMENTED.parse().unwrap();
    let mut names = Vec::new();
    missing(&defaults, &documented, "", &mut names);
    assert!(names.is_empty(), "not documented: {names:?}");
    // Those without a default are in an example or a comment, once for each section that has one. A
    // secret is never in the text.
    let words: Vec<_> = DOCUMENTED
        .split(|sign: char| !sign.is_alphanumeric() && sign != '_')
        .collect();
    let keys: Vec<_> = settings();
    let keys = keys.iter().filter(|(_, kind)| kind != "Option<Secret>,");
    let keys: Vec<_> = keys.map(|(key, _)| key.as_str()).collect();
    let count = |list: &[&str], key| list.iter().filter(|one| **one == key).count();
    let untold = keys
        .iter()
        .filter(|key| count(&words, **key) < count(&keys, **key));
    assert_eq!(untold.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// Examples are commented out without a space behind the `#`; what explains has one.
#[test]
fn the_examples_of_the_documented_file_are_a_configuration_without_mistakes() {
    let config = Config::parse(&uncommented(), []).unwrap();
    assert_eq!(config.identity.issuers.len(), 1);
    assert_eq!(config.access.rules.len(), 3);
    assert_eq!(config.atlas.credentials.len(), 2);
    assert!(config.server.tls.is_some());
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = r#"
[server]
listen = "nowhere"
colour = "blue"

[cache]
ttl = "5 minutes"
max_size = "64MB"

[atlas]
base_url = "http://atlas.example"

[[identity.issuers]]
issuer = "https://idp.example"
algorithms = []
jwks_url = "http://idp.example/jwks"

[[access.rules]]
subjects = ["*"]
"#;
    let config_errors = Config::parse(text, []).unwrap_err();
    let places: Vec<&str> = config_errors
        .iter()
        .map(|config_error| config_error.place.as_str())
        .collect();
    for (place, line) in [
        ("server.listen", 3),
        ("server.colour", 4),
        ("cache.ttl", 7),
        ("cache.max_size", 8),
        ("atlas.base_url", 11),
        ("identity.issuers[0].audiences", 13),
        ("identity.issuers[0].algorithms", 15),
        ("identity.issuers[0].jwks_url", 16),
    ] {
        let expected = format!("{place} (line {line})");
        assert!(
            places.contains(&expected.as_str()),
            "{expected} in {config_errors:#?}"
        );
    }
    assert!(
        config_errors
            .iter()
            .any(|config_error| config_error.place.starts_with("access.rules[0]"))
    );
}

#[test]
fn items_behind_one_that_cannot_be_read_are_called_by_their_own_place() {
    let text = r#"
[[atlas.credentials]]
projects = ["*"]

[[access.rules]]
subjects = ["*"]

[[access.rules]]
name = "second"
subjects = ["*"]
projects = ["xyz"]
usernames = ["*"]

[[access.rules]]
subjects = ["*"]

[[access.rules]]
name = "fourth"
subjects = ["*"]
projects = ["xyz"]
usernames = ["*"]
"#;
    let config_errors = Config::parse(text, []).unwrap_err();
    let mut places: Vec<&str> = config_errors
        .iter()
        .map(|config_error| config_error.place.as_str())
        .filter(|place| place.contains("rules") || place.contains("credentials"))
        .collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "access.rules[0] (line 5)",
            "access.rules[1].projects[0] (line 11)",
            "access.rules[2] (line 14)",
            "access.rules[3].projects[0] (line 20)",
            "atlas.credentials[0] (line 2)",
        ]
    );
}

#[test]
fn the_environment_overrides_every_kind_of_key_and_a_secret_stays_text() {
    let environment = [
        ("CACHE__TTL", "90s"),
        ("CACHE__REFRESH_AHEAD", "false"),
        ("SERVER__LIMITS__IN_FLIGHT", "77"),
        ("IDENTITY__ISSUERS__0__AUDIENCES", "[\"one\", \"two\"]"),
        (
            "ATLAS__CREDENTIALS__0__SERVICE_ACCOUNT__CLIENT_SECRET",
            "0042",
        ),
    ]
    .map(|(name, value)| (format!("ATLAS_CERT_GATEWAY__{name}"), value.to_owned()));
    let text = uncommented().replace(
        "client_secret_file = \"/run/secrets/atlas\"",
        "client_secret = \"\"",
    );
    let text = text.replace(", client_secret = \"\"", "");
    let config = Config::parse(&text, environment).unwrap();
    assert_eq!(config.cache.ttl, std::time::Duration::from_secs(90));
    assert!(!config.cache.refresh_ahead);
    assert_eq!(config.server.limits.in_flight, 77);
    assert_eq!(config.identity.issuers[0].audiences, ["one", "two"]);
    let secret = config.atlas.credentials[0]
        .service_account
        .as_ref()
        .unwrap();
    assert_eq!(secret.client_secret.as_ref().unwrap().expose(), "0042");
    assert!(!config.to_toml().contains("0042"));
}

#[test]
fn an_unknown_variable_and_a_secret_in_the_text_are_mistakes() {
    let unknown = [(
        "ATLAS_CERT_GATEWAY__CACHE__TLL".to_owned(),
        "90s".to_owned(),
    )];
    let config_errors = Config::parse(&uncommented(), unknown).unwrap_err();
    assert!(
        config_errors.iter().any(|config_error| config_error.to_string()
            == "ATLAS_CERT_GATEWAY__CACHE__TLL (cache.tll): there is no such key; is `ttl` meant?"),
        "{config_errors:?}"
    );
    let secret = uncommented().replace("client_secret_file", "client_secret");
    let config_errors = Config::parse(&secret, []).unwrap_err();
    assert!(
        config_errors
            .iter()
            .any(|config_error| config_error.message.contains("client_secret_file")),
        "{config_errors:?}"
    );
}

#[test]
fn a_variable_is_named_for_what_it_sets_and_numbers_sort_as_numbers() {
    let parse = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(name, value)| (format!("ATLAS_CERT_GATEWAY_{name}"), (*value).to_owned()));
        Config::parse(&uncommented(), variables)
    };
    let hosts: Vec<(String, String)> = (0..=10)
        .map(|at| (format!("_SERVER__HOSTS__{at}"), format!("host-{at}")))
        .collect();
    let hosts: Vec<(&str, &str)> = hosts
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let effective = parse(&hosts).unwrap().to_toml();
    let last = "\"host-9\",\n    \"host-10\",\n";
    assert!(effective.contains(last), "{effective}");
    // What Kubernetes and Docker set for a service of this name is not ours.
    for of_others in [
        "PORT",
        "PORT_8080_TCP_ADDR",
        "SERVICE_HOST",
        "SERVICE_PORT_HTTP",
        "CONFIG",
    ] {
        assert!(parse(&[(of_others, "x")]).is_ok(), "{of_others}");
    }
    for (name, value, expected) in [
        (
            "_ATLAS__LIMITS__CAPACITY",
            "many",
            "ATLAS_CERT_GATEWAY__ATLAS__LIMITS__CAPACITY (atlas.limits.capacity): is of the wrong kind",
        ),
        (
            "_CACHE__TTL",
            "soon",
            "ATLAS_CERT_GATEWAY__CACHE__TTL (cache.ttl): a duration is",
        ),
        (
            "_CACHE__TTL",
            "400d",
            "ATLAS_CERT_GATEWAY__CACHE__TTL (cache.ttl): ",
        ),
        (
            "_IDENTITY__ISSUERS__0__ALGORITHMS",
            "[\"RS1\"]",
            "ATLAS_CERT_GATEWAY__IDENTITY__ISSUERS__0__ALGORITHMS (identity.issuers[0].algorithms[0]): ",
        ),
        (
            "CACHE_TTL",
            "90s",
            "ATLAS_CERT_GATEWAY_CACHE_TTL: names no key; is ATLAS_CERT_GATEWAY__CACHE__TTL meant?",
        ),
        (
            "_SERVER__LISTEN",
            "localhost:8080",
            "ATLAS_CERT_GATEWAY__SERVER__LISTEN (server.listen): an IP address and a port are expected",
        ),
        (
            "_SERVER__HOSTS__2",
            "x",
            "ATLAS_CERT_GATEWAY__SERVER__HOSTS__2: names no key",
        ),
    ] {
        let config_errors = parse(&[(name, value)]).unwrap_err();
        let [config_error] = config_errors.as_slice() else {
            panic!("{name}: {config_errors:?}");
        };
        let said = config_error.to_string();
        assert!(said.starts_with(expected), "{expected} in {said}");
    }
}

/// A refused configuration is tried again when one of the files changes that it is refused for.
#[test]
fn each_setting_that_is_a_path_is_watched_or_waits_for_a_restart() {
    let text = r#"
[server.tls]
certificate = "watched/1"
private_key = "watched/2"
client_ca = "watched/3"

[[atlas.credentials]]
name = "account"
projects = ["*"]
service_account = { client_id = "mdb_sa_id_0", client_secret_file = "watched/4" }

[[atlas.credentials]]
name = "key"
projects = ["*"]
api_key = { public_key = "abcdefgh", private_key_file = "watched/5" }

[[identity.issuers]]
issuer = "https://idp.example"
jwks_file = "watched/6"
hmac_secret_file = "watched/7"
ca_certificate = "watched/8"
bearer_file = "watched/9"
proxy_password_file = "watched/10"
hmac_secret_files = [
    "watched/11",
    "watched/12",
]

[atlas]
ca_certificate = "restart"
proxy_password_file = "restart"
state_directory = "restart"

[access]
deny_file = "watched/13"

[cache]
snapshot = "restart"

[audit]
directory = "restart"
head_key_file = "restart"

[audit.database]
url = "postgres://localhost/audit"
ca_certificate = "restart"
password_file = "restart"

[fleet]
name = "production"
replicas = 2
url = "redis://localhost"
ca_certificate = "restart"
key_files = ["restart"]
password_file = "restart"
"#;
    let config: Config = toml::from_str(text).unwrap();
    let expected: Vec<_> = (1..=13)
        .map(|n| PathBuf::from(format!("watched/{n}")))
        .collect();
    assert_eq!(config.files(), expected);

    let mut named: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (keys, _) = line
                .split_once(" = \"watched/")
                .or_else(|| line.split_once(" = \"restart"))
                .or_else(|| line.split_once(" = ["))
                .filter(|(keys, _)| *keys != "projects")?;
            Some(keys.rsplit(' ').next().unwrap().to_owned())
        })
        .collect();
    let paths = settings()
        .into_iter()
        .filter(|(_, kind)| kind.contains("PathBuf"));
    let mut present: Vec<_> = paths.map(|(key, _)| key).collect();
    named.sort();
    present.sort();
    assert_eq!(present, named, "each has its line above");
}

/// The keys of all sections as the source has them, each with its type.
fn settings() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut settings = Vec::new();
    for file in dependencies::files(&source) {
        // What is skipped is no key.
        let code = fs::read_to_string(&file).unwrap();
        let code = code.replace("pub(crate) ", "pub ");
        let code = code.replace("#[serde(skip)]\n    pub ", "");
        let sections = code.split("deny_unknown_fields").skip(1);
        let fields = sections.flat_map(|rest| rest.split("\n}\n").next().unwrap().lines());
        let fields = fields.filter_map(|field| field.trim().strip_prefix("pub ")?.split_once(": "));
        settings.extend(fields.map(|(key, kind)| (key.to_owned(), kind.to_owned())));
    }
    assert!(settings.len() > 80, "{settings:?}");
    settings
}

fn missing(defaults: &toml::Table, documented: &toml::Table, place: &str, out: &mut Vec<String>) {
    for (key, value) in defaults {
        match (value, documented.get(key)) {
            (toml::Value::Table(inner), there) => {
                let nothing = toml::Table::new();
                let there = there.and_then(toml::Value::as_table).unwrap_or(&nothing);
                missing(inner, there, &format!("{place}{key}."), out);
            }
            (toml::Value::Array(_), _) | (_, Some(_)) => {}
            (_, None) => out.push(format!("{place}{key}")),
        }
    }
}

fn uncommented() -> String {
    let example = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    DOCUMENTED
        .lines()
        .map(example)
        .collect::<Vec<_>>()
        .join("\n")
}
