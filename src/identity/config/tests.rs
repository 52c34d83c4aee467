//! Settings that cannot be meant, each with its place.

use std::time::Duration;

use super::*;
use crate::settings::ConfigError;

const GOOD: &str = r#"
    issuer = "https://idp.test"
    audiences = ["atlas-cert-gateway"]
    algorithms = ["RS256"]
    jwks_url = "https://idp.test/jwks"
"#;

fn config(text: &str) -> Config {
    let issuer = toml::from_str(text).unwrap();
    Config {
        issuers: vec![issuer],
        ..Config::default()
    }
}

fn places(config_errors: Vec<ConfigError>) -> Vec<String> {
    config_errors
        .into_iter()
        .map(|config_error| config_error.place.replace("identity.issuers[0].", ""))
        .collect()
}

#[test]
fn the_usual_issuer_has_the_defaults_of_the_manual() {
    let config = config(GOOD);
    assert!(config.config_errors().is_empty());
    assert!(config.warnings().is_empty());
    let issuer = &config.issuers[0];
    assert_eq!(issuer.token_types, ["at+jwt", "JWT"]);
    assert_eq!(issuer.leeway, Duration::from_secs(30));
    assert_eq!(issuer.max_lifetime, Duration::from_hours(24));
    assert!(!issuer.several_audiences);
    assert!(!issuer.allow_id_token_claims);
    assert_eq!(issuer.claims.subject.as_str(), "sub");
    assert_eq!(issuer.claims.audience.as_str(), "aud");
}

/// What is wrong with the usual issuer once a text in it is another.
fn assert_mistakes(from: &str, to: &str, expected: &[&str]) {
    let text = GOOD.replacen(from, to, 1);
    assert_eq!(places(config(&text).config_errors()), expected, "{text}");
}

#[test]
fn what_would_let_any_token_pass_is_refused_with_its_place() {
    for (from, to, expected) in [
        ("[\"RS256\"]", "[]", &["algorithms"][..]),
        ("[\"RS256\"]", "[\"RS256\", \"HS256\"]", &["algorithms"]),
        ("[\"atlas-cert-gateway\"]", "[]", &["audiences"]),
        ("[\"atlas-cert-gateway\"]", "[\"\"]", &["audiences"]),
        ("\"https://idp.test\"\n", "\"\"\n", &["issuer"]),
        (
            "https://idp.test/jwks",
            "http://idp.test/jwks",
            &["jwks_url"],
        ),
        (
            "https://idp.test/jwks",
            "https://a:b@idp.test/",
            &["jwks_url"],
        ),
        ("https://idp.test/jwks", "file:///jwks", &["jwks_url"]),
        ("https://idp.test/jwks", "idp.test", &["jwks_url"]),
        (
            "https://idp.test/jwks",
            "http://127.0.0.1.evil.test/",
            &["jwks_url"],
        ),
        ("jwks_url", "discovery_url", &[]),
        ("https://idp.test/jwks", "http://127.0.0.1:8/jwks", &[]),
        ("https://idp.test/jwks", "http://[::1]:8/jwks", &[]),
        ("https://idp.test/jwks", "http://localhost/jwks", &[]),
        (
            "issuer",
            "jwks_file = \"a\"\nhmac_secret_file = \"b\"\nissuer",
            &["algorithms", "jwks_url"],
        ),
        ("jwks_url = \"https://idp.test/jwks\"", "", &["jwks_url"]),
        ("issuer", "leeway = \"6m\"\nissuer", &["leeway"]),
        ("issuer", "max_lifetime = \"0s\"\nissuer", &["max_lifetime"]),
        ("issuer", "token_types = []\nissuer", &["token_types"]),
    ] {
        assert_mistakes(from, to, expected);
    }
    assert_eq!(
        places(Config::default().config_errors()),
        ["identity.issuers"],
        "no issuer at all"
    );
}

#[test]
fn one_issuer_has_several_entries_for_different_audiences_only() {
    let twice = Config {
        issuers: [config(GOOD).issuers, config(GOOD).issuers].concat(),
        ..Config::default()
    };
    assert_eq!(
        places(twice.config_errors()),
        ["identity.issuers[1].audiences"]
    );
    let mut apart = twice.clone();
    apart.issuers[1].audiences = vec!["another".to_owned()];
    assert_eq!(places(apart.config_errors()), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    for unknown in [
        "algorithms = [\"none\"]",
        "unknown = 1",
        "claims = { subject = \"a..b\" }",
        "claims = { issuer = \"a\" }",
        "required_claims = { tid = 1.5 }",
        "required_claims = { tid = [[1]] }",
    ] {
        let text = GOOD.replace("algorithms = [\"RS256\"]", unknown);
        assert!(toml::from_str::<IssuerConfig>(&text).is_err(), "{unknown}");
    }
}

#[test]
fn the_way_to_the_keys_and_the_places_of_claims_are_checked() {
    for (from, to, expected) in [
        (
            "issuer",
            "proxy = \"http://a:canary@egress\"\nissuer",
            &["proxy"][..],
        ),
        (
            "issuer",
            "proxy_password_file = \"a\"\nissuer",
            &["proxy_password_file"],
        ),
        ("issuer", "proxy = \"http://egress:3128\"\nissuer", &[]),
        (
            "jwks_url = \"https://idp.test/jwks\"",
            "jwks_url = \"http://[::1]/jwks\"\nproxy = \"http://egress\"",
            &["proxy"],
        ),
        (
            "jwks_url = \"https://idp.test/jwks\"",
            "jwks_file = \"a\"\nproxy = \"http://egress\"\nbearer_file = \"b\"\nca_certificate = \"c\"",
            &["ca_certificate", "bearer_file", "proxy"],
        ),
        (
            "[\"RS256\"]\n    jwks_url = \"https://idp.test/jwks\"",
            "[\"HS256\"]\n    hmac_secret_files = [\"a\", \"b\", \"c\"]",
            &["hmac_secret_files"],
        ),
        (
            "[\"RS256\"]\n    jwks_url = \"https://idp.test/jwks\"",
            "[\"HS256\"]\n    hmac_secret_files = [\"a\", \"b\"]",
            &[],
        ),
        (
            "issuer",
            "claims = { subject = \"a.*\", scopes = [\"b.*\"] }\nissuer",
            &["claims.subject"],
        ),
        (
            "issuer",
            "required_claims = { tid = [], \"a.*\" = true }\nissuer",
            &["required_claims", "required_claims"],
        ),
    ] {
        assert_mistakes(from, to, expected);
    }
}

#[test]
fn what_weakens_authentication_is_warned_of() {
    let text = format!(
        "{GOOD}\ntoken_types = [\"\"]\nmax_lifetime = \"25h\"\nallow_id_token_claims = true"
    );
    assert_eq!(
        places(config(&text).warnings()),
        ["token_types", "allow_id_token_claims", "max_lifetime"]
    );
}
