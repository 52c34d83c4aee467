//! Whom we believe: the system's roots and the configured one go in, a configuration of TLS comes out.
//!
//! The system keeps its roots twice, in one file and in a directory of files, with the same content.
//! The file is read in a millisecond or two, the directory in forty; so it is only read where there is
//! no such file, or where somebody says so with `SSL_CERT_FILE` or `SSL_CERT_DIR`. An Atlas without TLS,
//! which can only be a simulated one, needs no roots at all.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::settings::Mistake;
use crate::upstream::config::Config;
use crate::watched;

/// TLS 1.2 and up, with those roots.
pub(super) fn tls(config: &Config) -> Result<ClientConfig, Mistake> {
    let mut roots = RootCertStore::empty();
    if config.base_url.starts_with("https://") {
        gather_randomness();
        // What the system holds and rustls cannot read is nothing that anybody could mend here.
        roots.add_parsable_certificates(of_the_system().1);
    }
    if let Some(path) = &config.ca_certificate {
        let own = configured(path);
        let own = own.map_err(|message| Mistake::at("atlas.ca_certificate", message))?;
        for root in own {
            let added = roots.add(root);
            let message = "holds a certificate that cannot be a root";
            added.map_err(|_| Mistake::at("atlas.ca_certificate", message))?;
        }
    }
    if roots.is_empty() && config.base_url.starts_with("https://") {
        let message = "no roots were found on this system; name them in atlas.ca_certificate";
        return Err(Mistake::at("atlas", message));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder =
        builder.with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
    let builder = builder.map_err(|error| {
        let message = format!("cannot speak TLS: {error}");
        Mistake::at("atlas", message)
    })?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// The first randomness of a process is gathered for 40 ms and more. So that is done while the
/// configuration is read, and not when the first connection is made.
fn gather_randomness() {
    thread::spawn(|| {
        // Whoever needs it and gets none, says so.
        let _ = aws_lc_rs::rand::fill(&mut [0; 1]);
    });
}

/// Where the roots are that are trusted, for people.
pub fn trusted(config: &Config) -> String {
    let own = config.ca_certificate.as_ref();
    let own = own.map(|path| format!(" and {}", path.display()));
    format!("{}{}", of_the_system().0, own.unwrap_or_default())
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

fn configured(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = watched::read_limited(path, LARGEST).map_err(|error| error.to_string())?;
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let roots = roots.map_err(|_| "is no PEM".to_owned())?;
    if roots.is_empty() {
        return Err("holds no certificate in PEM".to_owned());
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
