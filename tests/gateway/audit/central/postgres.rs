//! PostgreSQL as the gateway and its auditors use it.

use std::fs;
use std::process::Output;

use atlas_cert_gateway::audit::DatabaseConfig;

use crate::harness::postgres::Postgres;
use crate::program::{command, output};

impl Postgres {
    /// Starts one with the tables of the trail; `None` where there is none to start.
    pub(crate) async fn start() -> Option<Self> {
        let postgres = Self::start_empty().await?;
        postgres.prepare();
        postgres
            .execute("GRANT audit_shipper TO gateway_audit")
            .await;
        postgres.execute("GRANT audit_auditor TO auditor").await;
        Some(postgres)
    }

    /// Runs `audit database prepare` as the owner.
    pub(crate) fn prepare(&self) {
        let prepared = self.command("owner", &["database", "prepare"]);
        assert!(prepared.status.success(), "{prepared:?}");
    }

    /// Runs a command of `audit` as a user of the database.
    pub(crate) fn command(&self, user: &str, arguments: &[&str]) -> Output {
        let file = self.directory().join(format!("{user}.toml"));
        let url = self.url(user);
        fs::write(&file, format!("[audit.database]\nurl = \"{url}\"\n")).unwrap();
        output(
            command()
                .arg("audit")
                .args(arguments)
                .arg("--config")
                .arg(file),
        )
    }

    /// `[audit.database]` of a gateway that looks for new records ten times a second.
    pub(crate) fn config(&self) -> DatabaseConfig {
        let url = self.url("gateway_audit");
        toml::from_str(&format!("url = \"{url}\"\ninterval = \"100ms\"")).unwrap()
    }
}
