//! What trusted proxies say of a request (RFC 7239, and the `X-Forwarded-` headers before it): its headers
//! go in; who asked, and how this gateway was addressed, come out.
//!
//! Each proxy adds what it has seen to what came to it, so the end of such a list is the word of the proxy
//! that is connected, the part before it that of the proxy before, and the beginning whatever the first
//! caller liked to write. It is read from its end, for as long as whoever said it is trusted: the source is
//! the last address that is not a trusted proxy's.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use super::proxies::Proxies;
use super::request::is_host;

mod element;

use element::Element;

/// Who asked, and how. What nobody has said is as the connection has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Who asked the outermost trusted proxy.
    pub source: Option<Node>,
    /// `http` or `https`, as it was asked.
    pub scheme: Option<&'static str>,
    /// The host that it was asked for, with its port where the caller gave one.
    pub host: Option<String>,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The address.
    pub address: IpAddr,
    /// The port, which few proxies tell.
    pub port: Option<u16>,
}

/// The headers cannot be read, or contradict each other, so that nobody knows who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradictory;

impl Forwarded {
    /// Reads the headers of a request that a trusted proxy has brought.
    ///
    /// `Forwarded` and the others are two lists, and a proxy that adds to one of them may pass on what a
    /// caller has put into the other. So where there are both they have to name the same source.
    pub fn read(headers: &HeaderMap, trusted: &Proxies) -> Result<Self, Contradictory> {
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
            elements.extend(element::read(text).ok_or(Contradictory)?);
        }
        let mut told = Self::default();
        for Element { node, proto, host } in elements.into_iter().rev() {
            told.scheme = scheme(proto.as_deref())?.or(told.scheme);
            told.host = checked(host.as_deref())?.or(told.host);
            let Some(node) = node.as_deref().and_then(element::node) else {
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
        // How many proxies are believed.
        let mut believed = 1;
        for node in list(headers, &FOR)?.into_iter().rev() {
            // What is no address is the word of whoever stands before it, who does not say more.
            let Some(node) = element::node(node) else {
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

/// The members of a list that may stand in several lines.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, Contradictory> {
    let mut members = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Contradictory)?;
        members.extend(text.split(',').map(str::trim));
    }
    Ok(members)
}

/// The first of the last members that are believed.
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

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests;
