//! A server over TLS whose first connection is dead, each time in a way that keeps it open. All later
//! ones lead to the server behind it, which has the same certificate.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atlas_simulator::Tls;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// How the first connection is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Each answer has a head and its body never ends.
    NoBody,
    /// Pings are answered, and no stream ever is.
    NoStream,
    /// TCP is accepted, and TLS never agreed on.
    NoTls,
    /// Each stream is reset.
    Resets,
    /// Each stream is answered that nobody is there.
    Unavailable,
}

/// The server in front. It ends, with its connections, when this is dropped.
pub(crate) struct DeadFirst {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _run: AbortOnDropHandle<()>,
}

/// A proxy that makes tunnels to this machine.
pub(crate) struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicUsize>,
    _run: AbortOnDropHandle<()>,
}

impl DeadFirst {
    /// In front of the server that listens on `port` of this machine and proves itself with `tls`.
    pub(crate) fn before(port: u16, tls: &Tls, death: Death) -> Self {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor(tls);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let run = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    connections.spawn(die(stream, acceptor, death));
                } else {
                    connections.spawn(lead(stream, port));
                }
            }
        });
        Self {
            address,
            accepted,
            _run: AbortOnDropHandle::new(run),
        }
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// How many connections it has had.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tunnels);
        let run = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(tunnel(stream));
            }
        });
        Self {
            address,
            tunnels,
            _run: AbortOnDropHandle::new(run),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many tunnels it has made.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::SeqCst)
    }
}

fn listener() -> TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

fn acceptor(tls: &Tls) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(tls.certificate_chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(tls.private_key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn die(stream: TcpStream, acceptor: TlsAcceptor, death: Death) {
    if death == Death::NoTls {
        // Held, and never read.
        let _held = stream;
        return pending().await;
    }
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |_| async move {
        let body = match death {
            Death::NoBody => {
                let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                UnsyncBoxBody::new(StreamBody::new(never))
            }
            Death::NoStream | Death::NoTls => pending().await,
            Death::Resets => return Err("no"),
            Death::Unavailable => Full::new(Bytes::from_static(b"nobody")).boxed_unsync(),
        };
        let mut response = Response::new(body);
        if death == Death::Unavailable {
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        Ok(response)
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn lead(mut stream: TcpStream, port: u16) {
    if let Ok(mut behind) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = copy_bidirectional(&mut stream, &mut behind).await;
    }
}

async fn tunnel(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or_default() == 0 {
            return;
        }
    }
    // CONNECT localhost:443 HTTP/1.1
    let target = head.split(' ').nth(1).unwrap();
    let port = target.rsplit(':').next().unwrap().parse().unwrap();
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    lead(stream.into_inner(), port).await;
}
