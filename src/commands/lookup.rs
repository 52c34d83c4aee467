//! `lookup`: a database user's certificates, for people.

use std::io;
use std::io::Write;

use clap::Args;
use serde::Deserialize;

use super::audit::{OutputFormat, Spreadsheet};
use super::client::ClientArguments;
use super::table::{Holds, Table, TableColumn, terminal};
use super::{ExitStatus, complain};
use crate::atlas::Timestamp;
use crate::http_client::HttpReply;
use crate::system::{Clock, printable};

/// What `lookup` is told.
#[derive(Debug, Args)]
pub(crate) struct LookupArguments {
    #[command(flatten)]
    client: ClientArguments,
    /// The database user.
    #[arg(long)]
    username: String,
    /// How the list is shown. Output is never coloured.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
}

#[derive(Deserialize)]
struct CertificateList {
    results: Vec<Certificate>,
}

#[derive(Deserialize)]
struct Certificate {
    #[serde(rename = "_id")]
    id: i64,
    #[serde(default)]
    subject: String,
    #[serde(rename = "createdAt", default)]
    created_at: String,
    #[serde(rename = "notAfter", default)]
    not_after: String,
}

pub(crate) fn run(arguments: &LookupArguments) -> ExitStatus {
    let group = &arguments.client.group;
    let path = [
        "api",
        "atlas",
        "v2",
        "groups",
        group,
        "databaseUsers",
        &arguments.username,
        "certs",
    ];
    let reply = match arguments.client.get(&path, &[], "application/json") {
        Ok(reply) => reply,
        Err(error) => return failed(&error),
    };
    match show(arguments.format, &reply, &mut io::stdout().lock()) {
        Ok(()) => ExitStatus::Well,
        // As that of other programs whose reader has left.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Well,
        Err(error) => failed(&error),
    }
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> ExitStatus {
    complain(error);
    ExitStatus::Failed
}

fn show(format: OutputFormat, reply: &HttpReply, out: &mut dyn Write) -> io::Result<()> {
    if format == OutputFormat::Json {
        out.write_all(&reply.body)?;
        return out.write_all(b"\n");
    }
    let list: CertificateList = serde_json::from_slice(&reply.body)?;
    let now = Clock::system().now().wall;
    let rows = list.results.iter().map(|certificate| {
        let end = Timestamp::parse(&certificate.not_after);
        let days = end.map(|end| end.seconds().saturating_sub(now.seconds()).div_euclid(DAY));
        [
            certificate.id.to_string(),
            certificate.subject.clone(),
            certificate.created_at.clone(),
            certificate.not_after.clone(),
            days.map_or_else(String::new, |days| days.to_string()),
        ]
    });
    if format == OutputFormat::Csv {
        let sheet = Spreadsheet::new();
        sheet.row(
            out,
            &NAMES.map(|name| name.to_lowercase().replace(' ', "_").into()),
        )?;
        for row in rows {
            sheet.row(out, &row.map(Into::into))?;
        }
        return Ok(());
    }
    let [id, subject, created, ends, days] = NAMES;
    let column = |name, holds, rank| TableColumn {
        name,
        holds,
        rank,
        usual: 0,
    };
    let columns = vec![
        column(id, Holds::Words, 0),
        column(subject, Holds::Names, 0),
        column(created, Holds::Words, 1),
        column(ends, Holds::Words, 0),
        column(days, Holds::Numbers, 0),
    ];
    let mut table = Table::new(columns, terminal());
    for row in rows {
        table.row(out, row.map(|cell| printable(&cell)).into())?;
    }
    table.flush(out)?;
    let from = reply
        .headers
        .get("cache-status")
        .and_then(|it| it.to_str().ok());
    writeln!(
        out,
        "\nFROM {}",
        printable(from.unwrap_or("a server that does not say"))
    )
}

const NAMES: [&str; 5] = ["ID", "SUBJECT", "CREATED", "ENDS", "DAYS LEFT"];
const DAY: i64 = 86_400;
