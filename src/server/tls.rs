//! TLS at the public listener, with certificates that are reloaded when their files change.
//!
//! The files are polled: notifications miss the renaming of symlinks by which a mounted secret changes.

mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::atlas::Timestamp;
use crate::identity::PeerCertificate;
use crate::settings::ConfigError;
use crate::system::{Clock, Secret, may_wait, read_limited, read_owned};
use crate::telemetry::Chain;
use crate::telemetry::metrics::connections::ConnectionMetrics;
use validity::{CertificateKind, Validity};

/// Settings of TLS.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<PathBuf>,
}

impl Config {
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let Self {
            certificate,
            private_key,
            client_ca,
        } = self;
        [certificate, private_key].into_iter().chain(client_ca)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ServerTls(Arc<ArcSwap<Loaded>>);

#[derive(Debug)]
struct Loaded {
    settings: Config,
    fingerprint: [u8; SHA256_OUTPUT_LEN],
    server: Arc<ServerConfig>,
    validities: Vec<Validity>,
}

impl ServerTls {
    pub(crate) fn load(config: &Config) -> Result<Self, Vec<ConfigError>> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Loaded::read(config)?))))
    }

    /// New connections get what `fresh` has; present ones go on.
    pub(crate) fn take_over(&self, fresh: &Self) {
        self.0.store(fresh.0.load_full());
    }

    /// What is wrong with the certificates at `now`, in words: callers refuse ours, or we refuse all of
    /// theirs. `None` if all is well.
    pub(crate) fn fault(&self, now: Timestamp) -> Option<String> {
        let loaded = self.0.load();
        let of = |what| loaded.validities.iter().filter(move |it| it.of == what);
        let ours = of(CertificateKind::Ours).find_map(|it| it.fault(now));
        ours.or_else(|| {
            let authorities: Vec<_> = of(CertificateKind::Authority)
                .map(|it| it.fault(now))
                .collect();
            // One that is good is enough for the callers that it has signed.
            authorities.into_iter().collect::<Option<Vec<_>>>()?.pop()
        })
        .map(|fault| fault.to_string())
    }

    pub(crate) fn warnings(&self, now: Timestamp) -> Vec<ConfigError> {
        let loaded = self.0.load();
        let faults = loaded.validities.iter().filter_map(|it| it.fault(now));
        faults.collect()
    }

    pub(crate) fn warn(&self, now: Timestamp) {
        for warning in self.warnings(now) {
            warn!(place = warning.place, "{}", warning.message);
        }
    }

    /// How many seconds our own chain is good from `now` on, below 0 once it is not.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> Option<i64> {
        let loaded = self.0.load();
        let ours = loaded
            .validities
            .iter()
            .filter(|it| it.of == CertificateKind::Ours);
        let end = ours.map(|it| it.until.seconds()).min()?;
        Some(end.saturating_sub(now.seconds()))
    }

    /// Reloads whenever the files have changed, and says when a certificate ends. Does not end.
    pub(crate) async fn watch(&self, clock: &Clock, metrics: &ConnectionMetrics) {
        let mut refused = None;
        let mut fault = self.fault(clock.now().wall);
        loop {
            clock.sleep(PERIOD).await;
            let present = self.0.load_full();
            let settings = present.settings.clone();
            let now = may_wait(move || fingerprint(&settings)).await;
            if now != present.fingerprint && Some(now) != refused {
                match self.reload(&present, metrics).await {
                    Ok(()) => info!("the TLS certificate was read anew"),
                    Err(config_errors) => {
                        // Said once: the files may be half-way through being replaced.
                        refused = Some(now);
                        for config_error in config_errors {
                            warn!(
                                place = config_error.place,
                                "the old TLS certificate stays: {}", config_error.message
                            );
                        }
                    }
                }
            }
            let now = clock.now().wall;
            let before = mem::replace(&mut fault, self.fault(now));
            if fault.is_some() && fault != before {
                self.warn(now);
            }
        }
    }

    /// Reads the files again: new connections get the new certificate, present ones go on. Files that do
    /// not fit together change nothing.
    async fn reload(
        &self,
        present: &Arc<Loaded>,
        metrics: &ConnectionMetrics,
    ) -> Result<(), Vec<ConfigError>> {
        let settings = present.settings.clone();
        let fresh = may_wait(move || Loaded::read(&settings)).await;
        metrics.tls_reload(fresh.is_ok());
        // Unless a reload of the configuration has put other files in their place meanwhile.
        self.0.compare_and_swap(present, Arc::new(fresh?));
        Ok(())
    }

    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = Arc::clone(&self.0.load().server);
        TlsAcceptor::from(server).accept(stream).await
    }
}

impl Loaded {
    fn read(config: &Config) -> Result<Self, Vec<ConfigError>> {
        // Before the files are used, so that a change in between is seen as one.
        let fingerprint = fingerprint(config);
        let chain = certificates("server.tls.certificate", &config.certificate)?;
        let client_ca = config.client_ca.as_deref();
        let authorities = client_ca.map(|path| certificates("server.tls.client_ca", path));
        let authorities = authorities.transpose()?;
        let ours = chain
            .iter()
            .map(|it| (it, CertificateKind::Ours, &*config.certificate));
        let theirs = authorities.iter().flatten().zip(client_ca.iter().cycle());
        let theirs = theirs.map(|(it, path)| (it, CertificateKind::Authority, *path));
        let validities = ours
            .chain(theirs)
            .filter_map(|(it, of, path)| Validity::read(it, of, path))
            .collect();
        Ok(Self {
            settings: config.clone(),
            fingerprint,
            server: Arc::new(server_config(&config.private_key, chain, authorities)?),
            validities,
        })
    }
}

pub(crate) fn peer_certificate<S>(stream: &TlsStream<S>) -> Option<PeerCertificate> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates()?.first()?;
    Some(PeerCertificate::read(certificate))
}

fn fingerprint(config: &Config) -> [u8; SHA256_OUTPUT_LEN] {
    let mut files = Context::new(&SHA256);
    for path in config.files() {
        // A file that cannot be read now is a change too.
        let content = read_limited(path, LARGEST_FILE).unwrap_or_default();
        files.update(digest(&SHA256, &content).as_ref());
    }
    let fingerprint = files.finish();
    fingerprint
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

fn server_config(
    private_key: &Path,
    chain: Vec<CertificateDer<'static>>,
    authorities: Option<Vec<CertificateDer<'static>>>,
) -> Result<ServerConfig, Vec<ConfigError>> {
    let key = Secret::read(private_key)
        .map_err(|error| unusable("server.tls.private_key", &Chain(&error)))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|error| unusable("server.tls.private_key", &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("server.tls", &error))?;
    let builder = match authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities {
                roots
                    .add(certificate)
                    .map_err(|error| unusable("server.tls.client_ca", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable("server.tls.client_ca", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("server.tls.certificate", &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(
    place: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Vec<ConfigError>> {
    let pem = read_owned(path, LARGEST_FILE).map_err(|error| unusable(place, &error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(place, &error))?;
    if certificates.is_empty() {
        let none = "it holds no certificate; it must begin with -----BEGIN CERTIFICATE-----";
        return Err(unusable(place, &none));
    }
    Ok(certificates)
}

/// The path is not told: a key itself may stand in its place.
fn unusable(place: &str, error: &impl std::fmt::Display) -> Vec<ConfigError> {
    vec![ConfigError::at(place, format!("cannot be used: {error}"))]
}

const PERIOD: Duration = Duration::from_secs(10);
/// Chains are some kilobytes, bundles of authorities some hundred.
const LARGEST_FILE: u64 = 4 << 20;
