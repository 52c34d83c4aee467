//! The process: arguments, runtime, exit codes.

use std::process::ExitCode;

use atlas_cert_gateway::commands::{Arguments, ExitStatus};
use clap::Parser;
use clap::error::ErrorKind;
use mimalloc::MiMalloc;

// Of a hit's instructions glibc's allocator took a tenth; this one takes a fiftieth.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no mistake; all else goes to standard
            // error. A terminal that is gone cannot be told either.
            let _ = error.print();
            let is_asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return if is_asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EX_USAGE)
            };
        }
    };
    match atlas_cert_gateway::commands::run(arguments) {
        ExitStatus::Well => ExitCode::SUCCESS,
        ExitStatus::Failed => ExitCode::FAILURE,
        ExitStatus::Ending => ExitCode::from(ENDING),
        ExitStatus::Misused => ExitCode::from(EX_USAGE),
        ExitStatus::Misconfigured => ExitCode::from(EX_CONFIG),
    }
}

/// Something expires.
const ENDING: u8 = 3;
/// Usage, as shells and clap have it.
const EX_USAGE: u8 = 2;
/// `sysexits.h`: something in the configuration is wrong; restarting will not help.
const EX_CONFIG: u8 = 78;
