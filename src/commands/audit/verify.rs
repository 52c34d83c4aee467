//! `audit verify`: a directory goes in, a verdict comes out.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::audit::HeadVerifier;
use crate::audit::verify;
use crate::audit::verify::Report;

use crate::commands::Ending;
use crate::commands::complain;

/// `audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The audit directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The first record that has to be there: that of the oldest file, if older ones were archived.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// The key of the signed heads: the Ed25519 key in PEM, public or private, or the HMAC secret.
    #[arg(long, value_name = "FILE")]
    head_key: Option<PathBuf>,
}

impl Verify {
    /// Says what is to be said of the trail, and how the command ends.
    pub(super) fn run(&self, out: &mut dyn Write) -> io::Result<Ending> {
        let key = match self.head_key.as_deref().map(HeadVerifier::read).transpose() {
            Ok(key) => key,
            Err(error) => {
                complain(&error);
                return Ok(Ending::Failed);
            }
        };
        let report = verify::verify(&self.directory, self.from, key.as_ref())?;
        self.write(&report, out)
    }

    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<Ending> {
        if let Some(fault) = &report.fault {
            writeln!(out, "record {} {}", fault.seq, fault.kind)?;
            writeln!(out, "  {} line {}", fault.file.display(), fault.line)?;
            let good = counted(report.records, "record");
            writeln!(out, "  good before it: {good}")?;
            return Ok(Ending::Failed);
        }
        if report.records == 0 {
            writeln!(out, "no records in {}", self.directory.display())?;
            return Ok(if self.from > 1 || !self.directory.is_dir() {
                Ending::Failed
            } else {
                Ending::Well
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
        writeln!(out, "  the last has the hash {}", report.hash)?;
        match (&self.head_key, report.heads) {
            (None, _) => writeln!(
                out,
                "  Not shown by this: whether records after the last one were cut off, or the whole chain \
                 was written anew. Compare the last hash with a copy kept elsewhere, or give --head-key."
            )?,
            (Some(_), 0) => writeln!(out, "  No signed head was found: the end is not proven.")?,
            (Some(_), heads) => writeln!(
                out,
                "  In agreement with {}. Not shown by this: whether records after the newest head, \
                 at most a minute old, were cut off.",
                counted(heads, "signed head")
            )?,
        }
        Ok(Ending::Well)
    }
}

/// `1 file`, `2 files`.
fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_tells_one_from_many() {
        let report = |many: u64| Report {
            files: many,
            records: many,
            first: 1,
            last: many,
            hash: "ab".to_owned(),
            heads: many,
            fault: None,
        };
        let verdict = |report: &Report| {
            let verify = Verify {
                directory: PathBuf::from("/var/audit"),
                from: 1,
                head_key: Some(PathBuf::from("/etc/head.pem")),
            };
            let mut out = Vec::new();
            verify.write(report, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let one = verdict(&report(1));
        assert!(one.starts_with("1 record in 1 file, 1 to 1: as written\n"));
        assert!(one.contains("agreement with 1 signed head."), "{one}");
        let many = verdict(&report(2));
        assert!(many.starts_with("2 records in 2 files, 1 to 2: as written\n"));
        assert!(many.contains("agreement with 2 signed heads."), "{many}");
        let fault = verify::Fault {
            seq: 2,
            file: PathBuf::from("lookups.jsonl"),
            line: 2,
            kind: verify::FaultKind::Changed,
        };
        let faulty = verdict(&Report {
            fault: Some(fault),
            ..report(1)
        });
        assert!(faulty.ends_with("good before it: 1 record\n"), "{faulty}");
    }
}
