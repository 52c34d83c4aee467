//! The process: arguments, runtime, exit codes.

fn main() {}
