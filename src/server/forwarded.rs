//! `Forwarded` (RFC 7239) and the older `X-Forwarded-` headers of trusted proxies: who asked, and how this
//! gateway was addressed.
//!
//! Each proxy appends what it has seen, so the lists are read from their end, for as long as each word is a
//! trusted proxy's: the source is the last address that is not. What stands before it the caller may have
//! written.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use super::head::is_in_tokens;
use super::proxies::Proxies;
use super::request::is_host;

/// Who asked, and how. What is `None` is as the connection has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    pub(crate) source: Option<Node>,
    pub(crate) scheme: Option<&'static str>,
    pub(crate) host: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) address: IpAddr,
    /// Few proxies tell it.
    pub(crate) port: Option<u16>,
}

#[derive(Default)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// The headers cannot be read, or contradict each other, so that it is not known who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradictory;

impl Forwarded {
    /// Reads the headers of a request that a trusted proxy has brought.
    ///
    /// `Forwarded` and the others are two lists, and a proxy that adds to one of them may pass on what a
    /// caller has put into the other. So where there are both they have to name the same source.
    pub(crate) fn read(headers: &HeaderMap, trusted: &Proxies) -> Result<Self, Contradictory> {
        let standard = Self::standard(headers, trusted)?;
        let older = Self::older(headers, trusted)?;
        let address = |told: &Self| told.source.map(|node| node.address);
        match (standard, older) {
            (Some(standard), Some(older)) if address(&standard) == address(&older) => Ok(Self {
                scheme: standard.scheme.or(older.scheme),
                host: standard.host.or(older.host),
                ..standard
            }),
            (Some(_), Some(_)) => Err(Contradictory),
            (Some(told), None) | (None, Some(told)) => Ok(told),
            (None, None) => Ok(Self::default()),
        }
    }

    fn standard(headers: &HeaderMap, trusted: &Proxies) -> Result<Option<Self>, Contradictory> {
        if !headers.contains_key(FORWARDED) {
            return Ok(None);
        }
        let mut elements = Vec::new();
        for value in headers.get_all(FORWARDED) {
            let text = value.to_str().map_err(|_| Contradictory)?;
            read_elements(text, &mut elements).ok_or(Contradictory)?;
        }
        let mut told = Self::default();
        for Element { node, proto, host } in elements.into_iter().rev() {
            told.scheme = scheme(proto.as_deref())?.or(told.scheme);
            told.host = checked(host.as_deref())?.or(told.host);
            let Some(node) = node.as_deref().and_then(Node::read) else {
                break;
            };
            told.source = Some(node);
            if !trusted.include(node.address) {
                break;
            }
        }
        Ok(Some(told))
    }

    fn older(headers: &HeaderMap, trusted: &Proxies) -> Result<Option<Self>, Contradictory> {
        if ![FOR, PROTO, HOST]
            .iter()
            .any(|name| headers.contains_key(name))
        {
            return Ok(None);
        }
        let mut told = Self::default();
        let mut believed = 1;
        for node in list(headers, &FOR)?.into_iter().rev() {
            // What is no address (`unknown`) is the last that its proxy says.
            let Some(node) = Node::read(node) else {
                break;
            };
            told.source = Some(node);
            if !trusted.include(node.address) {
                break;
            }
            believed += 1;
        }
        // Most proxies replace these; of those that add to them, as many are believed.
        told.scheme = scheme(outermost(&list(headers, &PROTO)?, believed))?;
        told.host = checked(outermost(&list(headers, &HOST)?, believed))?;
        Ok(Some(told))
    }
}

fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, Contradictory> {
    let mut members = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Contradictory)?;
        members.extend(text.split(',').map(str::trim));
    }
    Ok(members)
}

fn outermost<'h>(members: &[&'h str], believed: usize) -> Option<&'h str> {
    let of_callers = members.len().saturating_sub(believed);
    members.get(of_callers).copied().filter(|it| !it.is_empty())
}

fn scheme(proto: Option<&str>) -> Result<Option<&'static str>, Contradictory> {
    match proto {
        None => Ok(None),
        Some(proto) if proto.eq_ignore_ascii_case("https") => Ok(Some("https")),
        Some(proto) if proto.eq_ignore_ascii_case("http") => Ok(Some("http")),
        Some(_) => Err(Contradictory),
    }
}

fn checked(host: Option<&str>) -> Result<Option<String>, Contradictory> {
    match host {
        None => Ok(None),
        Some(host) if is_host(host.as_bytes()) => Ok(Some(host.to_owned())),
        Some(_) => Err(Contradictory),
    }
}

impl Node {
    /// An address, maybe with a port; `None` for `unknown` and for what hides it.
    fn read(text: &str) -> Option<Self> {
        let in_brackets = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let (address, port) = if let Ok(address) = in_brackets.unwrap_or(text).parse::<IpAddr>() {
            (address, None)
        } else {
            let address: SocketAddr = text.parse().ok()?;
            (address.ip(), Some(address.port()))
        };
        let address = address.to_canonical();
        Some(Self { address, port })
    }
}

fn read_elements(text: &str, elements: &mut Vec<Element>) -> Option<()> {
    let mut element = Element::default();
    let mut rest = text.trim_matches(BLANKS);
    loop {
        rest = pair(rest, &mut element)?.trim_start_matches(BLANKS);
        if rest.is_empty() {
            elements.push(element);
            return Some(());
        }
        if let Some(next) = rest.strip_prefix(',') {
            elements.push(std::mem::take(&mut element));
            rest = next;
        } else {
            rest = rest.strip_prefix(';')?;
        }
        rest = rest.trim_start_matches(BLANKS);
    }
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
    place.replace(value).is_none().then_some(rest)
}

/// A token, and what stands behind it. Addresses and ports without quotes, which many proxies send, too.
fn token(text: &str) -> (&str, &str) {
    let is_in = |byte: u8| is_in_tokens(byte) || matches!(byte, b':' | b'[' | b']');
    let end = text.bytes().position(|byte| !is_in(byte));
    text.split_at(end.unwrap_or(text.len()))
}

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
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests;
