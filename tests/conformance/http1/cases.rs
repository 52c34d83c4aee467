//! The cases of `tests/vectors/http11probe.txt`, whose head says how it is written.

use std::str::Chars;

/// One row.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) answers: Vec<Answer>,
    pub(crate) verdict: Verdict,
    sent: &'static str,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status.
    Status(u16),
    /// The last one.
    Last(u16),
    /// Nothing, until time has passed.
    InTime,
    /// The end of the connection.
    Gone,
}

/// What the suite says of these answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// Allowed, and looked at once: the row says why it stays.
    Warn,
    /// Not what the suite expects of other servers: the row says why it is so here.
    Ours,
}

/// What stands for the words in braces.
pub(crate) struct Words {
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) etag: String,
}

/// Every row.
pub(crate) fn cases() -> Vec<Case> {
    TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(case)
        .collect()
}

impl Case {
    /// The bytes that are sent.
    pub(crate) fn bytes(&self, words: &Words) -> Vec<u8> {
        words.bytes(self.sent)
    }
}

fn case(line: &'static str) -> Case {
    let columns: Vec<&str> = line.split(" | ").collect();
    let [name, section, answers, verdict, sent, ref why @ ..] = columns[..] else {
        panic!("too few columns: {line}");
    };
    assert!(section == "-" || section.contains(' '), "{name}: {section}");
    let verdict = match verdict {
        "pass" => Verdict::Pass,
        "warn" => Verdict::Warn,
        "ours" => Verdict::Ours,
        other => panic!("{name}: {other}"),
    };
    let reasons = usize::from(verdict != Verdict::Pass);
    assert_eq!(why.len(), reasons, "{name}: a reason for all but `pass`");
    Case {
        name,
        answers: answers.split(' ').map(answer).collect(),
        verdict,
        sent,
    }
}

fn answer(word: &str) -> Answer {
    match word {
        "..." => Answer::InTime,
        "gone" => Answer::Gone,
        _ => match word.strip_suffix('!') {
            Some(status) => Answer::Last(status.parse().unwrap()),
            None => Answer::Status(word.parse().unwrap()),
        },
    }
}

/// A text's bytes, and between which of them it says that they are to be counted.
#[derive(Default)]
struct Expanded {
    bytes: Vec<u8>,
    begin: Option<usize>,
    end: Option<usize>,
}

impl Words {
    /// The bytes of a text in the notation of the table.
    pub(crate) fn bytes(&self, text: &str) -> Vec<u8> {
        self.expand(text).bytes
    }

    fn expand(&self, text: &str) -> Expanded {
        let mut expanded = Expanded::default();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '↵' => expanded.bytes.extend(b"\r\n"),
                '\\' => expanded.bytes.push(escaped(&mut rest)),
                '{' => {
                    let (word, behind) = rest.as_str().split_once('}').unwrap();
                    rest = behind.chars();
                    match word {
                        "begin" => expanded.begin = Some(expanded.bytes.len()),
                        "end" => expanded.end = Some(expanded.bytes.len()),
                        "size" | "hex" => {
                            let following = self.expand(behind);
                            let number = following.number(word);
                            expanded.bytes.extend(number.into_bytes());
                            let before = expanded.bytes.len();
                            expanded.bytes.extend(following.bytes);
                            expanded.begin = following.begin.map(|at| before + at);
                            expanded.end = following.end.map(|at| before + at);
                            return expanded;
                        }
                        _ => expanded.bytes.extend(self.word(word)),
                    }
                }
                _ => expanded.bytes.extend(letter.to_string().into_bytes()),
            }
        }
        expanded
    }

    fn word(&self, word: &str) -> Vec<u8> {
        let Self { path, token, etag } = self;
        let host = "Host: gateway.test\r\n";
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let text = match word {
            "path" => path.clone(),
            "host" => host.to_owned(),
            "auth" => authorization,
            "etag" => etag.clone(),
            "get" => format!("GET {path} HTTP/1.1\r\n{host}{authorization}\r\n"),
            _ => match word.split_once('*') {
                Some((times, what)) => {
                    return self.bytes(what).repeat(times.parse().unwrap());
                }
                None => format!("{word} {path} HTTP/1.1\r\n{host}{authorization}"),
            },
        };
        text.into_bytes()
    }
}

impl Expanded {
    /// The number of bytes that are to be counted: behind the line, or the head, that the number stands in.
    fn number(&self, word: &str) -> String {
        let line: &[u8] = if word == "hex" { b"\r\n" } else { b"\r\n\r\n" };
        let found = || self.bytes.windows(line.len()).position(|end| end == line);
        let begin = self.begin.unwrap_or_else(|| found().unwrap() + line.len());
        let size = self.end.unwrap_or(self.bytes.len()) - begin;
        if word == "hex" {
            format!("{size:x}")
        } else {
            size.to_string()
        }
    }
}

/// The byte whose name stands behind a backslash.
fn escaped(text: &mut Chars<'_>) -> u8 {
    match text.next() {
        Some('r') => b'\r',
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('x') => {
            let digits: String = text.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).unwrap()
        }
        other => panic!("\\ and {other:?}"),
    }
}

const TABLE: &str = include_str!("../../vectors/http11probe.txt");
