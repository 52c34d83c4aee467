//! Another configuration for a running gateway: taken whole or not at all, by itself or when told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use atlas_cert_gateway::config::ConfigSource;
use atlas_simulator::{CLIENT_ID, CLIENT_SECRET, PUBLIC_KEY, ServiceAccount};

use crate::world::{OTHER_PROJECT, PROJECT, Plan, World, certs, operator_token, set, use_api_key};

/// A world whose gateway was started with a file.
pub(crate) struct Scene {
    pub(crate) world: World,
    config: toml::Table,
    source: ConfigSource,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut config = toml::Table::new();
        let world = World::with(|plan| {
            change(plan);
            config = plan.config.clone();
        })
        .await;
        set(&mut config, "atlas.base_url", world.atlas.base_url());
        let file = world.files.path().join("gateway.toml");
        fs::write(&file, config.to_string()).unwrap();
        let mut source = ConfigSource::new(file);
        source.read().unwrap();
        Self {
            world,
            config,
            source,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.world.files.path().join(name)
    }

    fn write_secret(&self, name: &str, secret: &str) -> String {
        let path = self.path(name);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// Writes the file anew, with a change of what it was at the start.
    pub(crate) fn write(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut config = self.config.clone();
        change(&mut config);
        fs::write(self.path("gateway.toml"), config.to_string()).unwrap();
    }

    /// Whether the file as it is now is taken.
    pub(crate) async fn reload(&mut self) -> bool {
        let taken = self.world.app.reload_from(&mut self.source).await;
        taken.is_some()
    }

    /// Why the file as it is now is not taken.
    pub(crate) async fn refusal(&mut self) -> String {
        self.source.read_again().await.unwrap_err().to_string()
    }

    /// Whether a change is noticed within twenty seconds of the clock.
    pub(crate) async fn notices(&mut self) -> bool {
        let Self { world, source, .. } = self;
        let passing = async {
            for _ in 0..5 {
                // Long enough for a look at a file, which is taken on a thread of its own.
                for _ in 0..100 {
                    world.admin("GET", "/healthz", "", "").await;
                }
                world.advance(Duration::from_secs(5));
            }
        };
        tokio::select! {
            () = world.app.until_changed(source) => true,
            () = passing => false,
        }
    }

    /// What became of the reloads, by the trail.
    fn on_record(&self) -> Vec<String> {
        let records = self.world.records().into_iter();
        records
            .filter(|record| record["action"] == "reload")
            .map(|record| record["outcome"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn metric(&self, name: &str) -> u64 {
        let page = self.world.admin("GET", "/metrics", "", "").await.text();
        let name = format!("atlas_cert_gateway_config_{name} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&name))
            .map_or(0, |count| count.parse().unwrap())
    }
}

/// Makes a mistake in a configuration; the path is of a file with nothing in it.
type Damage = fn(&mut toml::Table, &str);

fn credential(config: &mut toml::Table) -> &mut toml::Table {
    let credentials = config["atlas"]["credentials"].as_array_mut().unwrap();
    credentials[0].as_table_mut().unwrap()
}

/// A rule that a reload must not put in place together with a mistake.
fn deny_all(config: &mut toml::Table) {
    let rule = "name = \"nobody\"\nsubjects = [\"*\"]\nprojects = [\"*\"]\nusernames = [\"*\"]\ndeny = true";
    let rule: toml::Table = rule.parse().unwrap();
    let rules = config["access"]["rules"].as_array_mut().unwrap();
    rules.push(toml::Value::Table(rule));
}

#[tokio::test]
async fn a_changed_file_is_noticed_taken_and_put_on_record() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.world.ask("app1").await.status, 200);
    scene.write(deny_all);
    let Scene { world, source, .. } = &mut scene;
    world
        .while_time_passes(world.app.until_changed(source))
        .await;
    assert!(scene.reload().await);
    assert_eq!(scene.world.ask("app1").await.status, 403);
    assert_eq!(scene.on_record(), ["answered"]);
    assert_eq!(scene.metric("reloads_total{result=\"taken\"}").await, 1);
}

#[tokio::test]
async fn a_configuration_that_is_read_again_unasked_goes_on_with_the_audit_file() {
    let mut scene = Scene::new().await;
    for content in ["no TOML [", "[cache]\nttl = \"soon\"\n"] {
        fs::write(scene.path("gateway.toml"), content).unwrap();
        assert!(!scene.reload().await);
    }
    scene.write(deny_all);
    assert!(scene.reload().await);
    assert_eq!(scene.world.metric("audit_rotations_total").await, 0);
    scene.world.app.begin_audit_file();
    while scene.world.metric("audit_rotations_total").await == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_account_that_stays_keeps_its_token_and_one_that_goes_gives_it_back() {
    let second = "mdb_sa_id_66f1c0ffee00000000000002";
    let mut scene = Scene::with(|plan| {
        let account = ServiceAccount::new(second, "the-second-secret");
        plan.atlas.rules.service_accounts.push(account);
    })
    .await;
    assert_eq!(scene.world.ask("app1").await.status, 200);
    scene.write(|config| {
        let projects = toml::Value::try_from([OTHER_PROJECT]).unwrap();
        credential(config).insert("projects".to_owned(), projects);
        credential(config).insert("name".to_owned(), "renamed".into());
    });
    assert!(scene.reload().await);
    let uncovered = scene.world.ask("many").await;
    assert_eq!(uncovered.error_code(), "GROUP_NOT_FOUND");
    let covered = scene.world.get(&certs(OTHER_PROJECT, "app1"), &[]).await;
    assert_eq!(covered.status, 200);
    assert_eq!(scene.world.atlas.mints(), 1);
    let page = scene.world.admin("GET", "/metrics", "", "").await.text();
    assert!(!page.contains("credential=\"platform\""));

    let file = scene.write_secret("second", "the-second-secret");
    scene.write(|config| {
        set(credential(config), "service_account.client_id", second);
        set(
            credential(config),
            "service_account.client_secret_file",
            file,
        );
    });
    assert!(scene.reload().await);
    assert_eq!(scene.world.ask("many").await.status, 200);
    assert_eq!(scene.world.atlas.live_tokens_of(second), 1);
    let given_back = scene.world.until(|world| {
        world.advance(Duration::from_secs(1));
        world.atlas.live_tokens_of(CLIENT_ID) == 0
    });
    given_back.await;
    assert_eq!(
        (scene.world.atlas.mints(), scene.world.atlas.revokes()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_secret_from_another_file_revives_a_refused_account_at_once() {
    let mut scene = Scene::new().await;
    scene.world.atlas.rules(|rules| {
        rules.service_accounts = vec![ServiceAccount::new(CLIENT_ID, "the-next-secret")];
    });
    let refused = scene.world.while_time_passes(scene.world.ask("app1")).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let file = scene.write_secret("atlas-next", "the-next-secret");
    scene.write(|config| {
        set(
            credential(config),
            "service_account.client_secret_file",
            file,
        );
    });
    assert!(scene.reload().await);
    assert_eq!(scene.world.ask("app1").await.status, 200);
    let ready = scene.world.admin("GET", "/readyz", "", "").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
}

#[tokio::test]
async fn an_api_keys_other_half_is_taken_up() {
    let mut scene = Scene::with(|plan| use_api_key(&mut plan.config)).await;
    assert_eq!(scene.world.ask("app1").await.status, 200);
    scene.world.atlas.rules(|rules| {
        rules.api_keys = vec![atlas_simulator::ApiKey::new(PUBLIC_KEY, "another")];
    });
    let file = scene.write_secret("key-next", "another");
    scene.write(|config| set(credential(config), "api_key.private_key_file", file));
    assert!(scene.reload().await);
    let again = scene.world.ask("many").await;
    assert_eq!(again.status, 200, "{}", again.text());
}

#[tokio::test]
async fn what_was_spent_of_a_projects_bucket_stays_spent_under_another_share() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.world.ask("many").await.status, 200);
    let explain = format!("/cache/explain?groupId={PROJECT}&username=many");
    let budget = async |scene: &Scene| {
        let token = operator_token();
        let reply = scene.world.admin("GET", &explain, &token, "").await;
        let budget = reply.json()["budget"].clone();
        (
            budget["remaining"].clone(),
            budget["refillPerMinute"].clone(),
        )
    };
    let (before, refill) = budget(&scene).await;
    assert_eq!(refill, 250);
    scene.write(|config| set(config, "atlas.limits.share_percent", 20));
    assert!(scene.reload().await);
    assert_eq!(budget(&scene).await, (before, 100.into()));
}

#[tokio::test]
async fn a_mistake_of_any_kind_leaves_everything_as_it_was() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.world.ask("app1").await.status, 200);
    let nothing = scene.write_secret("empty", "");
    let config_errors: [(&str, Damage); 7] = [
        ("an unknown key", |config, _| set(config, "cache.tll", "1m")),
        ("a value that is none", |config, _| {
            set(config, "cache.ttl", "soon");
        }),
        ("a limit that cannot be meant", |config, _| {
            set(config, "atlas.limits.share_percent", 101);
        }),
        ("no secret", |config, nothing| {
            set(
                credential(config),
                "service_account.client_secret_file",
                nothing,
            );
        }),
        ("no key of an issuer", |config, nothing| {
            let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
            set(
                issuers[0].as_table_mut().unwrap(),
                "hmac_secret_file",
                nothing,
            );
        }),
        ("no certificate", |config, nothing| {
            set(config, "server.tls.certificate", nothing);
            set(config, "server.tls.private_key", nothing);
        }),
        ("no filter", |config, _| {
            set(config, "telemetry.log", "info,,=");
        }),
    ];
    let mut refused = Vec::new();
    for (what, config_error) in config_errors {
        scene.write(|config| {
            deny_all(config);
            set(config, "cache.ttl", "1s");
            config_error(config, &nothing);
        });
        assert!(!scene.reload().await, "{what}");
        refused.push("rejected");
        assert_eq!(scene.world.ask("app1").await.status, 200, "{what}");
    }
    // J64: half of it, nothing of it, and no file at all.
    let text = scene.config.to_string();
    let half = text.get(..text.len() / 2);
    for content in [half, Some(""), None] {
        match content {
            Some(content) => fs::write(scene.path("gateway.toml"), content).unwrap(),
            None => fs::remove_file(scene.path("gateway.toml")).unwrap(),
        }
        let Scene { world, source, .. } = &mut scene;
        world
            .while_time_passes(world.app.until_changed(source))
            .await;
        assert!(!scene.reload().await, "{content:?}");
        refused.push("rejected");
        assert_eq!(scene.world.ask("app1").await.status, 200, "{content:?}");
    }
    assert_eq!(scene.on_record(), refused);
    let counted = scene.metric("reloads_total{result=\"refused\"}").await;
    assert_eq!(counted, 10);
    assert_eq!(scene.metric("last_reload_successful").await, 0);
    scene.write(|_| {});
    assert!(scene.reload().await);
    assert_eq!(scene.metric("last_reload_successful").await, 1);
    assert_eq!(scene.world.atlas.mints(), 1);
}

#[tokio::test]
async fn a_refused_configuration_is_tried_again_when_a_file_it_names_changes() {
    let mut scene = Scene::new().await;
    let secret = scene.path("later");
    scene.write(|config| {
        deny_all(config);
        let key = "service_account.client_secret_file";
        set(credential(config), key, secret.display().to_string());
    });
    // Not there; there, and open to all users; closed to others.
    for (mode, taken) in [(None, false), (Some(0o644), false), (Some(0o600), true)] {
        if let Some(mode) = mode {
            fs::write(&secret, CLIENT_SECRET).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert!(scene.notices().await, "{mode:?}");
        assert_eq!(scene.reload().await, taken, "{mode:?}");
        let status = scene.world.ask("app1").await.status;
        assert_eq!(status, if taken { 403 } else { 200 }, "{mode:?}");
    }
    assert_eq!(scene.on_record(), ["rejected", "rejected", "answered"]);
    // In place, it is not read again for the sake of its secret, which is taken up without.
    scene.write_secret("later", "another-secret");
    assert!(!scene.notices().await);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_taken() {
    let mut scene = Scene::new().await;
    scene.write(|config| {
        deny_all(config);
        set(config, "audit.directory", "elsewhere");
        set(config, "server.listen", "127.0.0.1:1");
        set(config, "atlas.limits.concurrency", 3);
    });
    let fresh = scene.source.read().unwrap();
    let mut waiting = scene.world.app.reload(&fresh).await.unwrap();
    waiting.sort();
    let expected = [
        "atlas.limits.concurrency",
        "audit.directory",
        "server.listen",
    ];
    assert_eq!(waiting, expected);
    assert_eq!(scene.world.ask("app1").await.status, 403);
}
