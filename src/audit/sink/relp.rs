//! RELP, the Reliable Event Logging Protocol that rsyslog's imrelp speaks: messages are with
//! the receiver when it has answered each of them with 200.
//!
//! A frame, in both directions, is `TXNR SP COMMAND SP DATALEN [SP DATA] LF`; an answer has the number of
//! what it answers, the command `rsp`, and data that begins with a code.

use std::io;
use std::io::{BufReader, Read, Write};

pub(super) struct RelpSession<S> {
    stream: BufReader<S>,
    /// The number of the last frame that was sent.
    last: u32,
}

impl<S: Read + Write> RelpSession<S> {
    pub(super) fn open(stream: S) -> io::Result<Self> {
        let mut session = Self {
            stream: BufReader::new(stream),
            last: 0,
        };
        session.exchange("open", &[OFFER])?;
        Ok(session)
    }

    pub(super) fn send(&mut self, messages: &[Vec<u8>]) -> io::Result<()> {
        // Neither side can wait for the other: the answers to a window fit into any socket's buffer.
        messages
            .chunks(WINDOW)
            .try_for_each(|window| self.exchange("syslog", window))
    }

    pub(super) fn close(&mut self) -> io::Result<()> {
        self.exchange("close", &[""])
    }

    fn exchange(&mut self, command: &str, window: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut frames = Vec::new();
        let mut unanswered = Vec::with_capacity(window.len());
        for data in window {
            self.last = self.last % LARGEST_NUMBER + 1;
            frame(&mut frames, self.last, command, data.as_ref());
            unanswered.push(self.last);
        }
        self.stream.get_mut().write_all(&frames)?;
        self.stream.get_mut().flush()?;
        while !unanswered.is_empty() {
            let answered = self.answer()?;
            let place = unanswered.iter().position(|number| *number == answered);
            let place = place.ok_or_else(|| bad("answers what it was not asked"))?;
            unanswered.swap_remove(place);
        }
        Ok(())
    }

    /// The number of what was answered with 200; all else is an error.
    fn answer(&mut self) -> io::Result<u32> {
        let (number, after_number) = self.number()?;
        let mut command = Vec::new();
        let mut after_command = self.byte()?;
        while after_command.is_ascii_alphabetic() && command.len() < LONGEST_COMMAND {
            command.push(after_command);
            after_command = self.byte()?;
        }
        let (length, mut after_length) = self.number()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if (after_number, after_command) != (b' ', b' ') || length > LONGEST_ANSWER {
            return Err(bad("does not speak RELP"));
        }
        let mut data = vec![0; length];
        if length > 0 && after_length == b' ' {
            self.stream.read_exact(&mut data)?;
            after_length = self.byte()?;
        }
        match (command.as_slice(), after_length) {
            (b"rsp", b'\n') if is_ok(&data) => Ok(number),
            (b"rsp", b'\n') => Err(bad("refused a record")),
            (b"serverclose", b'\n') => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the receiver ended the session",
            )),
            _ => Err(bad("does not speak RELP")),
        }
    }

    /// A number of up to nine digits, and the byte after it.
    fn number(&mut self) -> io::Result<(u32, u8)> {
        let mut number = 0;
        for place in 0..=MOST_DIGITS {
            match self.byte()? {
                digit @ b'0'..=b'9' if place < MOST_DIGITS => {
                    number = number * 10 + u32::from(digit - b'0');
                }
                other if place > 0 => return Ok((number, other)),
                _ => break,
            }
        }
        Err(bad("does not speak RELP"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

fn frame(out: &mut Vec<u8>, number: u32, command: &str, data: &[u8]) {
    out.extend_from_slice(format!("{number} {command} {}", data.len()).as_bytes());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

fn is_ok(data: &[u8]) -> bool {
    data.strip_prefix(b"200")
        .is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_digit))
}

fn bad(problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the receiver {problem}"),
    )
}

const OFFER: &str = "relp_version=0\nrelp_software=atlas-cert-gateway\ncommands=syslog";
/// As many frames as librelp itself lets wait for their answers.
const WINDOW: usize = 128;
const LARGEST_NUMBER: u32 = 999_999_999;
const MOST_DIGITS: usize = 9;
const LONGEST_COMMAND: usize = 32;
const LONGEST_ANSWER: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A receiver whose answers are known beforehand, and come in pieces of `piece` bytes.
    struct Script {
        answers: VecDeque<u8>,
        piece: usize,
        sent: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.answers.len().min(self.piece).min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(self.answers.drain(..piece)) {
                *place = byte;
            }
            Ok(piece)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn open(answers: &str, piece: usize) -> io::Result<RelpSession<Script>> {
        RelpSession::open(Script {
            answers: answers.bytes().collect(),
            piece,
            sent: Vec::new(),
        })
    }

    fn messages(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    const OPENED: &str = "1 rsp 30 200 OK\nrelp_version=0\ncommands\n";

    #[test]
    fn a_session_is_framed_as_the_protocol_says_however_the_answers_arrive() {
        for piece in [1, 2, 7, 1_000] {
            let answers = format!("{OPENED}3 rsp 6 200 OK\n2 rsp 3 200\n4 rsp 6 200 OK\n");
            let mut session = open(&answers, piece).unwrap();
            session.send(&messages(&["one", "two\nlines"])).unwrap();
            session.close().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&session.stream.get_ref().sent),
                "1 open 63 relp_version=0\nrelp_software=atlas-cert-gateway\ncommands=syslog\n\
                 2 syslog 3 one\n3 syslog 9 two\nlines\n4 close 0\n"
            );
        }
    }

    #[test]
    fn what_is_not_answered_with_200_is_not_taken() {
        for (answer, problem) in [
            ("", "failed to fill whole buffer"),
            ("2 rsp 6 200 OK", "failed to fill whole buffer"),
            ("2 rsp 6 500 no\n", "refused"),
            ("2 rsp 4 2000\n", "refused"),
            ("2 rsp 0\n", "refused"),
            ("1 rsp 6 200 OK\n", "not asked"),
            ("0 serverclose 0\n", "ended the session"),
            ("2 rsp 7 200 OK\n3", "does not speak RELP"),
            ("2 rsp 8193 200", "does not speak RELP"),
            ("2 rsp 0000000006 200 OK\n", "does not speak RELP"),
            ("2  6 200 OK\n", "does not speak RELP"),
            ("2\trsp 6 200 OK\n", "does not speak RELP"),
            ("HTTP/1.1 400 Bad Request\r\n", "does not speak RELP"),
            ("9999999999 rsp 6 200 OK\n", "does not speak RELP"),
        ] {
            let mut session = open(&format!("{OPENED}{answer}"), 3).unwrap();
            let error = session.send(&messages(&["one"])).unwrap_err().to_string();
            assert!(error.contains(problem), "{answer:?}: {error}");
        }
        assert!(open("1 rsp 6 500 no\n", 9).is_err());
        let endless = format!("2 {} 6 200 OK\n", "r".repeat(100));
        let mut session = open(&format!("{OPENED}{endless}"), 9).unwrap();
        assert!(session.send(&messages(&["one"])).is_err());
    }

    #[test]
    fn numbers_begin_again_after_the_largest_and_no_window_is_too_long() {
        let mut session = open(OPENED, 100).unwrap();
        session.last = LARGEST_NUMBER - 1;
        let answers = "999999999 rsp 6 200 OK\n1 rsp 6 200 OK\n";
        session.stream.get_mut().answers.extend(answers.bytes());
        session.send(&messages(&["one", "two"])).unwrap();
        assert_eq!(session.last, 1);
        // The answers to the first window are asked for before the second is sent.
        let texts = vec![b"x".to_vec(); WINDOW + 1];
        let of = |number| format!("{} rsp 6 200 OK\n", number + 2);
        let first: String = (0..WINDOW).map(of).collect();
        session.stream.get_mut().answers.extend(first.bytes());
        session.stream.get_mut().sent.clear();
        session.send(&texts).unwrap_err();
        assert!(session.stream.get_ref().answers.is_empty());
        let sent = String::from_utf8(session.stream.get_ref().sent.clone()).unwrap();
        assert_eq!(sent.lines().count(), WINDOW + 1);
    }
}
