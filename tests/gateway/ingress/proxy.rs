//! nginx and HAProxy, configured as the operating guide says.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::harness::servers::{HAPROXY, NGINX, Server};
use crate::world::every;

const GUIDE: &str = include_str!("../../../docs/operating.md");

/// Which proxy, and what it speaks besides HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) server: Server,
    /// HTTP/2 with callers.
    pub(super) http2: bool,
    /// What is added to the gateway's address.
    pub(super) to_gateway: &'static str,
    /// Each connection to the gateway begins with a PROXY header.
    pub(super) proxy_protocol: bool,
}

pub(super) const SETUPS: [Setup; 6] = [
    setup(NGINX, false),
    setup(NGINX, true),
    setup(HAPROXY, false),
    setup(HAPROXY, true),
    Setup {
        to_gateway: " proto h2",
        ..setup(HAPROXY, true)
    },
    Setup {
        to_gateway: " send-proxy-v2",
        proxy_protocol: true,
        ..setup(HAPROXY, true)
    },
];

const fn setup(server: Server, http2: bool) -> Setup {
    Setup {
        server,
        http2,
        to_gateway: "",
        proxy_protocol: false,
    }
}

/// A running proxy. It ends when it is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    child: Child,
    _files: TempDir,
}

impl Setup {
    /// The block of the guide, with the addresses and files of this test.
    fn configuration(
        self,
        authority: &Authority,
        files: &Path,
        listen: SocketAddr,
        gateway: SocketAddr,
    ) -> String {
        let (_, block) = GUIDE
            .split_once(&format!("```{}\n", self.server.program))
            .unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
        let both = files.join("both.pem");
        let pem = [&certificate, &key].map(|path| fs::read_to_string(path).unwrap());
        fs::write(&both, pem.concat()).unwrap();
        let replaced = |text: &str, by: &[(&str, &str)]| {
            by.iter().fold(text.to_owned(), |text, (word, by)| {
                assert!(text.contains(word), "the guide no longer says {word}");
                text.replace(word, by)
            })
        };
        let (listen, gateway) = (listen.to_string(), format!("{gateway}{}", self.to_gateway));
        let directory = files.display();
        if self.server.program == "nginx" {
            let http2 = if self.http2 { " ssl http2" } else { " ssl" };
            let block = replaced(
                block,
                &[
                    ("127.0.0.1:8080", &gateway),
                    ("443 ssl http2", &format!("{listen}{http2}")),
                    ("/etc/nginx/certs.internal.pem", &certificate),
                    ("/etc/nginx/certs.internal.key", &key),
                ],
            );
            format!(
                "daemon off; master_process off; pid {directory}/pid; events {{ }}
                    http {{
                        access_log off;
                        client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                        fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                        scgi_temp_path {directory}/scgi;
                        {block}
                    }}"
            )
        } else {
            let alpn = if self.http2 {
                "alpn h2,http/1.1"
            } else {
                "alpn http/1.1"
            };
            let block = replaced(
                block,
                &[
                    ("127.0.0.1:8080", &gateway),
                    ("bind :443", &format!("bind {listen}")),
                    (
                        "/etc/haproxy/certs.internal.pem",
                        &both.display().to_string(),
                    ),
                    ("alpn h2,http/1.1", alpn),
                ],
            );
            format!(
                "global\n    maxconn 100\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client \
                     60s\n    timeout server 60s\n{block}"
            )
        }
    }

    /// Starts the proxy in front of `gateway`, and waits until it listens.
    pub(super) async fn start(
        self,
        program: &Path,
        authority: &Authority,
        gateway: SocketAddr,
    ) -> Proxy {
        let files = tempfile::tempdir().unwrap();
        // The next to listen there is the proxy.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let text = self.configuration(authority, files.path(), address, gateway);
        let (config, said) = (files.path().join("config"), files.path().join("said"));
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        match self.server.program {
            "nginx" => command
                .arg("-e")
                .arg(&said)
                .arg("-p")
                .arg(files.path())
                .arg("-c"),
            _ => command.args(["-db", "-f"]),
        };
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&said)
            .unwrap();
        let child = command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut proxy = Proxy {
            address,
            child,
            _files: files,
        };
        let mut glances = every(Duration::from_millis(10));
        while TcpStream::connect(address).await.is_err() {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                let said = fs::read_to_string(&said).unwrap_or_default();
                panic!("{self:?} ended with {status}: {said}");
            }
            glances.tick().await;
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
