//! What stands around the server under measurement: a simulated Atlas, an issuer's keys, callers.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atlas_simulator::{
    BucketSize, CLIENT_ID, CLIENT_SECRET, Rules, Settings, Simulator, TokenRules,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::load::Ask;
use crate::tokens;
use crate::tokens::Issuer;

/// How a gateway is configured where it matters to a case.
#[derive(Clone, Copy)]
pub(crate) struct Tuning {
    /// `audit.sync`.
    pub(crate) sync: &'static str,
    /// How many rules there are besides, which ask for scopes that no token has.
    pub(crate) scope_rules: usize,
}

impl Tuning {
    /// As most gateways are configured.
    pub(crate) const USUAL: Self = Self {
        sync: "interval",
        scope_rules: 0,
    };
}

/// Everything but the servers.
pub(crate) struct Site {
    /// Atlas.
    pub(crate) atlas: Simulator,
    issuer: Issuer,
    files: TempDir,
    gateways: AtomicUsize,
}

impl Site {
    /// Starts Atlas on a runtime of its own, whose threads are not those of the generator.
    pub(crate) async fn start(runtime: &Handle) -> Self {
        let rules = Rules {
            bucket: BucketSize {
                capacity: PLENTY,
                refill: PLENTY,
                ..BucketSize::X509
            },
            // Each case starts gateways, and each of those mints.
            tokens: TokenRules {
                live: 100_000,
                per_minute: 100_000,
                ..TokenRules::default()
            },
            ..Rules::default()
        };
        let settings = Settings {
            rules,
            keep_requests: 1,
            ..Settings::default()
        };
        let starting = runtime.spawn(Simulator::start(settings));
        let atlas = starting.await.unwrap().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            atlas,
            issuer: Issuer::new(i64::try_from(now.as_secs()).unwrap() - 5),
            files: tempfile::tempdir().unwrap(),
            gateways: AtomicUsize::new(0),
        }
    }

    /// Users `name-0`, `name-1`, ... in Atlas, and the requests for their certificates, each with the
    /// first of `tokens`, the second, and so on.
    pub(crate) fn asks(&self, users: Users, tokens: &[String]) -> Vec<Ask> {
        let Users {
            name,
            count,
            certificates,
        } = users;
        self.atlas.world(|world| {
            for number in 0..count {
                let mut project = world.project(&project_of(number));
                let mut user = project.user(&format!("{name}-{number}"));
                if user.serials().is_empty() {
                    user.certificates(certificates);
                }
            }
        });
        (0..count.max(tokens.len()))
            .map(|at| {
                let (number, token) = (at % count, &tokens[at % tokens.len()]);
                let project = project_of(number);
                let target =
                    format!("/api/atlas/v2/groups/{project}/databaseUsers/{name}-{number}/certs");
                Ask::new(target, token)
            })
            .collect()
    }

    /// Different good tokens of 946 bytes or so, of the subject `payments-api`.
    pub(crate) fn tokens(&self, count: usize) -> Vec<String> {
        let token = |number: usize| {
            self.issuer.forge("payments-api", |_, claims| {
                claims["jti"] = json!(format!("3f8e2c31-6c1d-4b0f-9a43-{number:012}"));
                claims["exp"] = json!(self.issuer.now + 3 * 3_600);
                claims["realm_access"] = json!({"roles": ["offline_access", "default-roles"]});
                claims["preferred_username"] = json!("service-account-payments-api");
                claims["session_state"] = json!("3f8e2c31-6c1d-4b0f-9a43-0f4f7c1e2d3a");
                claims["azp"] = json!("payments-api-client-of-the-platform-team");
            })
        };
        (0..count).map(token).collect()
    }

    /// A file for a case.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The command that starts a gateway with a directory of its own.
    pub(crate) fn gateway(&self, tuning: Tuning) -> Command {
        self.gateway_before(tuning, &self.atlas.base_url())
    }

    /// The same in front of another Atlas.
    pub(crate) fn gateway_before(&self, tuning: Tuning, atlas: &str) -> Command {
        self.command(|directory| Self::configuration(directory, tuning, atlas))
    }

    /// The same with a second credential, for a project of its own, that Atlas does not accept.
    pub(crate) fn gateway_with_a_broken_credential(&self, tuning: Tuning) -> Command {
        self.command(|directory| {
            let usual = Self::configuration(directory, tuning, &self.atlas.base_url());
            let secret = directory.join("wrong");
            write_secret(&secret, "mdb_sa_sk_wrong");
            let broken = format!(
                r#"
            [[atlas.credentials]]
            name = "broken"
            projects = ["{BROKEN}"]
            service_account = {{ client_id = "mdb_sa_id_000000000000000000000000", client_secret_file = "{}" }}
            "#,
                secret.display()
            );
            // The first that covers a project is used.
            let (before, usual) = usual.split_once("[[atlas.credentials]]").unwrap();
            format!("{before}{broken}[[atlas.credentials]]{usual}")
        })
    }

    /// The same, with more tables behind its configuration. `prepare` is given its directory first.
    pub(crate) fn gateway_with(
        &self,
        tuning: Tuning,
        more: &str,
        prepare: impl FnOnce(&Path),
    ) -> Command {
        self.command(|directory| {
            prepare(directory);
            let usual = Self::configuration(directory, tuning, &self.atlas.base_url());
            format!("{usual}\n{more}")
        })
    }

    /// A token of this subject, changed before it was signed.
    pub(crate) fn forge(
        &self,
        subject: &str,
        change: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value),
    ) -> String {
        self.issuer.forge(subject, change)
    }

    fn command(&self, configuration: impl FnOnce(&Path) -> String) -> Command {
        let number = self.gateways.fetch_add(1, Ordering::Relaxed);
        let directory = self.files.path().join(format!("gateway-{number}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("jwks.json"), self.issuer.jwks().to_string()).unwrap();
        write_secret(&directory.join("atlas"), CLIENT_SECRET);
        let config = directory.join("gateway.toml");
        fs::write(&config, configuration(&directory)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"));
        command.arg("serve").arg("--config").arg(config);
        command
    }

    fn configuration(directory: &Path, tuning: Tuning, atlas: &str) -> String {
        let (issuer, audience) = (tokens::ISSUER, tokens::AUDIENCE);
        let (directory, sync) = (directory.display(), tuning.sync);
        let mut scope_rules = String::new();
        for number in 0..tuning.scope_rules {
            write!(
                scope_rules,
                r#"
            [[access.rules]]
            name = "team {number}"
            subjects = ["payments-*"]
            scopes = ["team-{number}"]
            projects = ["*"]
            usernames = ["payments-*"]
            "#
            )
            .unwrap();
        }
        format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            [atlas]
            base_url = "{atlas}"
            state_directory = "{directory}/state"
            limits = {{ share_percent = 100, reserve = 0, capacity = {PLENTY}, refill_per_minute = {PLENTY} }}
            [[atlas.credentials]]
            name = "platform"
            projects = ["*"]
            service_account = {{ client_id = "{CLIENT_ID}", client_secret_file = "{directory}/atlas" }}
            [[identity.issuers]]
            issuer = "{issuer}"
            audiences = ["{audience}"]
            algorithms = ["RS256"]
            jwks_file = "{directory}/jwks.json"
            [[access.rules]]
            name = "payments reads its own users"
            subjects = ["payments-*"]
            projects = ["*"]
            usernames = ["payments-*"]
            [[access.rules]]
            name = "nobody reads root"
            subjects = ["*"]
            projects = ["*"]
            usernames = ["root"]
            deny = true
            {scope_rules}
            [cache]
            # Longer than a case, so that what is called a hit is one.
            ttl = "1h"
            [audit]
            directory = "{directory}/audit"
            sync = "{sync}"
            "#
        )
    }

    /// Holds every answer of Atlas back for so long.
    pub(crate) fn delay(&self, latency: Duration) {
        self.atlas.rules(|rules| rules.latency = latency);
    }
}

/// Users of Atlas with so many certificates each.
#[derive(Clone, Copy)]
pub(crate) struct Users {
    /// Begins with `payments-`, or the rules say no.
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) certificates: u32,
}

/// Spread over projects, since calls to one project take turns.
fn project_of(user: usize) -> String {
    format!("32b6e34b3d91647abb2{:05x}", user % 64)
}

fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// More calls than any case makes.
const PLENTY: u64 = 1_000_000_000;
/// The project of the credential that Atlas does not accept.
pub(crate) const BROKEN: &str = "5f0e1d2c3b4a59687f6e5d4c";
