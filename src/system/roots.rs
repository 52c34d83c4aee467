//! The trusted roots (trust anchors) of TLS to Atlas and to issuers: the system's and the configured ones.
//!
//! The system keeps its roots twice, in one file and in a directory of files, with the same content.
//! The file is read in a millisecond or two, the directory in forty; so the directory is only read where
//! there is no such file, or where `SSL_CERT_FILE` or `SSL_CERT_DIR` is set.

use std::env;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::files::read_owned;

/// Whose certificates are trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust<'c> {
    pub(crate) system: bool,
    pub(crate) own: Option<&'c Path>,
}

/// Why there is no TLS to where we connect.
#[derive(Debug, thiserror::Error)]
pub enum NoTls {
    /// The roots of our own cannot be used.
    #[error("{0}")]
    Own(String),
    /// There are none at all.
    #[error("no roots were found on this system; name them in `ca_certificate`")]
    Rootless,
    /// The versions that we want are not to be had.
    #[error("cannot speak TLS: {0}")]
    Unspeakable(rustls::Error),
}

impl Trust<'_> {
    pub(crate) fn tls(self) -> Result<ClientConfig, NoTls> {
        let mut roots = RootCertStore::empty();
        if self.system {
            // What rustls cannot read of them cannot be mended here.
            roots.add_parsable_certificates(of_the_system().1);
        }
        for root in self.own.map_or_else(|| Ok(Vec::new()), configured)? {
            let message = "holds a certificate that cannot be a root";
            let added = roots.add(root);
            added.map_err(|_| NoTls::Own(message.to_owned()))?;
        }
        if roots.is_empty() && self.system {
            return Err(NoTls::Rootless);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(NoTls::Unspeakable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(tls)
    }

    pub(crate) fn places(self) -> String {
        let system = self.system.then(|| of_the_system().0);
        let own = self.own.map(|path| path.display().to_string());
        let both: Vec<_> = system.into_iter().chain(own).collect();
        both.join(" and ")
    }
}

/// The system's roots, and before them where they are.
fn of_the_system() -> (String, Vec<CertificateDer<'static>>) {
    let said = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| {
        let path = env::var_os(name)?;
        Some(format!("{} ({name})", path.display()))
    });
    let said: Vec<_> = said.into_iter().flatten().collect();
    if said.is_empty() {
        for bundle in BUNDLES {
            let Ok(found) = CertificateDer::pem_file_iter(bundle) else {
                continue;
            };
            let roots: Vec<_> = found.flatten().collect();
            if !roots.is_empty() {
                return (bundle.to_owned(), roots);
            }
        }
    }
    let place = if said.is_empty() {
        "the system's directory of certificates".to_owned()
    } else {
        said.join(" and ")
    };
    (place, rustls_native_certs::load_native_certs().certs)
}

fn configured(path: &Path) -> Result<Vec<CertificateDer<'static>>, NoTls> {
    let pem = read_owned(path, LARGEST).map_err(|error| NoTls::Own(error.to_string()))?;
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let roots = roots.map_err(|_| NoTls::Own("is no PEM".to_owned()))?;
    if roots.is_empty() {
        return Err(NoTls::Own("holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

/// Where Debian and Ubuntu, Fedora and Red Hat, openSUSE, and Alpine keep them.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const LARGEST: u64 = 1 << 20;
