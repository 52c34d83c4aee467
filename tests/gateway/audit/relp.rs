//! A receiver that speaks RELP: it stores a record once it has it whole, and then says so. It can be
//! killed at any byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::{io, thread};

/// When a receiver dies, by what it has read or written since its session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    AfterReading(usize),
    AfterWriting(usize),
    /// It is dead: who connects is sent away.
    Before,
    Never,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    death: Death,
    stored: Vec<String>,
}

impl Receiver {
    pub(crate) fn new(death: Death) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            death,
            stored: Vec::new(),
        }));
        let kept = Arc::clone(&state);
        thread::spawn(move || {
            // Ends with the process.
            for stream in listener.incoming() {
                // The end of a session is the sink's or ours.
                let _ = serve(&stream.unwrap(), &kept);
            }
        });
        Self { address, state }
    }

    /// The messages that it has whole.
    pub(crate) fn stored(&self) -> Vec<String> {
        self.state.lock().unwrap().stored.clone()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.stored().iter().any(|message| message.contains(text))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().death == Death::Before
    }

    /// It is started again, and will die so.
    pub(crate) fn revive(&self, death: Death) {
        self.state.lock().unwrap().death = death;
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut input = Vec::new();
    let mut read = 0;
    let mut written = 0;
    loop {
        let death = state.lock().unwrap().death;
        let dies = match death {
            Death::AfterReading(bytes) => read >= bytes,
            Death::AfterWriting(bytes) => written >= bytes,
            Death::Before => true,
            Death::Never => false,
        };
        if dies {
            state.lock().unwrap().death = Death::Before;
            return Ok(());
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        read += 1;
        input.push(byte[0]);
        let Some((number, command, data)) = frame(&input) else {
            continue;
        };
        let answer = match command {
            "open" => format!("{number} rsp 30 200 OK\nrelp_version=0\ncommands\n"),
            "close" => format!("{number} rsp 0\n0 serverclose 0\n"),
            _ => format!("{number} rsp 6 200 OK\n"),
        };
        if command == "syslog" {
            state.lock().unwrap().stored.push(data.to_owned());
        }
        input.clear();
        if death == Death::AfterReading(read) {
            continue;
        }
        let mut answer = answer.as_bytes();
        if let Death::AfterWriting(bytes) = death {
            answer = &answer[..answer.len().min(bytes.saturating_sub(written))];
            if written + answer.len() >= bytes {
                state.lock().unwrap().death = Death::Before;
            }
        }
        stream.write_all(answer)?;
        written += answer.len();
    }
}

/// Its number, its command and its data.
type Frame<'a> = (&'a str, &'a str, &'a str);

/// A frame that is whole.
fn frame(input: &[u8]) -> Option<Frame<'_>> {
    let text = std::str::from_utf8(input).ok()?.strip_suffix('\n')?;
    let mut parts = text.splitn(4, ' ');
    let (number, command, length) = (parts.next()?, parts.next()?, parts.next()?);
    let data = parts.next().unwrap_or_default();
    let length: usize = length.parse().ok()?;
    (data.len() == length).then_some((number, command, data))
}
