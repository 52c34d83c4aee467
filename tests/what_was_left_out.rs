//! The last of `cargo test`: a line for each server that is not installed, so that tests that tried nothing are not
//! taken for tests that passed.

#![expect(clippy::print_stdout, reason = "this is all that it does")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it has to be"
)]

#[path = "harness/servers.rs"]
#[expect(dead_code, reason = "the tests that need a server ask for it there")]
mod servers;

fn main() {
    // Who wants to know which tests there are: none.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    for server in servers::ALL {
        if server.find().is_none() {
            println!(
                "not tested: {}, because {} is not installed; Debian has it in the package {}",
                server.tests, server.program, server.package
            );
        }
    }
    if servers::axe_core().is_none() {
        println!(
            "not tested: whether the status page is accessible, because AXE_CORE names no axe.min.js; npm has it in the \
             package axe-core"
        );
    }
}
