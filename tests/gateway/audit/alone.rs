//! Tests that change their whole process (limits, user, mounts), each in a process of its own.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Runs `body` in a process that `prepare` may change before it starts. `name` is the path of the test
/// that calls this, which is what runs in the new process.
pub(crate) fn alone(name: &str, prepare: impl FnOnce(&Command) -> Command, body: impl FnOnce()) {
    if env::var_os(MARK).is_some_and(|mark| mark == name) {
        return body();
    }
    let mut command = prepare(&Command::new(env::current_exe().unwrap()));
    let output = command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} ended with {}:\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// As it is.
pub(crate) fn unchanged(command: &Command) -> Command {
    Command::new(command.get_program())
}

/// As somebody whom permissions bind: not as root.
pub(crate) fn unprivileged(command: &Command) -> Command {
    let mut command = unchanged(command);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// On a file system of one mebibyte at [`small_disk`], which nobody else sees. Needs user namespaces, which
/// every Linux has; where they are switched off this fails rather than leave the full disk untested.
pub(crate) fn with_small_disk(command: &Command) -> Command {
    let mut shell = Command::new("unshare");
    shell
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1m,mode=777 none . && cd \"$PWD\" && exec \"$0\" \"$@\"")
        .arg(command.get_program())
        .current_dir(small_disk());
    shell
}

/// Where [`with_small_disk`] puts its file system, and from where it runs its command.
pub(crate) fn small_disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

const MARK: &str = "AUDIT_TEST_ALONE";
const NOBODY: u32 = 65_534;
