//! The networks of trusted proxies.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::settings::ConfigError;

#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Proxies(Arc<[Network]>);

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
struct Network(IpNet);

impl Proxies {
    pub(crate) fn include(&self, address: IpAddr) -> bool {
        // Most configurations have none.
        !self.0.is_empty() && {
            let address = address.to_canonical();
            self.0.iter().any(|network| network.0.contains(&address))
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn config_errors(&self) -> Vec<ConfigError> {
        let networks = self.0.iter().enumerate();
        let of_everybody = networks.filter(|(_, network)| network.0.prefix_len() == 0);
        of_everybody
            .map(|(at, _)| {
                let message = "is every address there is, so that any caller could say where it comes from; \
                               name the proxies' own addresses, such as \"10.0.0.5/32\"";
                ConfigError::at(format!("server.trusted_proxies[{at}]"), message)
            })
            .collect()
    }
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|networks: Vec<Network>| Self(networks.into()))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))?;
        text.parse().map(Self).map_err(|_| D::Error::custom(FORM))
    }
}

const FORM: &str = "a network of proxies is an address and the length of its prefix, such as \"10.0.0.0/8\", \
                    or \"10.0.0.5/32\" for one address";

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[&str]) -> Result<Proxies, serde_json::Error> {
        serde_json::from_value(networks.into())
    }

    #[test]
    fn an_address_is_found_in_its_network_however_it_is_written() {
        let networks = proxies(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]).unwrap();
        for (address, is_one) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("::1", false),
        ] {
            assert_eq!(
                networks.include(address.parse().unwrap()),
                is_one,
                "{address}"
            );
        }
        assert!(networks.config_errors().is_empty());
        assert!(!Proxies::default().include("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused_with_an_example_and_everybody_is_none() {
        for network in ["10.0.0.5", "10.0.0.0/33", "proxy.internal", ""] {
            let error = proxies(&[network]).unwrap_err().to_string();
            assert!(error.contains("10.0.0.5/32"), "{error}");
        }
        for network in ["0.0.0.0/0", "::/0"] {
            assert_eq!(
                proxies(&[network]).unwrap().config_errors().len(),
                1,
                "{network}"
            );
        }
    }
}
