//! What is in the program's memory reaches no file, however it ends (G20).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::program::{Program, serve, world};

// The program is waited for by a thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_core_where_cores_are_allowed() {
    let (_atlas, files) = world().await;
    let serve = serve(files.path());
    let mut shell = Command::new("sh");
    // As many as the hard limit allows.
    shell.args(["-c", "ulimit -S -c $(ulimit -H -c) && exec \"$0\" \"$@\""]);
    shell.arg(serve.get_program()).args(serve.get_args());
    shell.current_dir(files.path());
    let mut program = Program::run(&mut shell);
    let process = format!("/proc/{}", program.child.id());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap();
    let core: Vec<&str> = core.split_whitespace().take(2).collect();
    assert_eq!(core, ["0", "0"]);
    // proc(5): what is not dumpable belongs to root, whichever user runs it.
    assert_eq!(fs::metadata(format!("{process}/environ")).unwrap().uid(), 0);
    program.signal("-QUIT");
    let status = program.child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(3), false));
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("core");
    let mut left = fs::read_dir(files.path()).unwrap();
    assert!(!left.any(|entry| is_core(entry.unwrap())));
}
