//! The Kubernetes manifests fit one another, the alerts and the gateway: ports, labels, selectors, probes.

use atlas_cert_gateway::config::Config;

use crate::packages::monitoring;
use crate::program::{command, output};

const STATEFUL_SET: &str = include_str!("../../../config/deploy/kubernetes/statefulset.yaml");
const SERVICES: &str = include_str!("../../../config/deploy/kubernetes/services.yaml");
const NETWORK_POLICY: &str = include_str!("../../../config/deploy/kubernetes/network-policy.yaml");
const POD_MONITOR: &str = include_str!(
    "../../../config/deploy/kubernetes/components/prometheus-operator/pod-monitor.yaml"
);
const RULES: &str = include_str!(
    "../../../config/deploy/kubernetes/components/prometheus-operator/prometheus-rule.yaml"
);
const COMPONENT: &str = include_str!(
    "../../../config/deploy/kubernetes/components/prometheus-operator/kustomization.yaml"
);
const FLEET: &str = include_str!("../../../config/deploy/kubernetes/components/valkey/fleet.yaml");
const VALKEY: &str =
    include_str!("../../../config/deploy/kubernetes/components/valkey/valkey.yaml");
const VALKEY_COMPONENT: &str =
    include_str!("../../../config/deploy/kubernetes/components/valkey/kustomization.yaml");
const VALKEY_CONF: &str =
    include_str!("../../../config/deploy/kubernetes/components/valkey/valkey.conf");
const VALKEY_POLICY: &str =
    include_str!("../../../config/deploy/kubernetes/components/valkey/network-policy.yaml");
const VALKEY_RIGHTS: &str =
    include_str!("../../../config/deploy/kubernetes/components/valkey/rights");
const DASHBOARD: &str = include_str!("../../../config/monitoring/dashboard.json");

/// The label by which everything finds the pods.
const LABEL: &str = "app.kubernetes.io/name: atlas-cert-gateway";

/// A probe of the shipped pods.
pub(crate) struct Probe {
    pub(crate) path: String,
    port: String,
    period: u64,
    timeout: u64,
    threshold: u64,
}

/// The probe of that name.
pub(crate) fn probe(name: &str) -> Probe {
    let block = block(STATEFUL_SET, name);
    let number = |key: &str| {
        let value = value(&block, key);
        value.map(|value| value.parse::<u64>().unwrap())
    };
    Probe {
        path: value(&block, "path").unwrap(),
        port: value(&block, "port").unwrap(),
        period: number("periodSeconds").unwrap(),
        timeout: number("timeoutSeconds").unwrap_or(1),
        threshold: number("failureThreshold").unwrap(),
    }
}

/// What is indented below the first line `key:`.
fn block(text: &str, key: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let start = format!("{key}:");
    let mut lines = text.lines().skip_while(|line| line.trim() != start);
    let own = indent(lines.next().unwrap_or_else(|| panic!("no {key}")));
    let below = lines.take_while(|line| line.trim().is_empty() || indent(line) > own);
    below.flat_map(|line| [line, "\n"]).collect()
}

/// What stands behind the first `key:`.
fn value(text: &str, key: &str) -> Option<String> {
    let start = format!("{key}: ");
    let mut lines = text.lines();
    lines.find_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        Some(line.strip_prefix(&start)?.trim_matches('"').to_owned())
    })
}

/// The number of a port of the shipped pods.
fn port(name: &str) -> u16 {
    let start = format!("- name: {name}");
    let mut lines = STATEFUL_SET.lines().skip_while(|line| line.trim() != start);
    lines.next().unwrap_or_else(|| panic!("no port {name}"));
    let number = lines.next().unwrap().trim().strip_prefix("containerPort: ");
    number.unwrap().parse().unwrap()
}

#[test]
fn a_pod_leaves_its_service_by_readiness_alone_and_in_time_to_drain() {
    let readiness = probe("readinessProbe");
    assert_eq!((&*readiness.path, &*readiness.port), ("/readyz", "admin"));
    assert!(readiness.threshold >= 2, "one slow answer takes pods out");
    let lead = Config::default().server.limits.drain_lead.as_secs();
    assert!(readiness.period * readiness.threshold < lead);
    assert!(readiness.timeout <= readiness.period);
    // A restart mends nothing that readiness tells of.
    for name in ["livenessProbe", "startupProbe"] {
        let probe = probe(name);
        assert_eq!(
            (&*probe.path, &*probe.port),
            ("/healthz", "admin"),
            "{name}"
        );
        assert!(probe.period * probe.threshold >= 30, "{name}");
    }
    let services: Vec<_> = SERVICES.split("---").collect();
    let [callers, replicas] = services[..] else {
        panic!("{SERVICES}");
    };
    assert!(!callers.contains("publishNotReadyAddresses"));
    assert!(replicas.contains("publishNotReadyAddresses: true"));
    for (package, text) in [
        ("Dockerfile", include_str!("../../../Dockerfile")),
        ("compose.yaml", include_str!("../../../compose.yaml")),
        (
            "atlas-cert-gateway.service",
            include_str!("../../../config/deploy/atlas-cert-gateway.service"),
        ),
    ] {
        assert!(!text.contains("readyz"), "{package} restarts on readiness");
    }
}

#[test]
fn what_is_selected_by_label_is_the_pods_and_every_port_is_theirs() {
    let config = include_str!("../../../config/deploy/kubernetes/gateway.toml");
    let config = Config::parse(config, []).unwrap();
    let (http, admin) = (port("http"), port("admin"));
    assert_eq!(http, config.server.listen.port());
    assert_eq!(admin, config.admin.listen.port());
    let pod = block(&block(STATEFUL_SET, "template"), "metadata");
    assert!(block(&pod, "labels").contains(LABEL), "{pod}");
    assert!(block(STATEFUL_SET, "selector").contains(LABEL));
    for service in SERVICES.split("---") {
        assert!(block(service, "selector").contains(LABEL));
        let target = value(service, "targetPort").unwrap();
        assert!(["http", "admin"].contains(&&*target), "{target}");
    }
    assert!(block(NETWORK_POLICY, "podSelector").contains(LABEL));
    let ingress = block(NETWORK_POLICY, "ingress");
    for port in [http, admin] {
        assert!(ingress.contains(&format!("port: {port}\n")), "{port}");
    }
    let annotations = block(&pod, "annotations");
    let annotated = value(&annotations, "prometheus.io/port").unwrap();
    assert_eq!(annotated, admin.to_string());
    assert_eq!(
        value(&annotations, "prometheus.io/path").unwrap(),
        "/metrics"
    );
}

#[test]
fn the_pod_monitor_scrapes_the_pods_under_the_job_of_the_alerts() {
    assert!(block(POD_MONITOR, "selector").contains(LABEL));
    let endpoint = block(POD_MONITOR, "podMetricsEndpoints");
    assert_eq!(value(&endpoint, "path").unwrap(), "/metrics");
    // Fails if there is no port of that name.
    port(&value(&endpoint, "port").unwrap());
    // `job` becomes the value of this label of the pods.
    let (name, job) = LABEL.split_once(": ").unwrap();
    assert_eq!(value(POD_MONITOR, "jobLabel").unwrap(), name);
    let selectors = monitoring::ALERTS.split("job=\"").skip(1);
    let jobs: Vec<_> = selectors
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(
        !jobs.is_empty() && jobs.iter().all(|named| *named == job),
        "{jobs:?}"
    );
    // Where all annotated pods are scraped, their label is there under this name.
    let label = name.replace(['.', '/'], "_");
    let by_label = format!("{label}=\"{job}\"");
    assert!(monitoring::ALERTS.matches(&by_label).count() >= 3);
    // The dashboard asks for whatever job there is.
    assert!(DASHBOARD.contains("label_values(atlas_cert_gateway_build_info, job)"));
    assert!(!DASHBOARD.contains("job=\\\"atlas"));
    for file in ["pod-monitor.yaml", "prometheus-rule.yaml"] {
        assert!(COMPONENT.contains(&format!("- {file}\n")), "{file}");
    }
}

#[test]
fn the_valkey_component_makes_the_replicas_a_fleet() {
    let lines: Vec<_> = FLEET.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let [name, value] = pair else { return None };
        let name = name.strip_prefix("- name: ATLAS")?;
        let value = value.strip_prefix("value: ")?.trim_matches(['\'', '"']);
        Some((format!("ATLAS{name}"), value.to_owned()))
    });
    let text = include_str!("../../../config/deploy/kubernetes/gateway.toml");
    let config = Config::parse(text, pairs).unwrap();
    let warnings: Vec<_> = config.warnings().into_iter().map(|it| it.place).collect();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.atlas.limits.share_percent, 50);
    let fleet = config.fleet.unwrap();
    assert!(STATEFUL_SET.contains("replicas: 2\n") && fleet.replicas == 3);
    // The gateway's secrets are the engine's.
    for secret in ["atlas-cert-gateway-fleet", "valkey-tls"] {
        let named = format!("secretName: {secret}\n");
        assert!(
            FLEET.contains(&named) && VALKEY.contains(&named),
            "{secret}"
        );
        assert!(VALKEY_COMPONENT.contains(&format!("create secret generic {secret} ")));
    }
    let mounts = ["/run/secrets/fleet", "/run/secrets/valkey"].map(std::path::Path::new);
    let [fleet_secret, tls] = mounts;
    let files = [fleet.password_file.unwrap(), fleet.key_files[0].clone()];
    assert!(files.iter().all(|file| file.parent() == Some(fleet_secret)));
    assert_eq!(fleet.ca_certificate.unwrap().parent(), Some(tls));
    for mount in mounts {
        let mounted = format!("mountPath: {}\n", mount.display());
        assert!(FLEET.contains(&mounted) && VALKEY.contains(&mounted));
    }
    // One port, from the address to the policies.
    assert_eq!(VALKEY_CONF.matches("tls-port 6379\n").count(), 1);
    assert_eq!(VALKEY_POLICY.matches("port: 6379\n").count(), 2);
    assert!(VALKEY.contains("containerPort: 6379\n") && VALKEY.contains("port: 6379\n"));
    assert!(FLEET.contains("rediss://valkey.atlas-cert-gateway.svc:6379\n"));
    let printed = output(command().args(["fleet", "functions"]));
    let acl = String::from_utf8(printed.stdout).unwrap();
    assert!(acl.contains(VALKEY_RIGHTS.trim_end()), "{acl}");
    for file in [
        "valkey.yaml",
        "network-policy.yaml",
        "valkey.conf",
        "rights",
    ] {
        assert!(VALKEY_COMPONENT.contains(&format!("- {file}\n")), "{file}");
    }
}

#[test]
fn the_prometheus_rule_holds_the_alerts_as_they_are() {
    let (_, rules) = RULES.split_once("spec:\n").unwrap();
    let (_, alerts) = monitoring::ALERTS.split_once("\ngroups:\n").unwrap();
    let indented = |line: &str| {
        if line.is_empty() {
            String::new()
        } else {
            format!("  {line}")
        }
    };
    let expected: Vec<_> = ["groups:"]
        .into_iter()
        .chain(alerts.lines())
        .map(indented)
        .collect();
    let present: Vec<_> = rules.lines().collect();
    assert_eq!(present, expected, "run the component's `update`");
}

#[test]
fn alerts_tell_of_a_fleet_that_is_gone_whole() {
    assert!(monitoring::ALERTS.contains("absent(up{job=\"atlas-cert-gateway\"})"));
}
