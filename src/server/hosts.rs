//! The names under which callers may address this gateway: a `Host` goes in; whether it is one of them
//! comes out.

use serde::Deserialize;
use serde::Serialize;

use crate::settings::Mistake;

/// Names of this gateway, without ports; with none, any name will do.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Whether a request to `host`, on whatever port, is one to this gateway.
    pub fn include(&self, host: &str) -> bool {
        self.0.is_empty() || {
            let name = without_port(host);
            self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
        }
    }

    /// What cannot be meant.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let is_name = |name: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part) && without_port(name) == name
        };
        let wrong = self.0.iter().enumerate().filter(|(_, name)| !is_name(name));
        wrong
            .map(|(at, _)| {
                let message = "is a host's name or address alone: \"certs.internal.example\"";
                Mistake::at(format!("server.hosts[{at}]"), message)
            })
            .collect()
    }
}

/// RFC 3986, section 3.2: the colons of an IPv6 address stand in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_whatever_its_case_and_port() {
        let hosts = Hosts(vec!["certs.example".to_owned(), "[::1]".to_owned()]);
        for host in ["certs.example", "CERTS.example:8080", "[::1]", "[::1]:80"] {
            assert!(hosts.include(host), "{host}");
        }
        for host in [
            "example",
            "certs.example.evil",
            "a.certs.example",
            "[::1",
            "",
        ] {
            assert!(!hosts.include(host), "{host}");
        }
        assert!(Hosts::default().include("anything"));
        assert!(hosts.mistakes().is_empty());
    }

    #[test]
    fn what_is_no_bare_name_is_a_mistake() {
        let names = ["https://certs.example", "certs.example:443", "", "a b"];
        let hosts = Hosts(names.map(str::to_owned).to_vec());
        assert_eq!(hosts.mistakes().len(), names.len());
    }
}
