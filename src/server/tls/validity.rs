//! When a certificate is valid, and what to say when it is not.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use crate::atlas::Timestamp;
use crate::settings::ConfigError;

#[derive(Debug)]
pub(super) struct Validity {
    pub(super) of: CertificateKind,
    file: PathBuf,
    from: Timestamp,
    pub(super) until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateKind {
    Authority,
    Ours,
}

impl Validity {
    /// What `certificate` of `file` says; `None` if it cannot be read, which TLS itself judges.
    pub(super) fn read(
        certificate: &CertificateDer<'_>,
        of: CertificateKind,
        file: &Path,
    ) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self {
            of,
            file: file.to_owned(),
            from: Timestamp::from_seconds(validity.not_before.timestamp()),
            until: Timestamp::from_seconds(validity.not_after.timestamp()),
        })
    }

    pub(super) fn fault(&self, now: Timestamp) -> Option<ConfigError> {
        let what = if now > self.until {
            format!("expired on {}", self.until)
        } else if now < self.from {
            format!("is not valid before {}", self.from)
        } else {
            return None;
        };
        let (place, consequence) = match self.of {
            CertificateKind::Authority => {
                ("client_ca", "no caller gets in with a certificate of it")
            }
            CertificateKind::Ours => ("certificate", "callers refuse it"),
        };
        let file = self.file.display();
        Some(ConfigError::at(
            format!("server.tls.{place}"),
            format!("a certificate in {file} {what}: {consequence}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let at = Timestamp::from_seconds;
        let validity = Validity {
            of: CertificateKind::Ours,
            file: PathBuf::from("server.pem"),
            from: at(1_000),
            until: at(2_000),
        };
        let fault = |now| validity.fault(at(now)).map(|fault| fault.to_string());
        assert_eq!(fault(1_000), None);
        assert_eq!(fault(2_000), None);
        assert_eq!(
            fault(999).as_deref(),
            Some(
                "server.tls.certificate: a certificate in server.pem is not valid before \
                 1970-01-01T00:16:40.000000Z: callers refuse it"
            )
        );
        let expired = fault(2_001).unwrap();
        assert!(
            expired.contains("expired on 1970-01-01T00:33:20"),
            "{expired}"
        );
    }
}
