//! Where user instructions go: what each line took goes in, a table of the program's parts comes out.
//!
//! A line counts where it was written, also where it was inlined elsewhere. The standard library's own
//! lines say nothing (an iterator's step belongs to the code that goes through it), and callgrind does not keep
//! who inlined them. So they count for the line before them in the machine code of the same function that
//! is not the standard library's. Its functions that were not inlined, and libc's, stand apart. Held
//! against the inlined frames of the debug information, which take tools of their own to read, no row of
//! a hit was off by more than a fiftieth of the whole.

use crate::counts::Cost;

/// Instructions by part.
#[derive(Clone, Copy)]
pub(crate) struct Profile {
    answers: u64,
    /// Of all answers together.
    of: [u64; PARTS.len()],
}

impl Profile {
    /// What `answers` took that took `total`: each instruction counts for one part.
    pub(crate) fn of(costs: &[Cost<'_>], total: u64, answers: u64) -> Self {
        let mut of = [0; PARTS.len()];
        for function in costs.chunk_by(|one, next| one.function_number == next.function_number) {
            let named = |cost: &Cost<'_>| (!is_standard(cost)).then(|| part(&place(cost)));
            let first = function.iter().find_map(named);
            let mut last = first.unwrap_or_else(|| part(STANDARD));
            for cost in function {
                last = named(cost).unwrap_or(last);
                of[last] += cost.instructions;
            }
        }
        assert_eq!(
            of.iter().sum::<u64>(),
            total,
            "every line was read, and none twice"
        );
        Self { answers, of }
    }
}

/// Prints what an answer takes of each part, the gateway's beside bare hyper's.
pub(crate) fn print(gateway: &Profile, bare: &Profile) {
    let row =
        |name: &str, gateway: u64, bare: u64| println!("    {name:<48} {gateway:>8} {bare:>8}");
    println!(
        "    {:<48} {:>8} {:>8}",
        "instructions of one answer", "gateway", "hyper"
    );
    for (part, (name, _)) in PARTS.iter().enumerate() {
        let of = |side: &Profile| side.of[part] / side.answers;
        if of(gateway) + of(bare) > 0 {
            row(name, of(gateway), of(bare));
        }
    }
    let all = |side: &Profile| side.of.iter().sum::<u64>() / side.answers;
    row("all", all(gateway), all(bare));
}

fn is_standard(cost: &Cost<'_>) -> bool {
    STANDARD_SOURCES
        .iter()
        .any(|sources| cost.file.contains(sources))
}

/// The row of a place: the first that names how it begins.
fn part(place: &str) -> usize {
    let names = |prefixes: &[&str]| prefixes.iter().any(|prefix| place.starts_with(prefix));
    let part = PARTS.iter().position(|(_, prefixes)| names(prefixes));
    part.unwrap_or(PARTS.len() - 1)
}

/// Where a line was written: a file of ours, of a crate with its version, or of a library of the system.
fn place(cost: &Cost<'_>) -> String {
    if cost.is_of_sha256() {
        return SHA_256.to_owned();
    }
    if cost.object.contains("/libc.so") || cost.object.contains("/libc-") {
        return format!("{LIBC}{}", cost.file);
    }
    if let Some(file) = cost.file.strip_prefix(OUR_SOURCES) {
        return format!("our {file}");
    }
    let of_crate = cost.file.split_once("/registry/src/");
    let of_crate = of_crate.and_then(|(_, rest)| rest.split_once('/'));
    of_crate.map_or(cost.file, |(_, file)| file).to_owned()
}

const OUR_SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
const SHA_256: &str = "sha256";
const LIBC: &str = "libc:";
const STANDARD: &str = "standard library";
/// Where it lies, and the crates that it consists of.
const STANDARD_SOURCES: [&str; 3] = ["/rustc/", "/rustlib/src/", "/rust/deps/"];

/// A row's name, and how the places begin that belong to it.
type Part = (&'static str, &'static [&'static str]);

/// What the program consists of.
const PARTS: [Part; 27] = [
    ("server: guard of the wire's form", &["our server/head"]),
    (
        "server: reading the request",
        &[
            "our server/request",
            "our server/query",
            "our server/fields",
            "our server/hosts",
            "our server/negotiation",
        ],
    ),
    (
        "server: writing the answer",
        &["our server/response", "our server/body"],
    ),
    ("server: connections, timers, the service", &["our server"]),
    ("gateway: the job, in order", &["our gateway"]),
    ("audit", &["our audit"]),
    ("cache", &["our cache"]),
    ("policy", &["our policy"]),
    ("identity", &["our identity"]),
    ("upstream", &["our upstream"]),
    ("telemetry", &["our telemetry"]),
    ("clock", &["our clock"]),
    ("atlas: ids, lists, instants", &["our atlas"]),
    ("hyper", &["hyper-1", "hyper-util-", "h2-"]),
    (
        "http, httparse: heads and their fields",
        &["http-", "httparse-"],
    ),
    (
        "tokio: tasks, sockets, timers",
        &["tokio-", "mio-", "futures-", "parking_lot"],
    ),
    ("bytes, memchr", &["bytes-", "memchr-"]),
    (
        "moka and other stores",
        &["moka-", "tagptr-", "crossbeam-", "ahash-", "arc-swap-"],
    ),
    (
        "reqwest, url, tower",
        &[
            "reqwest-",
            "url-",
            "idna-",
            "percent-encoding-",
            "tower-",
            "hyper-rustls-",
        ],
    ),
    ("serde_json", &["serde", "itoa-"]),
    (
        "allocator",
        &["mimalloc-", "libmimalloc-sys-", "libc:./malloc"],
    ),
    ("libc: copying and comparing memory", &["libc:./string"]),
    ("libc: system calls, the time", &[LIBC]),
    ("standard library, where not inlined", &[STANDARD]),
    (
        "aws-lc, without the blocks of SHA-256",
        &["aws-lc", "/aws-lc/"],
    ),
    ("SHA-256, without the processor's help", &[SHA_256]),
    ("others", &[]),
];
