//! The value of a `Forwarded` header goes in; what each proxy has said comes out (RFC 7239, section 4).

use std::net::{IpAddr, SocketAddr};

use super::Node;
use crate::server::head::is_in_tokens;

/// What one proxy has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// `for`
    pub(super) node: Option<String>,
    /// `proto`
    pub(super) proto: Option<String>,
    /// `host`
    pub(super) host: Option<String>,
}

/// The elements of one header line; `None` if it is malformed.
pub(super) fn read(text: &str) -> Option<Vec<Element>> {
    let (mut elements, mut element) = (Vec::new(), Element::default());
    let mut rest = text.trim_matches(BLANKS);
    loop {
        rest = pair(rest, &mut element)?.trim_start_matches(BLANKS);
        let mut behind = rest.chars();
        match behind.next() {
            None => {
                elements.push(element);
                return Some(elements);
            }
            Some(';') => {}
            Some(',') => elements.push(std::mem::take(&mut element)),
            Some(_) => return None,
        }
        rest = behind.as_str().trim_start_matches(BLANKS);
    }
}

/// The address that `for` names, maybe with a port; `None` for `unknown` and for what hides it.
pub(super) fn node(text: &str) -> Option<Node> {
    let alone = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = alone.parse::<IpAddr>() {
        return Some(Node {
            address: address.to_canonical(),
            port: None,
        });
    }
    let address: SocketAddr = text.parse().ok()?;
    Some(Node {
        address: address.ip().to_canonical(),
        port: Some(address.port()),
    })
}

/// Reads `name=value` into its place, if there is one, and says what stands behind it.
fn pair<'t>(text: &'t str, element: &mut Element) -> Option<&'t str> {
    let (name, rest) = token(text);
    if name.is_empty() {
        // RFC 9110, section 5.6.1: an element of a list may be empty.
        return Some(text);
    }
    let rest = rest.strip_prefix('=')?;
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        unquoted(quoted)?
    } else {
        let (value, rest) = token(rest);
        (value.to_owned(), rest)
    };
    let place = if name.eq_ignore_ascii_case("for") {
        &mut element.node
    } else if name.eq_ignore_ascii_case("proto") {
        &mut element.proto
    } else if name.eq_ignore_ascii_case("host") {
        &mut element.host
    } else {
        return Some(rest);
    };
    // Each parameter at most once.
    place.replace(value).is_none().then_some(rest)
}

/// A token, and what stands behind it. Addresses and ports without quotes, which many proxies send, too.
fn token(text: &str) -> (&str, &str) {
    let is_in = |byte: u8| is_in_tokens(byte) || matches!(byte, b':' | b'[' | b']');
    let end = text.bytes().position(|byte| !is_in(byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

/// What stands before the closing quote, and behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut rest) = (String::new(), text.chars());
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\\' => value.push(rest.next()?),
            letter => value.push(letter),
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];
