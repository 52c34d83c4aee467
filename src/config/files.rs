//! The files that a configuration names go out.

use std::path::PathBuf;

use super::Config;

impl Config {
    /// The files that a reload reads: whether the configuration can be put in place depends on them.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.server.tls.iter().flat_map(|tls| {
            [
                Some(&tls.certificate),
                Some(&tls.private_key),
                tls.client_ca.as_ref(),
            ]
        });
        let issuers = self.identity.issuers.iter().flat_map(|issuer| {
            [
                &issuer.jwks_file,
                &issuer.hmac_secret_file,
                &issuer.ca_certificate,
            ]
            .map(Option::as_ref)
        });
        let credentials = self.atlas.credentials.iter().flat_map(|credential| {
            let account = credential.service_account.as_ref();
            let key = credential.api_key.as_ref();
            [
                account.and_then(|account| account.client_secret_file.as_ref()),
                key.and_then(|key| key.private_key_file.as_ref()),
            ]
        });
        let files = tls.chain(issuers).chain(credentials);
        files.flatten().cloned().collect()
    }
}
