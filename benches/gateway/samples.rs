//! Where a processor's time goes, the kernel's included: samples of `perf` go in, a table comes out.
//!
//! Each sample is a stack, its innermost function first. What the kernel does counts for the system call
//! that asked for it; over loopback, to send is also to carry the packets to the other end.

use std::process::Command;

use crate::process::Server;

/// What part of a server's time each kind of work takes.
pub(crate) struct Shares([f64; KINDS.len()]);

impl Shares {
    /// What a server is busy with while `work` is done; `None` where `perf` may not look.
    pub(crate) async fn during(server: &Server, work: impl Future<Output = ()>) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let file = directory.path().join("samples");
        let file = file.to_str()?;
        let record = ["record", "-e", "cpu-clock", "-F", "4999", "-g", "-o", file];
        server.under_perf(&record, work).await.1?;
        let script = Command::new("perf")
            .args(["script", "-F", "ip,sym", "-i", file])
            .output();
        Self::of(&String::from_utf8_lossy(&script.ok()?.stdout))
    }

    /// Of what `perf script -F ip,sym` prints; `None` if `perf` was not allowed to see the kernel.
    fn of(script: &str) -> Option<Self> {
        let mut samples = [0_u32; KINDS.len()];
        for stack in script.split("\n\n") {
            if let Some(kind) = kind(stack.trim()) {
                samples[kind] += 1;
            }
        }
        let all = f64::from(samples.iter().sum::<u32>());
        // A thread that answers also sends, which is the first kind.
        (samples[0] > 0).then(|| Self(samples.map(|samples| f64::from(samples) / all)))
    }
}

/// Prints what an answer takes of each kind, the gateway's beside bare hyper's; with each stands what an
/// answer takes in all, in µs.
pub(crate) fn print(gateway: (&Shares, f64), bare: (&Shares, f64)) {
    let row = |name: &str, gateway: f64, bare: f64| {
        println!("    {name:<48} {gateway:>8.2} {bare:>8.2}");
    };
    println!(
        "    {:<48} {:>8} {:>8}",
        "µs of one answer", "gateway", "hyper"
    );
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        let of = |(shares, all): (&Shares, f64)| shares.0[kind] * all;
        if of(gateway) + of(bare) >= 0.01 {
            row(name, of(gateway), of(bare));
        }
    }
    row("all", gateway.1, bare.1);
}

/// The row of a sample; `None` if it is empty.
fn kind(stack: &str) -> Option<usize> {
    let (address, innermost) = stack.lines().next()?.trim().split_once(' ')?;
    // The upper half of the addresses is the kernel's.
    if address.len() == 16 && address.starts_with("ffff") {
        let named = |names: &[&str]| names.iter().any(|name| stack.contains(name));
        return KINDS.iter().position(|(_, names)| named(names));
    }
    // The kernel cannot be interrupted at its listener: those samples fall on the first instruction behind it.
    let calls = CALLS.iter().any(|call| innermost.contains(call));
    Some(if calls && !innermost.contains("::") {
        AT_THE_DOOR
    } else if innermost.contains("sha256_block") {
        AT_THE_DOOR + 1
    } else {
        AT_THE_DOOR + 2
    })
}

/// A row's name, and the functions of the kernel that it stands for.
type Kind = (&'static str, &'static [&'static str]);

const KINDS: [Kind; 8] = [
    ("kernel: sending", &["__sys_send", "sock_write_iter"]),
    ("kernel: receiving", &["__sys_recv", "sock_read_iter"]),
    ("kernel: waiting and waking", &["epoll", "eventfd", "futex"]),
    (
        "kernel: writing files",
        &["ksys_write", "ksys_pwrite", "fsync", "datasync"],
    ),
    ("kernel: memory", &["page_fault", "_sys_m"]),
    ("kernel: entering it, and the rest", &[""]),
    ("SHA-256", &[]),
    ("user mode", &[]),
];
const AT_THE_DOOR: usize = 5;
/// The functions of libc in which a program stands while it is in the kernel.
const CALLS: [&str; 4] = ["send", "recv", "write", "epoll_wait"];
