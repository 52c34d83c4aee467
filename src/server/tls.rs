//! TLS at the outside door: certificate files go in, encrypted streams come out.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::settings::Mistake;

/// Settings of TLS.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The certificate chain in PEM, our own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub private_key: PathBuf,
    /// Who signs callers' certificates; with it a caller needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// What a handshake needs; shared, and swapped whole when the files change.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads the files.
    pub fn load(config: &Config) -> Result<Self, Vec<Mistake>> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(server_config(
            config,
        )?))))
    }

    /// New connections get what `fresh` has; present ones go on.
    pub fn take_over(&self, fresh: &Self) {
        self.0.store(fresh.0.load_full());
    }

    /// Shakes hands with a caller.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

fn server_config(config: &Config) -> Result<ServerConfig, Vec<Mistake>> {
    let chain = certificates("server.tls.certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.private_key)
        .map_err(|error| unusable("server.tls.private_key", &config.private_key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("server.tls", &config.certificate, &error))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("server.tls.client_ca", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unusable("server.tls.client_ca", path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable("server.tls.client_ca", path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("server.tls.certificate", &config.certificate, &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(place: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Vec<Mistake>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(place, path, &error))
}

fn unusable(place: &str, path: &Path, error: &impl std::fmt::Display) -> Vec<Mistake> {
    vec![Mistake::at(
        place,
        format!("{} cannot be used: {error}", path.display()),
    )]
}
