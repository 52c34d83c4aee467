//! `expirations`: which certificates of a project end soon, for people and for cron.

use std::io;
use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::ExitStatus;
use super::client::ClientArguments;
use super::lookup::failed;
use super::table::{Holds, Table, TableColumn, terminal};
use crate::http_client::HttpReply;
use crate::system::printable;

/// What `expirations` is told.
#[derive(Debug, Args)]
pub(crate) struct ExpirationsArguments {
    #[command(flatten)]
    client: ClientArguments,
    /// Within how many days, `0d` to `800d`.
    #[arg(long, value_name = "DAYS", default_value = "30d")]
    within: String,
    /// A user's last certificate, or each that ends.
    #[arg(long, value_enum, default_value_t = WhichEnding::Last)]
    which: WhichEnding,
    /// Of users of whom something is known, or of all that Atlas has listed.
    #[arg(long, value_enum, default_value_t = EndingScope::Known)]
    scope: EndingScope,
    /// How the answer is shown. Output is never coloured.
    #[arg(long, value_enum, default_value_t = EndingFormat::Table)]
    format: EndingFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhichEnding {
    Every,
    Last,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EndingScope {
    All,
    Known,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EndingFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
    /// For calendars.
    Ics,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    coverage: Coverage,
    results: Vec<Ending>,
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Coverage {
    users: usize,
    complete: bool,
    oldest_answer: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ending {
    username: String,
    #[serde(rename = "_id")]
    id: i64,
    not_after: String,
    seconds_left: i64,
    certificates: usize,
}

pub(crate) fn run(arguments: &ExpirationsArguments) -> ExitStatus {
    ask(arguments).unwrap_or_else(|failed| failed)
}

fn ask(arguments: &ExpirationsArguments) -> Result<ExitStatus, ExitStatus> {
    let told = get(arguments, "json")?;
    let answer: Answer =
        serde_json::from_slice(&told.body).map_err(|_| failed(&"it is no answer of a gateway"))?;
    let mut out = io::stdout().lock();
    let shown = match arguments.format {
        EndingFormat::Table => write_table(&answer, &mut out),
        EndingFormat::Json => out
            .write_all(&told.body)
            .and_then(|()| out.write_all(b"\n")),
        EndingFormat::Csv => out.write_all(&get(arguments, "csv")?.body),
        EndingFormat::Ics => out.write_all(&get(arguments, "ics")?.body),
    };
    shown.map_err(|error| failed(&error))?;
    Ok(if answer.total_count == 0 {
        ExitStatus::Well
    } else {
        ExitStatus::Ending
    })
}

fn get(arguments: &ExpirationsArguments, format: &str) -> Result<HttpReply, ExitStatus> {
    let path = [
        "gateway",
        "v1",
        "groups",
        &arguments.client.group,
        "expirations",
    ];
    let query = [
        ("within", &*arguments.within),
        (
            "which",
            match arguments.which {
                WhichEnding::Every => "every",
                WhichEnding::Last => "last",
            },
        ),
        (
            "scope",
            match arguments.scope {
                EndingScope::All => "all",
                EndingScope::Known => "known",
            },
        ),
        ("format", format),
    ];
    let reply = arguments.client.get(&path, &query, "*/*");
    reply.map_err(|error| failed(&error))
}

fn write_table(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let column = |name, holds, rank| TableColumn {
        name,
        holds,
        rank,
        usual: 0,
    };
    let columns = vec![
        column("USERNAME", Holds::Names, 0),
        column("ID", Holds::Words, 1),
        column("ENDS", Holds::Words, 0),
        column("DAYS LEFT", Holds::Numbers, 0),
        column("CERTIFICATES", Holds::Numbers, 2),
    ];
    let mut table = Table::new(columns, terminal());
    for ending in &answer.results {
        let cells = vec![
            printable(&ending.username),
            ending.id.to_string(),
            printable(&ending.not_after),
            ending.seconds_left.div_euclid(86_400).to_string(),
            ending.certificates.to_string(),
        ];
        table.row(out, cells)?;
    }
    table.flush(out)?;
    let coverage = &answer.coverage;
    let whole = if coverage.complete {
        "all"
    } else {
        "those that are known"
    };
    let oldest = coverage.oldest_answer.as_deref().unwrap_or("never");
    writeln!(
        out,
        "\n{} of {} users, {whole}; the oldest answer of Atlas is of {}",
        answer.total_count,
        coverage.users,
        printable(oldest)
    )
}
