//! `check --online`, the doctor: tries everything that the gateway would ask or open, a line each, with what to
//! do where it does not work.

use std::net::TcpListener;

use clap::ValueEnum;
use tokio::runtime;

use super::finding::Finding;
use super::{advice, fleet};
use crate::app::App;
use crate::audit::{DatabaseConfig, database};
use crate::commands::{ExitStatus, complain, say};
use crate::config::Config;
use crate::identity::IssuerCheck;
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::Chain;
use crate::upstream::{OnlineCheck, Tried};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FindingFormat {
    /// One list, with nothing before or behind it.
    Json,
    /// Lines behind the effective settings.
    #[default]
    Text,
}

pub(super) fn run(config: &Config, format: FindingFormat) -> ExitStatus {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            return ExitStatus::Failed;
        }
    };
    let found = runtime.block_on(findings(config));
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    let findings = match found {
        Ok(findings) => findings,
        Err(config_errors) => {
            for config_error in config_errors {
                complain(&config_error);
            }
            return ExitStatus::Misconfigured;
        }
    };
    let is_well = findings.iter().all(|finding| finding.well);
    let was_said = match format {
        FindingFormat::Json => say(&json(&findings)),
        FindingFormat::Text => findings.iter().all(Finding::tell),
    };
    if is_well && was_said {
        ExitStatus::Well
    } else {
        ExitStatus::Failed
    }
}

async fn findings(config: &Config) -> Result<Vec<Finding>, Vec<ConfigError>> {
    let clock = Clock::system();
    let checked = App::check_online(config, clock.clone()).await?;
    let mut findings: Vec<Finding> = checked
        .credentials
        .iter()
        .map(|check| of_credential(check, config))
        .collect();
    findings.push(of_clock(checked.clock_ahead, config));
    for check in App::check_issuers(config, &clock).await {
        findings.extend(of_issuer(&check));
    }
    if let Some(database) = &config.audit.database {
        findings.push(of_database(database, &clock).await);
    }
    if let Some(found) = App::check_fleet(config, &clock).await? {
        findings.extend(fleet::findings(found));
    }
    findings.extend(of_addresses(config));
    findings.extend(of_places(config));
    Ok(findings)
}

fn of_credential(check: &OnlineCheck, config: &Config) -> Finding {
    let what = format!("credential {}", check.credential);
    if let Some(problem) = &check.problem {
        let advice = match &check.tried {
            Tried::UnknownProject(_) => {
                "Mend the project's id in atlas.credentials or access.rules.".to_owned()
            }
            Tried::Nothing | Tried::Project(_) => advice::on(&problem.reason, &config.atlas),
        };
        let of = match &check.tried {
            Tried::Project(id) => format!(" (project {id})"),
            Tried::UnknownProject(id) => format!(" (Atlas knows no project {id})"),
            Tried::Nothing => String::new(),
        };
        return Finding::bad(what, format!("{}{of}", problem.reason), Some(advice));
    }
    Finding::good(
        what,
        match &check.tried {
            Tried::Project(id) | Tried::UnknownProject(id) => {
                format!("Atlas accepts it for project {id}")
            }
            Tried::Nothing => {
                "Atlas accepts it; that it may read a project is not known, because neither its \
                               `projects` nor a rule names one in full"
                    .to_owned()
            }
        },
    )
}

fn of_clock(ahead: Option<i64>, config: &Config) -> Finding {
    let what = "clock".to_owned();
    match ahead {
        None => Finding::good(
            what,
            format!("{} does not say what time it is", config.atlas.base_url),
        ),
        Some(ahead) if ahead.unsigned_abs() <= MOST_APART => {
            Finding::good(what, "it agrees with Atlas's".to_owned())
        }
        Some(ahead) => {
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            let found = format!("it is {} s {direction} Atlas's", ahead.unsigned_abs());
            let advice = "Set this host's clock by NTP: tokens and certificates are judged by it.";
            Finding::bad(what, found, Some(advice.to_owned()))
        }
    }
}

fn of_issuer(check: &IssuerCheck) -> Vec<Finding> {
    let what = format!("issuer {}", check.issuer);
    let mut findings: Vec<Finding> = Vec::new();
    findings.push(match &check.problem {
        None => Finding::good(what.clone(), keys_of(check)),
        Some(problem) => Finding::bad(what.clone(), problem.clone(), None),
    });
    // With the others its tokens can be verified.
    findings.extend(check.left_out.iter().map(|key| Finding {
        notable: true,
        ..Finding::good(what.clone(), format!("a published key is left out: {key}"))
    }));
    findings
}

fn keys_of(check: &IssuerCheck) -> String {
    if check.keys.is_empty() {
        return "it shares a secret with this gateway".to_owned();
    }
    format!("its keys are there: {}", check.keys.join(", "))
}

/// The central trail. No answer waits for it, and it is found out here.
async fn of_database(database: &DatabaseConfig, clock: &Clock) -> Finding {
    let what = format!("audit.database {}", database.url.servers());
    match database::check(database, clock).await {
        Ok(found) => Finding::good(what, found),
        Err(error) => {
            let advice = "See \"The central trail\" in docs/operating.md; the journal keeps the records meanwhile.";
            Finding::bad(what, Chain(&error).to_string(), Some(advice.to_owned()))
        }
    }
}

/// The addresses to listen on. A gateway that runs has them already.
fn of_addresses(config: &Config) -> impl Iterator<Item = Finding> {
    let both = [
        ("server.listen", config.server.listen),
        ("admin.listen", config.admin.listen),
    ];
    both.into_iter().map(|(key, address)| {
        let what = format!("{key} {address}");
        match TcpListener::bind(address) {
            Ok(_) => Finding::good(what, "it is free".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::good(
                what,
                "it is taken: by a gateway that runs, or by another process".to_owned(),
            ),
            Err(error) => {
                let advice = "Name an address of this host, or 0.0.0.0 for all of them.";
                Finding::bad(what, error.to_string(), Some(advice.to_owned()))
            }
        }
    })
}

/// What only the user that runs the gateway has to be able to write.
fn of_places(config: &Config) -> impl Iterator<Item = Finding> {
    let unwritable = App::unwritable(config);
    App::places(config).map(move |(key, path)| {
        let what = format!("{key} {}", path.display());
        let warning = unwritable.iter().find(|warning| warning.place == key);
        Finding::good(
            what,
            warning.map_or_else(
                || "it can be written to".to_owned(),
                |it| it.message.clone(),
            ),
        )
    })
}

fn json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).expect("texts and truth values, all of which JSON has")
}

/// In seconds: an answer takes its time, and `Date` has whole seconds.
const MOST_APART: u64 = 5;
