//! Servers of others that tests run, as Debian packs them. Where one is not installed, the tests that need it try
//! nothing, unless `CI` is set; `cargo test` names it in the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A program, or a module of one, that some tests need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// What is looked for.
    pub(crate) program: &'static str,
    /// The package of Debian that has it.
    pub(crate) package: &'static str,
    /// What is not tested without it.
    pub(crate) tests: &'static str,
}

pub(crate) const CHROMEDRIVER: Server = Server {
    program: "chromedriver",
    package: "chromium-driver",
    tests: "the status page in a browser",
};
pub(crate) const ENGINE: Server = Server {
    program: "redis-server",
    package: "redis-server",
    tests: "the fleet",
};
pub(crate) const HAPROXY: Server = Server {
    program: "haproxy",
    package: "haproxy",
    tests: "the gateway behind HAProxy",
};
pub(crate) const IMRELP: Server = Server {
    program: "imrelp",
    package: "rsyslog-relp",
    tests: "rsyslog as a receiver that acknowledges",
};
pub(crate) const NGINX: Server = Server {
    program: "nginx",
    package: "nginx-light",
    tests: "the gateway behind nginx",
};
pub(crate) const POSTGRES: Server = Server {
    program: "postgres",
    package: "postgresql",
    tests: "the central audit trail",
};
pub(crate) const RSYSLOGD: Server = Server {
    program: "rsyslogd",
    package: "rsyslog",
    tests: "rsyslog as a receiver of the audit trail",
};

pub(crate) const ALL: [Server; 7] = [
    CHROMEDRIVER,
    ENGINE,
    HAPROXY,
    NGINX,
    POSTGRES,
    RSYSLOGD,
    IMRELP,
];

/// The rules of accessibility, as npm's package `axe-core` has them: the file `axe.min.js`, where `AXE_CORE` names it.
pub(crate) fn axe_core() -> Option<PathBuf> {
    env::var_os("AXE_CORE").map(PathBuf::from)
}

impl Server {
    /// Whether there is one; a failure where there has to be.
    pub(crate) fn wanted(self) -> Option<PathBuf> {
        let found = self.find();
        assert!(
            found.is_some() || env::var_os("CI").is_none(),
            "{} is not here; Debian has it in the package {}",
            self.program,
            self.package
        );
        found
    }

    /// Where it is.
    pub(crate) fn find(self) -> Option<PathBuf> {
        if self.program == IMRELP.program {
            return find("rsyslogd").filter(|rsyslog| has_module(rsyslog, self.program));
        }
        if self.program == ENGINE.program {
            return find("valkey-server").or_else(|| find(self.program));
        }
        find(self.program)
    }
}

/// A program on the path, or where Debian keeps those that are not for everybody.
fn find(program: &str) -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let of_postgres = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let of_postgres = of_postgres.map(|version| version.unwrap().path().join("bin"));
    let others = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let places = env::split_paths(&on_path).chain(others).chain(of_postgres);
    let mut files = places.map(|place| place.join(program));
    files.find(|file| file.is_file())
}

/// Whether rsyslog can load it.
fn has_module(rsyslog: &Path, module: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Without an action it is no configuration, whatever the module.
    let text = format!("module(load=\"{module}\")\n*.* /dev/null\n");
    fs::write(file.path(), text).unwrap();
    let mut check = Command::new(rsyslog);
    let checked = check.arg("-N1").arg("-f").arg(file.path()).output();
    checked.unwrap().status.success()
}
