//! The PROXY protocol, versions 1 and 2: whose connection a trusted proxy brings.
//!
//! It is demanded of the proxies that the configuration names, and never guessed: a receiver that guesses
//! believes any caller.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads the header and not a byte more. `None` where the proxy speaks for itself, as in a health
/// check, or for something that has no IP address.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    if &first == SIGNATURE {
        second_version(stream).await
    } else {
        first_version(stream, &first).await
    }
}

async fn first_version(
    stream: &mut (impl AsyncRead + Unpin),
    first: &[u8],
) -> io::Result<Option<SocketAddr>> {
    let mut line = first.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    // Byte by byte, since what follows the line is not ours to read.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| malformed())?;
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    let (source, port) = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let source: IpAddr = source.parse().map_err(|_| malformed())?;
            if source.is_ipv4() != (*family == "TCP4") {
                return Err(malformed());
            }
            (source, port)
        }
        _ => return Err(malformed()),
    };
    let port = port.parse().map_err(|_| malformed())?;
    Ok(Some(SocketAddr::new(source, port)))
}

async fn second_version(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_BODY {
        return Err(malformed());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match command {
        LOCAL => return Ok(None),
        PROXY => {}
        _ => return Err(malformed()),
    }
    let address = match family {
        TCP_OVER_IPV4 => part(&body, 0)
            .map(|octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets)))
            .zip(part(&body, 8)),
        TCP_OVER_IPV6 => part(&body, 0)
            .map(|octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)))
            .zip(part(&body, 32)),
        _ => return Ok(None),
    };
    let (address, port) = address.ok_or_else(malformed)?;
    Ok(Some(SocketAddr::new(address, u16::from_be_bytes(port))))
}

fn part<const COUNT: usize>(body: &[u8], at: usize) -> Option<[u8; COUNT]> {
    body.get(at..)?.first_chunk().copied()
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a trusted proxy sent no PROXY protocol header",
    )
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const LONGEST_LINE: usize = 107;
/// Addresses, and what a load balancer likes to add.
const LONGEST_BODY: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a header, and what is left of the stream behind it.
    async fn check(header: &[u8]) -> (Option<Option<String>>, usize) {
        let bytes = [header, b"GET /"].concat();
        let mut stream = bytes.as_slice();
        let read = read(&mut stream).await.ok();
        (
            read.map(|source| source.map(|source| source.to_string())),
            stream.len(),
        )
    }

    #[tokio::test]
    async fn both_versions_name_the_source_and_leave_what_follows() {
        let address = |text: &str| Some(Some(text.to_owned()));
        let binary = |command: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [&SIGNATURE[..], &[command, family], &length, body].concat()
        };
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        six[15] = 1;
        six[33] = 9;
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(),
                address("192.0.2.7:8080"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 9 80\r\n".to_vec(),
                address("[2001:db8::1]:9"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(None)),
            (
                binary(PROXY, TCP_OVER_IPV4, &four),
                address("192.0.2.7:8080"),
            ),
            (
                binary(PROXY, TCP_OVER_IPV6, &six),
                address("[2001:db8::1]:9"),
            ),
            (
                binary(PROXY, TCP_OVER_IPV4, &[&four[..], b"\x04\0\x01x"].concat()),
                address("192.0.2.7:8080"),
            ),
            (binary(LOCAL, 0, b""), Some(None)),
        ] {
            assert_eq!(check(&header).await, (expected, 5), "{header:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for header in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 2001:db8::1 ::1 9 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 80800 80\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80 and more of it, until no line is so long; and more of it, until no line is\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c0123456789ab",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x040123",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            assert_eq!(check(header).await.0, None, "{header:?}");
        }
    }
}
