//! What packages hold beside the program: completions and manual pages.

use std::fs;

use crate::program::{command, output};

const SETTINGS: &str = include_str!("../../../config/gateway.toml");

#[test]
fn each_shell_gets_completions_of_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let written = output(command().args(["completions", shell]));
        assert_eq!(written.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(written.stdout).unwrap();
        for word in [
            "serve", "check", "audit", "verify", "fleet", "health", "man",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let unknown = output(command().args(["completions", "abacus"]));
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn the_version_names_the_revision_that_was_built() {
    let said = output(command().arg("--version")).stdout;
    let revision = option_env!("ATLAS_CERT_GATEWAY_REVISION").filter(|it| !it.is_empty());
    let revision = revision.unwrap_or("unknown");
    let expected = format!(
        "atlas-cert-gateway {} ({revision})\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(String::from_utf8(said).unwrap(), expected);
}

#[test]
fn the_manual_has_a_page_of_each_command_and_of_the_settings() {
    let files = tempfile::tempdir().unwrap();
    let written = output(command().arg("man").arg(files.path()));
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let page = |name: &str| fs::read_to_string(files.path().join(name)).unwrap();
    assert!(page("atlas-cert-gateway.1").contains("Exit codes"));
    assert!(page("atlas-cert-gateway-audit-search.1").contains("request\\-id"));
    let settings = page("gateway.toml.5");
    let (_, text) = settings.split_once(".nf\n").unwrap();
    let lines = text.strip_suffix(".fi\n").unwrap().lines();
    let shown = lines.map(|line| {
        line.replace("\\-", "-")
            .replace("\\&", "")
            .replace("\\e", "\\")
            + "\n"
    });
    assert_eq!(shown.collect::<String>(), SETTINGS);
    let nowhere = files.path().join("nowhere");
    let refused = output(command().arg("man").arg(nowhere));
    assert_eq!(refused.status.code(), Some(1));
}
