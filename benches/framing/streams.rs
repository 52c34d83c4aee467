//! What is sent: every case of the suite's table, every mutation of a plain request, everything that may frame
//! a body with every body, and two or three mutations together, drawn from a seed; behind each two plain
//! requests, the last of which says that it is the last.

use crate::cases::{Words, cases};
use crate::world::{PROJECT, certs, token};

/// The bytes of one connection.
pub(crate) struct Stream {
    /// Where they come from.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// A part of a request, and what stands there.
type Mutation = (&'static str, &'static str);

/// Names that Atlas knows, so many that streams which are under way together have different ones.
pub(crate) const USERS: usize = 1_200;

/// The name of a user.
pub(crate) fn user(number: usize) -> String {
    format!("n{}", number % USERS)
}

/// Every stream, and so many that are drawn.
pub(crate) fn streams(drawn: usize, seed: u64) -> Vec<Stream> {
    let mutations = mutations();
    let mut together: Vec<Vec<Mutation>> = mutations.iter().map(|one| vec![*one]).collect();
    let of = |part: &'static str| mutations.iter().filter(move |(known, _)| *known == part);
    for framing in of("framing") {
        together.extend(of("body").map(|body| vec![*framing, *body]));
    }
    let (mut dice, sum) = (Dice(seed), together.len() + drawn);
    while together.len() < sum {
        let picked: Vec<Mutation> = (0..2 + dice.below(2))
            .map(|_| mutations[dice.below(mutations.len())])
            .collect();
        if !clash(&picked) {
            together.push(picked);
        }
    }
    let mut streams = Vec::new();
    for case in cases() {
        let words = words_of(3 * streams.len());
        streams.push(stream(
            case.name.to_owned(),
            case.bytes(&words),
            streams.len(),
        ));
    }
    for picked in together {
        streams.push(mutated(&picked, streams.len()));
    }
    streams
}

/// Whether two of them want the same place.
fn clash(mutations: &[Mutation]) -> bool {
    let parts: Vec<&str> = mutations.iter().map(|(part, _)| *part).collect();
    let adds_up = |part: &str| matches!(part, "framing" | "header");
    (0..parts.len()).any(|at| !adds_up(parts[at]) && parts[..at].contains(&parts[at]))
}

fn mutated(mutations: &[Mutation], number: usize) -> Stream {
    let text = |part: &str, usual: &str| {
        let texts: Vec<&str> = mutations
            .iter()
            .filter(|(known, _)| *known == part)
            .map(|(_, text)| *text)
            .collect();
        if texts.is_empty() {
            usual.to_owned()
        } else {
            texts.concat()
        }
    };
    let request = [
        text("lead", ""),
        text("method", "GET"),
        text("gap", " "),
        text("target", "{path}"),
        text("space", " "),
        text("version", "HTTP/1.1"),
        text("line", "↵"),
        text("host", "{host}"),
        "{auth}".to_owned(),
        text("framing", ""),
        text("header", ""),
        text("end", "↵"),
        "{begin}".to_owned(),
        text("body", ""),
    ];
    let names: Vec<String> = mutations
        .iter()
        .map(|(part, text)| format!("{part} {text}"))
        .collect();
    stream(
        names.join(" & "),
        words_of(3 * number).bytes(&request.concat()),
        number,
    )
}

fn stream(name: String, mut bytes: Vec<u8>, number: usize) -> Stream {
    bytes.extend(words_of(3 * number + 1).bytes("{get}"));
    bytes.extend(words_of(3 * number + 2).bytes("{GET}Connection: close↵↵"));
    Stream { name, bytes }
}

fn words_of(number: usize) -> Words {
    Words {
        path: certs(PROJECT, &user(number)),
        token: token(),
        etag: "none".to_owned(),
    }
}

fn mutations() -> Vec<Mutation> {
    include_str!("mutations.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(" | ").unwrap())
        .collect()
}

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
