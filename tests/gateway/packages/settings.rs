//! The configurations that are packaged are taken by the gateway of the same commit.

use atlas_cert_gateway::config::Config;

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
    let environment = COMPOSE_FILE
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("ATLAS_CERT_GATEWAY__"))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(text, environment).unwrap();
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
