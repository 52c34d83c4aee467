//! nginx and HAProxy as they come from Debian, each before the gateway and before a recorder, with
//! connections to both that all callers share: those are what a request smuggled past them would poison.

use std::fs;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::recorder::CALLER;

/// Which one.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Nginx,
    HaProxy,
}

/// A running proxy. It ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    /// Where it listens for what goes to the gateway, and to the recorder.
    pub(crate) to_gateway: SocketAddr,
    pub(crate) to_recorder: SocketAddr,
    child: Child,
    log: PathBuf,
    _files: TempDir,
}

/// What a proxy says of a request.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) caller: Ipv4Addr,
    pub(crate) status: u16,
    /// Whether the proxy has passed the request on.
    pub(crate) passed_on: bool,
    /// The gateway's id of it, from the answer.
    pub(crate) id: Option<String>,
    pub(crate) target: String,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Nginx, Self::HaProxy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Nginx => "nginx-light",
            Self::HaProxy => "haproxy",
        }
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(self, gateway: SocketAddr, recorder: SocketAddr) -> Proxy {
        let files = tempfile::tempdir().unwrap();
        let [to_gateway, to_recorder] = free_addresses();
        let listens = [(to_gateway, gateway), (to_recorder, recorder)];
        let (log, output) = (files.path().join("log"), files.path().join("output"));
        let (config, text) = (
            files.path().join("config"),
            self.configuration(files.path(), listens),
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(self.program());
        match self {
            Self::Nginx => command
                .arg("-e")
                .arg(&output)
                .arg("-p")
                .arg(files.path())
                .arg("-c"),
            Self::HaProxy => command.args(["-db", "-f"]),
        };
        let (stdout, stderr) = match self {
            Self::Nginx => (Stdio::null(), Stdio::null()),
            Self::HaProxy => (
                File::create(&log).unwrap().into(),
                File::create(&output).unwrap().into(),
            ),
        };
        let child = command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let mut proxy = Proxy {
            kind: self,
            to_gateway,
            to_recorder,
            child: child.unwrap(),
            log,
            _files: files,
        };
        while TcpStream::connect(to_recorder).is_err() {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                let said = fs::read_to_string(&output).unwrap_or_default();
                panic!("{} ended with {status}: {said}", self.name());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy
    }

    /// Where the program is: a package puts it where only root looks.
    fn program(self) -> PathBuf {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path
            .split(':')
            .chain(["/usr/sbin", "/usr/local/sbin"])
            .map(|directory| Path::new(directory).join(self.name()))
            .find(|program| program.exists());
        let (name, package) = (self.name(), self.package());
        found
            .unwrap_or_else(|| panic!("{name} is not here; Debian has it in the package {package}"))
    }

    fn configuration(self, directory: &Path, listens: [(SocketAddr, SocketAddr); 2]) -> String {
        let (general, servers) = match self {
            Self::Nginx => (nginx(directory), listens.map(nginx_server).concat()),
            Self::HaProxy => (HAPROXY.to_owned(), listens.map(haproxy_server).concat()),
        };
        match self {
            Self::Nginx => format!("{general}{servers}}}\n"),
            Self::HaProxy => general + &servers,
        }
    }
}

impl Proxy {
    /// What it has said of all requests since its start, in order.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        text.lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| read(&serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))))
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(line: &Value) -> Line {
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    let id = text("id");
    Line {
        caller: text("caller").parse().unwrap(),
        status: text("status").parse().unwrap_or(0),
        passed_on: !matches!(text("server").as_str(), "" | "-" | "<NOSRV>"),
        id: (id.len() > 1).then_some(id),
        target: text("target"),
    }
}

fn nginx(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"
        daemon off;
        master_process off;
        pid {directory}/pid;
        events {{ worker_connections 1000; }}
        http {{
            client_body_temp_path {directory}/body;
            proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/fastcgi;
            uwsgi_temp_path {directory}/uwsgi;
            scgi_temp_path {directory}/scgi;
            log_format line escape=json '{{"caller":"$remote_addr","status":"$status","server":"$upstream_addr",'
                '"id":"$upstream_http_x_request_id","target":"$request_uri"}}';
            access_log {directory}/log line;
            client_header_timeout 2s;
            client_body_timeout 2s;
            keepalive_timeout 2s;
            lingering_timeout 1s;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header {CALLER} $remote_addr;
            proxy_next_upstream off;
        "#
    )
}

fn nginx_server((listen, server): (SocketAddr, SocketAddr)) -> String {
    let name = format!("to_{}", server.port());
    format!(
        "upstream {name} {{ server {server}; keepalive 16; }}
        server {{ listen {listen}; location / {{ proxy_pass http://{name}; }} }}\n"
    )
}

fn haproxy_server((listen, server): (SocketAddr, SocketAddr)) -> String {
    let name = format!("to_{}", server.port());
    format!(
        "listen {name}
            bind {listen}
            http-request set-header {CALLER} %[src]
            http-response set-var(txn.id) res.hdr(x-request-id)
            server {name} {server}\n"
    )
}

/// Two free addresses; the next to listen there is the proxy.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Its general part.
const HAPROXY: &str = r#"
global
    log stdout len 4096 format raw local0
    maxconn 400
defaults
    mode http
    log global
    timeout connect 2s
    timeout client 2s
    timeout server 5s
    timeout http-request 2s
    timeout http-keep-alive 2s
    http-reuse always
    log-format '{"caller":"%ci","status":"%ST","server":"%s","id":"%[var(txn.id)]","target":"%HU"}'
"#;
