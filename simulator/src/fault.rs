//! What can go wrong with one answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::errors;
use crate::gate::Gate;
use crate::world::World;

/// One fault. Faults of several rules add up: all delays and gates first, then the answer (the
/// first one that replaces it wins), then all changes in order, then the first fault of the wire.
#[derive(Clone, Debug)]
pub struct Fault(pub(crate) Effect);

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order, with FIN.
    Fin,
    /// At once, with RST.
    Reset,
    /// Not at all: nothing more is sent, and the connection stays open.
    Silence,
}

/// Before the answer.
impl Fault {
    /// Holds the answer back, in real time.
    pub fn delay(by: Duration) -> Self {
        Self(Effect::Delay(by))
    }

    /// Holds the answer back until the gate lets it go.
    pub fn hold(gate: &Gate) -> Self {
        Self(Effect::Hold(gate.clone()))
    }

    /// Never answers. The request has arrived, and the connection stays open.
    pub fn silence() -> Self {
        Self::wire(Wire::Silence)
    }
}

/// Instead of the answer.
impl Fault {
    /// Sends this answer, and does nothing that Atlas would do.
    pub fn answer(answer: Answer) -> Self {
        Self(Effect::Answer(Box::new(answer)))
    }

    /// An error in Atlas's form.
    ///
    /// # Panics
    ///
    /// Panics if the status is not one.
    pub fn api_error(status: u16, code: &str, detail: &str) -> Self {
        Self::answer(errors::api_error(status_code(status), code, detail, &[]))
    }

    /// An error of the token endpoint in OAuth's form.
    ///
    /// # Panics
    ///
    /// Panics if the status is not one.
    pub fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        Self::answer(errors::oauth_error(status_code(status), error, description))
    }

    /// 500 `UNEXPECTED_ERROR`.
    pub fn unexpected_error() -> Self {
        Self::api_error(500, "UNEXPECTED_ERROR", "Unexpected error.")
    }

    /// 429 `RATE_LIMITED_TOKEN_BUCKET` without a `Retry-After` header: add one with
    /// [`Answer::header`], or rely on `parameters[1]`, which says `seconds`.
    pub fn rate_limited(seconds: u64) -> Self {
        let detail = format!("Rate limit exceeded. Please retry after {seconds} seconds.");
        let parameters = [
            json!("simulated"),
            json!(seconds),
            json!(1200),
            json!(500),
            json!(60),
        ];
        let code = "RATE_LIMITED_TOKEN_BUCKET";
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::answer(errors::api_error(status, code, &detail, &parameters))
    }

    /// An HTML page, as a proxy in front of Atlas sends it.
    ///
    /// # Panics
    ///
    /// Panics if the status is not one.
    pub fn html(status: u16) -> Self {
        let page = "<html><head><title>MongoDB Cloud Manager Unavailable</title></head>\
                    <body><h1>We'll be right back.</h1></body></html>";
        let answer = Answer::new(status_code(status), page);
        Self::answer(answer.header(CONTENT_TYPE.as_str(), "text/html;charset=utf-8"))
    }

    /// A redirect.
    ///
    /// # Panics
    ///
    /// Panics if the status or the location cannot stand in a response.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::answer(Answer::new(status_code(status), "").header(LOCATION.as_str(), location))
    }
}

/// Changes to the true answer.
impl Fault {
    /// Changes whatever was going to be answered.
    pub fn change(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self(Effect::Change(Arc::new(change)))
    }

    /// Replaces the status and keeps the rest.
    ///
    /// # Panics
    ///
    /// Panics if the status is not one.
    pub fn status(status: u16) -> Self {
        let status = status_code(status);
        Self::change(move |answer| answer.status = status)
    }

    /// Replaces the body by what `change` makes of it.
    pub fn body(change: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self::change(move |answer| answer.body = change(answer.body.clone()))
    }

    /// Cuts the body at this byte, and declares the shorter length, so that only the JSON is torn.
    pub fn truncate(at: usize) -> Self {
        Self::body(move |body| body.slice(..at.min(body.len())))
    }

    /// Changes the document in the body. A body that is not JSON stays as it is.
    pub fn json(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::body(move |body| match serde_json::from_slice(&body) {
            Ok(mut document) => {
                change(&mut document);
                document.to_string().into()
            }
            Err(_) => body,
        })
    }

    /// Sets a header, `content-type` and `content-encoding` too.
    ///
    /// # Panics
    ///
    /// Panics if HTTP does not allow the name or the value; [`Fault::raw`] sends such headers too.
    pub fn header(name: &str, value: &str) -> Self {
        let example = Answer::new(StatusCode::OK, "").header(name, value);
        Self::change(move |answer| answer.headers.extend(example.headers.clone()))
    }

    /// Adds a header beside those of the same name.
    ///
    /// # Panics
    ///
    /// Panics if HTTP does not allow the name or the value.
    pub fn add_header(name: &str, value: &str) -> Self {
        let example = Answer::new(StatusCode::OK, "").header(name, value);
        Self::change(move |answer| {
            for (name, value) in &example.headers {
                answer.headers.append(name, value.clone());
            }
        })
    }

    /// Leaves a header out.
    pub fn without_header(name: &'static str) -> Self {
        let name = HeaderName::from_static(name);
        Self::change(move |answer| {
            answer.headers.remove(&name);
        })
    }

    /// Changes the world once the answer stands and before its first byte leaves: what the client
    /// asks next, it asks of the changed world.
    pub fn then(change: impl Fn(&mut World) + Send + Sync + 'static) -> Self {
        Self(Effect::Then(Arc::new(change)))
    }
}

/// Faults of the wire.
impl Fault {
    /// Ends the connection without a byte of the answer.
    pub fn cut_before_head(ending: Ending) -> Self {
        Self::cut(Cut::BeforeHead, ending)
    }

    /// Ends the connection after the head, which declares the whole body.
    pub fn cut_after_head(ending: Ending) -> Self {
        Self::cut(Cut::AfterBody(0), ending)
    }

    /// Ends the connection after so many bytes of the body, whose whole length is declared.
    pub fn cut_after_body(bytes: usize, ending: Ending) -> Self {
        Self::cut(Cut::AfterBody(bytes), ending)
    }

    /// Sends the body in pieces of `size` bytes with a pause before each, in real time.
    pub fn drip(size: usize, pause: Duration) -> Self {
        Self::wire(Wire::Drip {
            size: size.max(1),
            pause,
        })
    }

    /// Sends the body, and then `filler` again and again, without an end.
    pub fn endless(filler: impl Into<Bytes>) -> Self {
        Self::wire(Wire::Endless(filler.into()))
    }

    /// Declares this length and sends the body as it is; then the connection is ended. HTTP/1 only.
    pub fn declared_length(length: u64) -> Self {
        Self::change(move |answer| {
            answer.headers.insert(CONTENT_LENGTH, length.into());
        })
        .on_the_wire()
    }

    /// Sends these bytes before the answer, such as a flood of `103 Early Hints`. HTTP/1 only.
    pub fn after(before: impl Into<Bytes>) -> Self {
        let before = before.into();
        Self::wire(Wire::Send {
            before,
            cut: Cut::Never,
            ending: Ending::Fin,
        })
    }

    /// `count` informational responses before the answer. HTTP/1 only.
    pub fn informational(status: u16, count: usize) -> Self {
        Self::after(format!("HTTP/1.1 {status} Informational\r\n\r\n").repeat(count))
    }

    /// Sends exactly these bytes instead of a response, then FIN. HTTP/1 only.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        let before = bytes.into();
        Self::wire(Wire::Send {
            before,
            cut: Cut::BeforeHead,
            ending: Ending::Fin,
        })
    }

    /// Resets the stream with this HTTP/2 error code; `7` is `REFUSED_STREAM`. On HTTP/1 the
    /// connection is ended.
    pub fn reset_stream(code: u32) -> Self {
        Self::wire(Wire::ResetStream(code))
    }

    /// Answers, and tells the client that the connection ends: GOAWAY, or `Connection: close`.
    pub fn go_away() -> Self {
        Self::wire(Wire::GoAway)
    }

    fn cut(cut: Cut, ending: Ending) -> Self {
        Self::wire(Wire::Send {
            before: Bytes::new(),
            cut,
            ending,
        })
    }

    fn wire(wire: Wire) -> Self {
        Self(Effect::Wire(wire))
    }

    fn on_the_wire(self) -> Self {
        let wire = Wire::Send {
            before: Bytes::new(),
            cut: Cut::Never,
            ending: Ending::Fin,
        };
        Self(Effect::Both(Box::new(self.0), Box::new(Effect::Wire(wire))))
    }
}

/// A closure of a test that changes something.
type Changing<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// What a fault does.
#[derive(Clone)]
pub(crate) enum Effect {
    Answer(Box<Answer>),
    Both(Box<Self>, Box<Self>),
    Change(Changing<Answer>),
    Delay(Duration),
    Hold(Gate),
    Then(Changing<World>),
    Wire(Wire),
}

/// What happens to the bytes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Drip {
        size: usize,
        pause: Duration,
    },
    Endless(Bytes),
    GoAway,
    ResetStream(u32),
    /// The simulator writes the response itself: `before`, then as much as `cut` allows.
    Send {
        before: Bytes,
        cut: Cut,
        ending: Ending,
    },
    Silence,
}

/// How much of a response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    AfterBody(usize),
    BeforeHead,
    Never,
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => f.debug_tuple("Answer").field(answer).finish(),
            Self::Both(one, other) => f.debug_tuple("Both").field(one).field(other).finish(),
            Self::Change(_) => f.write_str("Change"),
            Self::Delay(by) => f.debug_tuple("Delay").field(by).finish(),
            Self::Hold(gate) => f.debug_tuple("Hold").field(gate).finish(),
            Self::Then(_) => f.write_str("Then"),
            Self::Wire(wire) => f.debug_tuple("Wire").field(wire).finish(),
        }
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status between 100 and 999")
}
