//! `completions` and `man`: what packages hold beside the program.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, ExitStatus, complain};

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// An existing directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn complete(arguments: &CompletionsArguments) -> ExitStatus {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    end(io::stdout().write_all(&script), "completions")
}

pub(crate) fn write_manual(arguments: &ManArguments) -> ExitStatus {
    end(pages(&arguments.directory), "the manual")
}

/// A page for each command, and one for the configuration.
fn pages(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Arguments::command(), directory)?;
    fs::write(directory.join("gateway.toml.5"), settings_page())
}

/// The documented configuration as it stands, in roff's words for that.
fn settings_page() -> String {
    let mut page = SETTINGS_HEAD.to_owned();
    for line in SETTINGS.lines() {
        // A dot or an apostrophe in front would be a request, which `\\&` prevents.
        page += "\\&";
        page += &line.replace('\\', "\\e").replace('-', "\\-");
        page.push('\n');
    }
    page + ".fi\n"
}

fn end(written: io::Result<()>, what: &str) -> ExitStatus {
    match written {
        Ok(()) => ExitStatus::Well,
        Err(error) => {
            complain(&format_args!("{what} cannot be written: {error}"));
            ExitStatus::Failed
        }
    }
}

const SETTINGS: &str = include_str!("../../config/gateway.toml");
const SETTINGS_HEAD: &str = "\
.TH gateway.toml 5
.SH NAME
gateway.toml \\- configuration of atlas\\-cert\\-gateway
.SH DESCRIPTION
Every setting with its default, or an example of it in a comment.
.PP
.nf
";
