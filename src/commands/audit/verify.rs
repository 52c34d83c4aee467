//! `audit verify`: verifies the hash chain of each directory, and says what it proves.

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::audit::database::CentralVerdict;
use crate::audit::verify::VerifyReport;
use crate::audit::{HeadVerifier, database, verify};

use crate::commands::{ExitStatus, complain};
use crate::system::Clock;

use super::central::{DatabaseArguments, Ended, block_on, failed};
use super::progress::Bar;

/// `audit verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    /// Audit directories, each with a chain of its own.
    #[arg(value_name = "DIR", required_unless_present = "database")]
    directories: Vec<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    /// The first record that has to be there: that of the oldest file, if older ones were archived. What
    /// the gateway removed itself is on record and needs no such word.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// A key of the signed heads: the Ed25519 key in PEM, public or private, or the HMAC secret. Given
    /// several times where keys followed one another.
    #[arg(long = "head-key", value_name = "FILE")]
    head_keys: Vec<PathBuf>,
}

impl VerifyCommand {
    pub(super) fn run(&self, out: &mut dyn Write) -> io::Result<ExitStatus> {
        let keys: Result<Vec<_>, _> = self
            .head_keys
            .iter()
            .map(|it| HeadVerifier::read(it))
            .collect();
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => {
                complain(&error);
                return Ok(ExitStatus::Failed);
            }
        };
        if self.database.is_wanted() {
            return match self.verify_central(&keys) {
                Ok(verdict) => self.write_central(&verdict, out),
                Err(Ended(ending)) => Ok(ending),
            };
        }
        let mut ending = ExitStatus::Well;
        for directory in &self.directories {
            let bar = Bar::new(Clock::system());
            if self.directories.len() > 1 {
                writeln!(out, "{}", directory.display())?;
            }
            let report = verify::verify_showing(directory, self.from, &keys, &|it| bar.show(it))?;
            bar.clear();
            if self.write(directory, &report, out)? == ExitStatus::Failed {
                ending = ExitStatus::Failed;
            }
        }
        Ok(ending)
    }

    fn verify_central(&self, keys: &[HeadVerifier]) -> Result<CentralVerdict, Ended> {
        let trail = self.database.trail(&self.directories)?;
        let verified = database::verify(&trail.database, &trail.clock, &trail.directories, keys);
        block_on(verified)?.map_err(|error| failed(&trail, &error))
    }

    fn write_central(
        &self,
        verdict: &CentralVerdict,
        out: &mut dyn Write,
    ) -> io::Result<ExitStatus> {
        let mut ending = ExitStatus::Well;
        for report in &verdict.chains {
            let chain = &report.chain;
            let records = counted(report.records, "record");
            write!(out, "{} (chain {}): ", chain.replica, chain.chain)?;
            if let Some(fault) = &report.fault {
                writeln!(out, "record {} {}", fault.seq, fault.kind)?;
                writeln!(out, "  good before it: {records}")?;
                ending = ExitStatus::Failed;
                continue;
            }
            writeln!(out, "{records} up to {}: as shipped", chain.seq)?;
            if report.dropped > 0 {
                let dropped = counted(report.dropped, "record");
                writeln!(out, "  {dropped} before them dropped by retention")?;
            }
            for directory in &report.directories {
                writeln!(out, "  {} holds the same", directory.display())?;
            }
            if !self.head_keys.is_empty() {
                let heads = counted(report.heads, "signed head");
                writeln!(out, "  in agreement with {heads}")?;
            }
        }
        if verdict.chains.is_empty() {
            writeln!(out, "no chain was shipped to the database yet")?;
        }
        if let Some(time) = &verdict.broken_checkpoint {
            writeln!(
                out,
                "the checkpoint of {time} does not follow the one before it, or is not signed with a key that was given"
            )?;
            ending = ExitStatus::Failed;
        } else if verdict.checkpoints > 0 {
            let checkpoints = counted(verdict.checkpoints, "checkpoint");
            writeln!(out, "{checkpoints}, each with the hash of the one before")?;
        }
        Ok(ending)
    }

    fn write(
        &self,
        directory: &Path,
        report: &VerifyReport,
        out: &mut dyn Write,
    ) -> io::Result<ExitStatus> {
        for file in &report.passed_over {
            writeln!(out, "passed over: {file}")?;
        }
        for copy in &report.copies {
            writeln!(out, "a copy of another file: {}", copy.display())?;
        }
        if let Some(fault) = &report.fault {
            writeln!(out, "record {} {}", fault.seq, fault.kind)?;
            if fault.line > 0 {
                writeln!(out, "  {} line {}", fault.file.display(), fault.line)?;
            }
            for key in &report.unknown_keys {
                writeln!(
                    out,
                    "  heads are signed with the key {key}: give its file with --head-key, too"
                )?;
            }
            let good = counted(report.records, "record");
            writeln!(out, "  good before it: {good}")?;
            return Ok(ExitStatus::Failed);
        }
        if report.records == 0 {
            writeln!(out, "no records in {}", directory.display())?;
            return Ok(if self.from > 1 || !directory.is_dir() {
                ExitStatus::Failed
            } else {
                ExitStatus::Well
            });
        }
        writeln!(
            out,
            "{} in {}, {} to {}: as written",
            counted(report.records, "record"),
            counted(report.files, "file"),
            report.first,
            report.last
        )?;
        if report.removed > 0 {
            writeln!(
                out,
                "  those up to {} were removed, as the trail says itself",
                report.removed
            )?;
        }
        writeln!(out, "  the last has the hash {}", report.hash)?;
        match (self.head_keys.is_empty(), report.heads) {
            (true, _) => writeln!(
                out,
                "  Not shown by this: whether records after the last one were cut off, or the whole chain \
                 was written anew. Compare the last hash with a copy kept elsewhere, or give --head-key."
            )?,
            (false, 0) => writeln!(out, "  No signed head was found: the end is not proven.")?,
            (false, heads) => writeln!(
                out,
                "  In agreement with {}. Not shown by this: whether records after the newest head, \
                 at most a minute old, were cut off.",
                counted(heads, "signed head")
            )?,
        }
        Ok(ExitStatus::Well)
    }
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_tells_one_from_many() {
        let report = |many: u64| VerifyReport {
            files: many,
            records: many,
            first: 1,
            last: many,
            hash: "ab".to_owned(),
            heads: many,
            ..VerifyReport::default()
        };
        let verdict = |report: &VerifyReport| {
            let verify = VerifyCommand {
                directories: vec![PathBuf::from("/var/audit")],
                database: DatabaseArguments::default(),
                from: 1,
                head_keys: vec![PathBuf::from("/etc/head.pem")],
            };
            let mut out = Vec::new();
            verify
                .write(&verify.directories[0], report, &mut out)
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        let one = verdict(&report(1));
        assert!(one.starts_with("1 record in 1 file, 1 to 1: as written\n"));
        assert!(one.contains("agreement with 1 signed head."), "{one}");
        let many = verdict(&report(2));
        assert!(many.starts_with("2 records in 2 files, 1 to 2: as written\n"));
        assert!(many.contains("agreement with 2 signed heads."), "{many}");
        let fault = verify::ChainFault {
            seq: 2,
            file: PathBuf::from("lookups.jsonl"),
            line: 2,
            kind: verify::FaultKind::Changed,
        };
        let faulty = verdict(&VerifyReport {
            fault: Some(fault),
            ..report(1)
        });
        assert!(faulty.ends_with("good before it: 1 record\n"), "{faulty}");
    }
}
