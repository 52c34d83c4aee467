//! What is in memory stays there: secrets are kept in it, and must reach no file and no debugger (G20).

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on this process leaves no core, neither in a file nor with a handler of the system's, and no
/// process of the same user may read its memory or attach to it.
pub(super) fn seal() -> io::Result<()> {
    // Alone it would not do: a handler behind `core_pattern` is called whatever the limit is.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(())
}
