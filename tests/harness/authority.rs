//! An authority of certificates, for the gateway over TLS and for callers that show their own.

use std::sync::Arc;
use std::{fs, io};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::{World, set, write_private};

/// An authority, and the files that it has signed.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Who names both alike is taken to have signed itself.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, files };
        authority.issue();
        authority
    }

    /// A certificate for the gateway, and its key.
    pub(crate) fn issue(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        write_private(self.path("server.key"), &key.serialize_pem());
    }

    /// A caller's.
    pub(crate) fn caller(&self) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example, \"Inc\"");
        params
            .distinguished_name
            .push(DnType::CommonName, "payments");
        self.signed(&params)
    }

    /// A certificate of any names, and its key.
    pub(crate) fn signed(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    pub(crate) async fn world(&self, with_client_ca: bool) -> World {
        World::with(|plan| {
            set(
                &mut plan.config,
                "server.tls.certificate",
                self.path("server.pem"),
            );
            set(
                &mut plan.config,
                "server.tls.private_key",
                self.path("server.key"),
            );
            if with_client_ca {
                set(
                    &mut plan.config,
                    "server.tls.client_ca",
                    self.path("ca.pem"),
                );
            }
        })
        .await
    }

    pub(crate) async fn connect(
        &self,
        world: &World,
        identity: Option<Identity>,
        alpn: &[&str],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(world.address()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("gateway.test").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}
