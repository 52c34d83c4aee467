//! Whether HTTP/2 is spoken as its standards say, case by case: those of the conformance suite `h2spec`,
//! strict ones included and under its numbers, and some of our own that it does not ask.
//!
//! Where `h2spec` takes a closed connection for an error, these cases want to be told which one.

mod beyond;
mod controls;
mod flow;
mod framing;
mod generic;
mod hpack;
mod messages;
mod representations;
mod streams;
mod words;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{NO_ERROR, PREFACE, PROTOCOL_ERROR, SETTINGS, Seen, Spammer, connect, settings};
use crate::authority::Authority;
use crate::world::World;
use words::Words;

/// One case: what is said, and what has to come of it.
struct Case {
    /// Section and number.
    id: &'static str,
    what: &'static str,
    /// Whether it begins with the preface and settings that both sides agree to.
    greets: bool,
    steps: Vec<Step>,
    end: End,
    /// Whether the connection ends with `PROTOCOL_ERROR` in place of what the standard says.
    is_unspecific: bool,
}

enum Step {
    Send(Vec<u8>),
    /// Waits until one more of our settings is agreed to.
    Agreed,
    /// Waits for a piece of data.
    Data,
    /// Waits until the other side has finished a stream.
    Ended(u32),
}

/// How a case ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// `GOAWAY` with one of these codes, and then nothing more.
    Connection(&'static [u32]),
    /// `RST_STREAM`, or `GOAWAY`, with one of these codes.
    Stream(&'static [u32]),
    /// A header block of a stream, and no error.
    Answered(u32),
    /// The answer to a ping, and no error.
    Pong(&'static [u8; 8]),
    /// That, or the end of the connection without an error.
    PongOrClosed(&'static [u8; 8]),
    /// Settings that are agreed to.
    Agreed,
    /// A piece of data of this length.
    Data(usize),
    /// The connection begins with settings.
    Begun,
    /// The connection ends.
    Closed,
}

fn case(id: &'static str, what: &'static str, sent: Vec<u8>, end: End) -> Case {
    dialogue(id, what, vec![Step::Send(sent)], end)
}

fn dialogue(id: &'static str, what: &'static str, steps: Vec<Step>, end: End) -> Case {
    Case {
        id,
        what,
        greets: true,
        steps,
        end,
        is_unspecific: false,
    }
}

impl Case {
    /// hyper's `h2` has no other code for it than `PROTOCOL_ERROR`, and that for the whole connection. The
    /// suite lets this pass, because the connection ends.
    fn unspecific(mut self) -> Self {
        self.is_unspecific = true;
        self
    }

    /// It begins with its own first bytes.
    fn without_greeting(mut self) -> Self {
        self.greets = false;
        self
    }

    /// Plays it, and says what was wrong.
    async fn play<S>(&self, mut caller: Spammer<S>) -> Option<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let end = if self.is_unspecific {
            End::Connection(&[PROTOCOL_ERROR])
        } else {
            self.end
        };
        let whole = async {
            if self.greets {
                caller.send(&[PREFACE, &settings(&[])].concat()).await;
                caller.until(|seen| seen.acks > 0).await;
            }
            for step in &self.steps {
                let (acks, pieces) = (caller.seen.acks, caller.seen.data.len());
                match step {
                    Step::Send(bytes) => caller.send(bytes).await,
                    Step::Agreed => drop(caller.until(|seen| seen.acks > acks).await),
                    Step::Data => drop(caller.until(|seen| seen.data.len() > pieces).await),
                    Step::Ended(stream) => {
                        caller.until(|seen| seen.ended.contains(stream)).await;
                    }
                }
            }
            caller.until(|seen| end.may_be_judged(seen)).await;
        };
        let is_late = tokio::time::timeout(GUARD, whole).await.is_err();
        let seen = &caller.seen;
        (is_late || !end.is_so(seen)).then(|| {
            let (id, what) = (self.id, self.what);
            format!("{id} {what}: not {end:?}, but {seen:?}")
        })
    }
}

impl End {
    /// Whether there is nothing to wait for any more.
    fn may_be_judged(self, seen: &Seen) -> bool {
        match self {
            Self::Connection(_) | Self::Closed => seen.closed,
            Self::Stream(_) => seen.is_error(),
            Self::Answered(stream) => seen.heads.contains_key(&stream) || seen.is_error(),
            Self::Pong(_) | Self::PongOrClosed(_) => !seen.pongs.is_empty() || seen.is_error(),
            Self::Agreed => seen.acks > 1 || seen.is_error(),
            Self::Data(_) => !seen.data.is_empty() || seen.is_error(),
            Self::Begun => seen.first.is_some(),
        }
    }

    fn is_so(self, seen: &Seen) -> bool {
        match self {
            Self::Connection(codes) => seen.goaway.is_some_and(|code| codes.contains(&code)),
            Self::Stream(codes) => {
                let mut said = seen.resets.values().chain(&seen.goaway);
                said.any(|code| codes.contains(code))
            }
            Self::Answered(stream) => seen.heads.contains_key(&stream) && !seen.is_error(),
            Self::Pong(said) => seen.pongs == [said] && !seen.is_error(),
            Self::PongOrClosed(said) => (seen.pongs == [said] || seen.closed) && !seen.is_error(),
            Self::Agreed => seen.acks > 1 && !seen.is_error(),
            Self::Data(length) => seen.data.last() == Some(&length) && !seen.is_error(),
            Self::Begun => seen.first == Some((SETTINGS, 0)),
            Self::Closed => true,
        }
    }
}

impl Seen {
    /// Whether anything was called an error.
    fn is_error(&self) -> bool {
        let mut codes = self.resets.values().chain(&self.goaway);
        codes.any(|code| *code != NO_ERROR)
    }
}

/// The cases of a section.
type Section = fn(&Words) -> Vec<Case>;

/// Those that the suite has.
const SUITE: [Section; 8] = [
    generic::cases,
    representations::cases,
    framing::cases,
    controls::cases,
    streams::cases,
    flow::cases,
    messages::cases,
    hpack::cases,
];

/// What is said in each case, behind the greeting.
pub(super) fn conversations() -> Vec<Vec<u8>> {
    let words = Words::new("http");
    let cases = SUITE.into_iter().flat_map(|section| section(&words));
    cases
        .map(|case| {
            let said = case.steps.into_iter().filter_map(|step| match step {
                Step::Send(bytes) => Some(bytes),
                Step::Agreed | Step::Data | Step::Ended(_) => None,
            });
            said.flatten().collect()
        })
        .collect()
}

async fn over_plain_text(section: Section) {
    let world = World::new().await;
    let mut broken = Vec::new();
    for case in section(&Words::new("http")) {
        let stream = connect(&world).await;
        broken.extend(case.play(Spammer::over(stream)).await);
    }
    assert!(broken.is_empty(), "X13:\n{}", broken.join("\n"));
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn what_every_endpoint_takes_is_taken() {
    over_plain_text(generic::cases).await;
}

#[tokio::test]
async fn every_representation_of_a_field_is_unpacked() {
    over_plain_text(representations::cases).await;
}

#[tokio::test]
async fn connections_begin_and_frames_are_read_as_the_standard_says() {
    over_plain_text(framing::cases).await;
}

#[tokio::test]
async fn settings_pings_and_farewells_are_answered_as_the_standard_says() {
    over_plain_text(controls::cases).await;
}

#[tokio::test]
async fn streams_open_and_close_as_the_standard_says() {
    over_plain_text(streams::cases).await;
}

#[tokio::test]
async fn windows_open_and_shut_as_the_standard_says() {
    over_plain_text(flow::cases).await;
}

#[tokio::test]
async fn messages_are_read_as_the_standard_says() {
    over_plain_text(messages::cases).await;
}

#[tokio::test]
async fn header_blocks_are_unpacked_as_the_standard_says() {
    over_plain_text(hpack::cases).await;
}

#[tokio::test]
async fn what_no_suite_asks_ends_as_the_standard_says() {
    over_plain_text(beyond::cases).await;
}

#[tokio::test]
async fn over_tls_every_case_ends_the_same() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    let words = Words::new("https");
    let mut broken = Vec::new();
    let mut count = 0;
    for section in SUITE {
        for case in section(&words) {
            let stream = authority.connect(&world, None, &["h2"]).await.unwrap();
            broken.extend(case.play(Spammer::over(stream)).await);
            count += 1;
        }
    }
    assert!(broken.is_empty(), "X13:\n{}", broken.join("\n"));
    // As many as the suite has.
    assert_eq!(count, 147);
}

/// Nothing takes that long; a case that waits for what never comes ends by it.
const GUARD: Duration = Duration::from_secs(10);
