//! The names by which this gateway may be addressed (DNS rebinding, misdirected requests).

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::settings::ConfigError;

/// Names of this gateway, without ports; with none, any name will do.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// Whether a request to `host`, on whatever port, is one to this gateway.
    pub(crate) fn include(&self, host: &str) -> bool {
        self.0.is_empty() || self.name(host)
    }

    /// Whether a request to `host` is one to a name of this gateway, to an IP address or to `localhost`:
    /// none of which a foreign page has in its own URL.
    pub(crate) fn include_or_local(&self, host: &str) -> bool {
        self.name(host) || is_localhost(host) || address(host).is_some()
    }

    /// Whether `host` names this gateway and no other, as far as that is known: a name of it, `localhost`, or
    /// the `local` address of a connection to it.
    pub(crate) fn identify(&self, host: &str, local: Option<IpAddr>) -> bool {
        let is_local = || local.is_some() && address(host) == local.map(|it| it.to_canonical());
        self.name(host) || is_localhost(host) || is_local()
    }

    #[must_use]
    pub(crate) fn and(mut self, host: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(without_port(host).to_owned());
        }
        self
    }

    fn name(&self, host: &str) -> bool {
        let name = without_port(host);
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    pub(super) fn config_errors(&self, place: &str) -> Vec<ConfigError> {
        let is_name = |name: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part) && without_port(name) == name
        };
        let wrong = self.0.iter().enumerate().filter(|(_, name)| !is_name(name));
        wrong
            .map(|(at, _)| {
                let message = "is a host's name or address alone: \"certs.internal.example\"";
                ConfigError::at(format!("{place}[{at}]"), message)
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

fn is_localhost(host: &str) -> bool {
    without_port(host).eq_ignore_ascii_case("localhost")
}

fn address(host: &str) -> Option<IpAddr> {
    let name = without_port(host);
    let in_brackets = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match in_brackets {
        Some(address) => address.parse().map(|it: Ipv6Addr| it.to_canonical()).ok(),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
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
        assert!(hosts.config_errors("server.hosts").is_empty());
    }

    #[test]
    fn an_address_and_localhost_are_nobody_elses() {
        let hosts = Hosts(vec!["ops.example".to_owned()]);
        for (host, is_one) in [
            ("127.0.0.1", true),
            ("10.0.0.7:9090", true),
            ("[::1]:9090", true),
            ("LOCALHOST:9090", true),
            ("ops.example:9090", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[::1].evil", false),
            ("::1", false),
            ("", false),
        ] {
            assert_eq!(hosts.include_or_local(host), is_one, "{host}");
        }
        let local = "10.0.0.7".parse().ok();
        for (host, is_one) in [
            ("10.0.0.7:80", true),
            ("10.0.0.8", false),
            ("localhost", true),
            ("ops.example", true),
            ("evil.example", false),
        ] {
            assert_eq!(hosts.identify(host, local), is_one, "{host}");
        }
        assert!(!Hosts::default().identify("10.0.0.7", None));
    }

    #[test]
    fn what_is_no_bare_name_is_a_mistake() {
        let names = ["https://certs.example", "certs.example:443", "", "a b"];
        let hosts = Hosts(names.map(str::to_owned).to_vec());
        let config_errors = hosts.config_errors("admin.hosts");
        assert_eq!(config_errors.len(), names.len());
        assert_eq!(config_errors[0].place, "admin.hosts[0]");
    }
}
