//! The configurations that are packaged are taken by the gateway of the same commit.

use atlas_cert_gateway::config::Config;

use crate::harness::postgres::Postgres;

const COMPOSE_FILE: &str = include_str!("../../../compose.yaml");

#[test]
fn the_configuration_of_the_kubernetes_manifests_holds_no_mistake() {
    let text = include_str!("../../../config/deploy/kubernetes/gateway.toml");
    let config = Config::parse(text, []).unwrap();
    let warnings: Vec<_> = config.warnings().into_iter().map(|it| it.place).collect();
    assert_eq!(warnings, [""; 0]);
    let manifest = include_str!("../../../config/deploy/kubernetes/statefulset.yaml");
    assert_eq!(config.server.listen.port(), 8080);
    assert_eq!(config.admin.listen.port(), 9090);
    for directory in [&config.audit.directory, &config.atlas.state_directory] {
        let volume = directory.parent().unwrap().display();
        assert!(manifest.contains(&format!("mountPath: {volume}\n")));
    }
    let replicas = manifest.matches("replicas: 2\n").count();
    assert_eq!((replicas, config.atlas.limits.share_percent), (1, 25));
}

#[test]
fn the_configuration_behind_the_compose_file_is_whole_with_its_environment() {
    let text = include_str!("../../../config/deploy/compose.toml");
    let parsed = |service| Config::parse(text, environment(service)).unwrap();
    let (config, other) = (parsed("gateway-1"), parsed("gateway-2"));
    assert_ne!(config.audit.replica, other.audit.replica);
    assert_ne!(config.server.listen, other.server.listen);
    for config in [&config, &other] {
        for port in [config.server.listen, config.admin.listen].map(|it| it.port()) {
            let published = format!("- \"127.0.0.1:{port}:{port}\"\n");
            assert!(COMPOSE_FILE.contains(&published), "{port}");
        }
    }
    assert_eq!(config.atlas.limits.share_percent, 25);
    let account = config.atlas.credentials[0]
        .service_account
        .as_ref()
        .unwrap();
    assert_eq!(account.client_id, atlas_simulator::CLIENT_ID);
    assert_eq!(
        account.client_secret.as_ref().unwrap().expose(),
        atlas_simulator::CLIENT_SECRET
    );
    let issuer = &config.identity.issuers[0];
    let signing = issuer.hmac_secret.as_ref().unwrap().expose();
    assert!(COMPOSE_FILE.contains(&format!("-hmac '{signing}'")));
    assert!(COMPOSE_FILE.contains(&format!("{{\\\"iss\\\":\\\"{}\\\"", issuer.issuer)));
}

/// The variables of a gateway of the compose file.
fn environment(service: &str) -> Vec<(String, String)> {
    let block = |start: &str| {
        let (_, rest) = COMPOSE_FILE.split_once(start).unwrap();
        rest.split("\n\n").next().unwrap()
    };
    let lines = [block("x-environment:"), block(&format!("\n  {service}:"))].map(str::lines);
    let lines = lines.into_iter().flatten().map(str::trim);
    let variables = lines.filter(|line| line.starts_with("ATLAS_CERT_GATEWAY__"));
    let pairs = variables.map(|line| line.split_once(": ").unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn the_user_behind_the_compose_file_may_ship_once_the_tables_are_there() {
    let Some(postgres) = Postgres::start_empty().await else {
        return;
    };
    let roles = include_str!("../../../config/deploy/compose.sql");
    postgres.execute("DROP ROLE gateway_audit").await;
    postgres.execute(roles).await;
    postgres.prepare();
    let may = "SELECT has_table_privilege('gateway_audit', 'audit.record', 'INSERT')::integer";
    assert_eq!(postgres.integer(may).await, 1);
    let config = include_str!("../../../config/deploy/compose.toml");
    let config = Config::parse(config, environment("gateway-1")).unwrap();
    let database = config.audit.database.unwrap();
    let password = format!("PASSWORD '{}'", database.password.unwrap().expose());
    assert!(roles.contains(&password));
}

#[test]
fn every_package_waits_longer_for_the_end_than_the_end_takes() {
    let limits = Config::default().server.limits;
    let end = (limits.drain_lead + limits.drain_grace).as_secs();
    for (package, text, key) in [
        ("compose.yaml", COMPOSE_FILE, "stop_grace_period: "),
        (
            "statefulset.yaml",
            include_str!("../../../config/deploy/kubernetes/statefulset.yaml"),
            "terminationGracePeriodSeconds: ",
        ),
        (
            "atlas-cert-gateway.service",
            include_str!("../../../config/deploy/atlas-cert-gateway.service"),
            "TimeoutStopSec=",
        ),
    ] {
        let (_, value) = text.split_once(key).unwrap();
        let seconds = value.lines().next().unwrap().trim_end_matches('s');
        assert!(seconds.parse::<u64>().unwrap() >= end + 5, "{package}");
    }
}
