//! What the check of a configuration says of settings that let too many in.

use super::Scene;
use crate::forgeries;

type Change<'c> = dyn Fn(&mut toml::Table) + 'c;

/// A change, the exit code of the check, and what it says.
type Case<'c> = (&'c Change<'c>, i32, &'static str);

#[tokio::test]
async fn check_warns_of_weak_settings_and_refuses_impossible_ones() {
    let scene = Scene::new(&forgeries::published()).await;
    let check = |change: &Change<'_>| {
        let mut config = scene.config.clone();
        crate::world::set(&mut config, "atlas.base_url", scene.world.atlas.base_url());
        change(&mut config);
        let file = scene.world.files.path().join("check.toml");
        std::fs::write(&file, config.to_string()).unwrap();
        let program = env!("CARGO_BIN_EXE_atlas-cert-gateway");
        let output = std::process::Command::new(program)
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let rule = |key: &'static str, value: &'static str| {
        move |config: &mut toml::Table| {
            let rules = config["access"]["rules"].as_array_mut().unwrap();
            rules[0][key] = toml::Value::Array(vec![value.into()]);
        }
    };
    let issuer = |key: &'static str, value: toml::Value| {
        move |config: &mut toml::Table| {
            let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
            issuers[0][key] = value.clone();
        }
    };
    let everything = |config: &mut toml::Table| {
        rule("subjects", "*")(config);
        rule("projects", "*")(config);
    };
    let none = toml::Value::Array(Vec::new());
    let plain = toml::Value::from("http://idp.test/jwks");
    let cases: [Case<'_>; 5] = [
        (&everything, 0, "this rule grants everything"),
        (&rule("usernames", ".."), 0, "so it never matches"),
        (
            &issuer("audiences", none.clone()),
            78,
            "identity.issuers[0].audiences",
        ),
        (
            &issuer("algorithms", none),
            78,
            "identity.issuers[0].algorithms",
        ),
        (
            &issuer("jwks_url", plain),
            78,
            "identity.issuers[0].jwks_url",
        ),
    ];
    for (change, code, told) in cases {
        let (exit, said) = check(change);
        assert_eq!(exit, Some(code), "{said}");
        assert!(said.contains(told), "{told} in {said}");
    }
}
