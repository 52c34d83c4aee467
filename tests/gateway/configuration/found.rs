//! What is found where a setting should be is in no message.

use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::settings::ConfigError;

use super::uncommented;

/// Whatever is wrong with a value, nothing of it is in a message: it may be a secret in the wrong place.
#[test]
fn no_message_shows_what_was_found() {
    let told = |result: Result<Config, Vec<ConfigError>>| match result {
        Ok(config) => config.warnings(),
        Err(config_errors) => config_errors,
    };
    let document = uncommented();
    let whole: toml::Table = document.parse().unwrap();
    let mut places = Vec::new();
    leaves(
        &toml::Value::Table(whole.clone()),
        &mut Vec::new(),
        &mut places,
    );
    assert!(places.len() > 80, "{places:?}");
    let wrong: Vec<toml::Value> = [
        "\"canary\"",
        "\" canary \"",
        "\"canary\\u0001\"",
        "\"{canary}\"",
        "\"@canary\"",
        "\"https://user:canary@host.example/\"",
        "\"http://canary\"",
        "\"tcp://canary\"",
        "\"canary:0\"",
        "\"\"",
        "-1",
        "42424242424242",
        "4242.4242",
        "true",
        "1979-05-27",
        "[\"canary\"]",
        "[[\"canary\"]]",
        "{ canary = \"canary\" }",
        "[{ name = \"canary\", subjects = [\"canary\"], projects = [\"canary\"] }]",
    ]
    .map(|value| {
        let mut table: toml::Table = format!("it = {value}").parse().unwrap();
        table.remove("it").unwrap()
    })
    .into();
    for place in &places {
        let name = place.join("__").to_ascii_uppercase();
        for value in &wrong {
            let mut changed = toml::Value::Table(whole.clone());
            *at(&mut changed, place) = value.clone();
            let by_file = told(Config::parse(&changed.to_string(), []));
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let variable = format!("ATLAS_CERT_GATEWAY__{name}");
            let by_variable = told(Config::parse(&document, [(variable, text)]));
            for config_error in by_file.iter().chain(&by_variable) {
                let said = &config_error.message;
                let is_silent = ["canary", "42424242424242", "4242.4242"]
                    .iter()
                    .all(|value| !said.contains(value));
                assert!(is_silent, "{name} = {value}: {config_error}");
            }
        }
    }
    // Nor where the text is no TOML.
    for line in 0..document.lines().count() {
        for broken in [
            "key = canary",
            "key = \"canary",
            "key = \"canary\" canary",
            "key = [\"canary\"",
            "key = 1canary",
            "key \"canary\"",
            "= \"canary\"",
            "key = \"\"\"canary",
        ] {
            let mut lines: Vec<&str> = document.lines().collect();
            lines.insert(line, broken);
            let said = Config::parse(&lines.join("\n"), []).unwrap_err();
            let said = said.iter().map(ToString::to_string).collect::<String>();
            assert!(!said.contains("canary"), "{broken}: {said}");
        }
    }
}

/// Every place of a value, by its steps.
fn leaves(value: &toml::Value, steps: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    if !steps.is_empty() {
        out.push(steps.clone());
    }
    let of_table = value.as_table().into_iter().flatten();
    let of_table = of_table.map(|(key, it)| (key.clone(), it));
    let of_list = value.as_array().into_iter().flatten().enumerate();
    let of_list = of_list.map(|(at, it)| (at.to_string(), it));
    for (step, child) in of_table.chain(of_list) {
        steps.push(step);
        leaves(child, steps, out);
        steps.pop();
    }
}

fn at<'v>(value: &'v mut toml::Value, steps: &[String]) -> &'v mut toml::Value {
    steps.iter().fold(value, |value, step| {
        if value.is_array() {
            &mut value[step.parse::<usize>().unwrap()]
        } else {
            &mut value[step.as_str()]
        }
    })
}
