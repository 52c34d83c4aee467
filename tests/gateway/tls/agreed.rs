//! What a handshake has agreed on is what is spoken (RFC 7301, section 3.2; H5).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::Authority;
use crate::frames::{GOAWAY, SETTINGS, frame};
use crate::world::{PROJECT, certs, token};

/// What comes back to some bytes over a connection with this offer, until a first answer or the end.
enum Back {
    /// An answer of HTTP/1.1 with this status.
    Http1(&'static str),
    /// Settings of HTTP/2, and no end.
    Http2,
    /// Settings, the end of the connection with `PROTOCOL_ERROR`, and then nothing.
    Goodbye,
}

#[tokio::test]
async fn nothing_is_spoken_but_what_was_agreed() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        certs(PROJECT, "app1"),
        token()
    );
    let preface = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, 0, &[]),
    ]
    .concat();
    for (offered, sent, back) in [
        (&["h2"][..], request.as_bytes(), Back::Goodbye),
        (
            &["h2", "http/1.1"],
            b"SSH-2.0-OpenSSH_10.0\r\n",
            Back::Goodbye,
        ),
        (&["h2"], &preface, Back::Http2),
        (&["http/1.1"], request.as_bytes(), Back::Http1("200")),
        (&["http/1.1"], &preface, Back::Http1("400")),
        // Nothing was agreed.
        (&[], request.as_bytes(), Back::Http1("200")),
        (&[], &preface, Back::Http2),
    ] {
        let mut stream = authority.connect(&world, None, offered).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let what = format!("{offered:?} {}", sent.escape_ascii());
        let mut said = Vec::new();
        match back {
            Back::Http2 => {
                let mut first = [0; 9];
                stream.read_exact(&mut first).await.unwrap();
                assert_eq!(first[3], SETTINGS, "{what}");
            }
            Back::Goodbye => {
                stream.read_to_end(&mut said).await.unwrap();
                let goodbye = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1]);
                assert_eq!(
                    said,
                    [frame(SETTINGS, 0, 0, &[]), goodbye].concat(),
                    "{what}"
                );
            }
            Back::Http1(status) => {
                stream.read_to_end(&mut said).await.unwrap();
                let line = format!("HTTP/1.1 {status} ");
                assert!(
                    said.starts_with(line.as_bytes()),
                    "{what}: {}",
                    said.escape_ascii()
                );
            }
        }
    }
    assert_eq!(world.refused("alpn").await, 2);
    assert_eq!(world.lookups().len(), 2);
}
