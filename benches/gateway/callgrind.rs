//! User instructions per answer, counted by valgrind: the one figure that neighbours do not change.
//!
//! The server runs under callgrind, is warmed, has its counters set to zero, answers, and is made to write
//! them down. So neither start-up nor the first answers count.
//!
//! Valgrind knows no SHA instructions, so that a block of SHA-256, which the processor does in some hundred
//! of them, takes two thousand. The hash of an audit record alone is more than everything else together
//! then. So what SHA-256 took is counted apart.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::Effort;
use crate::cases::{Case, Once};
use crate::counts::{costs, of_sha256, total};
use crate::load::{Lines, Load, Until};
use crate::process::{Cores, Server};
use crate::profile::Profile;
use crate::rounds::LINES;

/// How many answers are counted.
pub(crate) struct Plan {
    warm: usize,
    counted: usize,
    keep: Option<&'static str>,
}

impl Plan {
    /// For requests that memory answers.
    pub(crate) const HITS: Self = Self {
        warm: 1_500,
        counted: 3_000,
        keep: None,
    };

    pub(crate) fn of(case: &Case, effort: &Effort) -> Self {
        let (warm, counted) = match case.once {
            Once::RateLimitedLog => (Self::HITS.warm, Self::HITS.counted),
            Once::Token => (100, 300),
            Once::User => (200, 500),
            Once::TwentiethUser => (1_000, 2_000),
        };
        Self {
            warm,
            counted,
            keep: effort.profile.then_some(case.name),
        }
    }

    /// All answers that will be asked for.
    pub(crate) fn answers(&self) -> usize {
        self.warm + self.counted
    }
}

/// Instructions per answer.
#[derive(Clone, Copy)]
pub(crate) struct Instructions {
    /// Without those of SHA-256.
    pub(crate) own: u64,
    /// Those of SHA-256, done without the processor's help.
    pub(crate) sha256: u64,
    /// Whose they are.
    pub(crate) profile: Profile,
}

/// Instructions per answer of the server that `command` starts; `None` without valgrind.
pub(crate) async fn per_answer(
    command: &Command,
    load: &Arc<Load>,
    plan: &Plan,
) -> Option<Instructions> {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut under = Command::new("valgrind");
    under
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(command.get_program())
        .args(command.get_args());
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .ok()?;
    let server = Server::start(&under, Cores::One);
    let mut lines = Lines::open(server.address, load, LINES).await;
    lines.drive(Until::Answered(plan.warm)).await;
    control("--zero", &server)?;
    let slice = lines.drive(Until::Answered(plan.counted)).await;
    control("--dump", &server)?;
    drop(server);
    let dump = dump(directory.path())?;
    let total = total(&dump)?;
    if let Some(case) = plan.keep {
        let which = Path::new(command.get_program()).file_name()?.to_str()?;
        let kept = std::env::temp_dir().join(format!("callgrind.{case}.{which}"));
        fs::write(&kept, &dump).ok()?;
        println!("({} answers in {})", slice.answers, kept.display());
    }
    let answers = u64::try_from(slice.answers).ok()?;
    let costs = costs(&dump);
    let sha256 = of_sha256(&costs);
    let profile = Profile::of(&costs, total, answers);
    Some(Instructions {
        own: (total - sha256) / answers,
        sha256: sha256 / answers,
        profile,
    })
}

fn control(what: &str, server: &Server) -> Option<()> {
    let done = Command::new("callgrind_control")
        .arg(what)
        .arg(server.pid().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.ok()?.success().then_some(())
}

/// The file of the one dump that was asked for.
fn dump(directory: &Path) -> Option<String> {
    let files = fs::read_dir(directory).ok()?;
    let dumps = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    dumps.max_by_key(|text| total(text))
}
