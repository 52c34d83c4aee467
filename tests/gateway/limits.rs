//! The bounds of connections: how many, from where, for how long, and that one that is over them costs
//! nobody else anything.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::client;
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, every, set, token};

fn request(username: &str) -> Vec<u8> {
    let (path, token) = (certs(PROJECT, username), token());
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_others_served() {
    for (key, reason) in [
        ("server.limits.connections", "connections"),
        (
            "server.limits.connections_per_source",
            "connections_per_source",
        ),
    ] {
        let world = World::with(|plan| set(&mut plan.config, key, 2)).await;
        let mut present = [
            Connection::open(world.address()).await,
            Connection::open(world.address()).await,
        ];
        for connection in &mut present {
            connection.send(&request("app1")).await;
            assert_eq!(connection.reply(false).await.status, 200);
        }
        let mut excess = Connection::open(world.address()).await;
        assert!(world.closes(&mut excess).await, "H56: {reason}");
        assert_eq!(world.refused(reason).await, 1);
        let [mut first, second] = present;
        first.send(&request("app1")).await;
        assert_eq!(first.reply(false).await.status, 200, "H56: {reason}");
        drop(second);
        // The place is free once the gateway has noticed.
        let status = loop {
            let mut next = Connection::open(world.address()).await;
            next.send(&request("app1")).await;
            match next.reply(false).await.status {
                0 => tokio::task::yield_now().await,
                status => break status,
            }
        };
        assert_eq!(status, 200, "{reason}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_gone_after_the_write_stall() {
    let world = World::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(world.address()).await.unwrap();
    // More than any kernel's buffers.
    stream.write_all(&request("many").repeat(40)).await.unwrap();
    let stalled = async {
        while world.refused("write_stall").await == 0 {
            assert!(world.clock.passed() < Duration::from_mins(5), "H54");
        }
    };
    world.while_time_passes(stalled).await;
    let passed = world.clock.now().elapsed;
    assert!(passed >= Duration::from_secs(10), "H54: {passed:?}");
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn the_kernel_keeps_no_megabytes_for_a_caller_that_does_not_read() {
    let world = World::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(world.address()).await.unwrap();
    // Each answer has 200 kB. The kernel would take megabytes of them, and an answer is only worked on
    // when it has taken the one before.
    stream.write_all(&request("many").repeat(40)).await.unwrap();
    stream.readable().await.unwrap();
    for _ in 0..200 {
        world.admin("GET", "/healthz", "", "").await;
    }
    let worked_on = world.lookups().len();
    assert!((1..=3).contains(&worked_on), "{worked_on} answers");
}

#[tokio::test]
async fn a_caller_that_ends_within_the_http_2_preface_is_not_polled_again() {
    let world = World::new().await;
    for bytes in [&b"P"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut connection = Connection::open(world.address()).await;
        connection.send(bytes).await;
        connection.finish().await;
        let reply = world.soon(connection.reply(false)).await;
        assert!(reply.is_some(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_in_good_order_at_its_age_more_or_less_a_tenth() {
    let world = World::with(|plan| {
        set(&mut plan.config, "server.limits.connection_age", "30s");
    })
    .await;
    let mut connection = Connection::open(world.address()).await;
    connection.send(&request("app1")).await;
    assert_eq!(connection.reply(false).await.status, 200);
    world.advance(Duration::from_secs(26));
    connection.send(&request("app1")).await;
    assert_eq!(connection.reply(false).await.status, 200);
    world.advance(Duration::from_secs(7));
    assert!(world.closes(&mut connection).await);
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed_about_whose_connection_it_brings() {
    let trusting = World::with(|plan| {
        set(&mut plan.config, "server.proxy_protocol", true);
        let proxies = toml::Value::Array(vec!["127.0.0.0/8".into()]);
        set(&mut plan.config, "server.trusted_proxies", proxies);
    })
    .await;
    let first = b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n".to_vec();
    let second = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 1, 0xbb],
    ]
    .concat();
    for header in [&first, &second] {
        let reply = trusting
            .raw(&[&header[..], &request("app1")].concat())
            .await;
        assert_eq!(reply.status, 200);
        let records = trusting.lookups();
        assert_eq!(records[records.len() - 1]["peer"], "192.0.2.7:8080");
    }
    assert_eq!(trusting.raw(&request("app1")).await.status, 0);
    assert_eq!(trusting.refused("proxy_protocol").await, 1);

    let world = World::new().await;
    let reply = world.raw(&[&first[..], &request("app1")].concat()).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (400, "BAD_REQUEST")
    );
    // A07.
    let claim = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("Forwarded", "for=192.0.2.7"),
    ];
    world.get(&certs(PROJECT, "app1"), &claim).await;
    let peer = world.lookups()[0]["peer"].to_string();
    assert!(peer.contains("127.0.0.1:"), "{peer}");
}

/// A gateway in a process of its own, whose descriptors can be taken away.
struct Process(Child);

impl Process {
    async fn start(world: &World, config: &toml::Table) -> (Self, [SocketAddr; 2]) {
        let file = world.files.path().join("own.toml");
        fs::write(&file, config.to_string()).unwrap();
        let log = world.files.path().join("own.log");
        let out = fs::File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"))
            .args(["serve", "--config"])
            .arg(&file)
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        let gateway = Self(child);
        let mut glances = every(Duration::from_millis(5));
        loop {
            glances.tick().await;
            let said = fs::read_to_string(&log).unwrap_or_default();
            let address = |name: &str| -> Option<SocketAddr> {
                let (_, rest) = said.split_once(&format!("\"{name}\":\""))?;
                rest.split_once('"')?.0.parse().ok()
            };
            if let (Some(callers), Some(operators)) = (address("listen"), address("admin")) {
                return (gateway, [callers, operators]);
            }
        }
    }
}

impl Process {
    /// Leaves it what it has open by its own count, and so many more: nobody else but root may look.
    async fn leave(&self, operators: SocketAddr, descriptors: usize) {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let page = client::exchange(operators, request).await.text();
        let open = page
            .lines()
            .find_map(|line| line.strip_prefix("process_open_fds "));
        let open: usize = open.unwrap().parse().unwrap();
        let most = u64::try_from(open + descriptors).ok();
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        prlimit(Some(Pid::from_child(&self.0)), Resource::Nofile, limit).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_accept_loop_without_descriptors_lives_and_recovers() {
    let mut config = toml::Table::new();
    let world = World::with(|plan| config = plan.config.clone()).await;
    let files = world.files.path().display().to_string();
    set(&mut config, "atlas.base_url", world.atlas.base_url());
    set(&mut config, "audit.directory", format!("{files}/own-audit"));
    set(
        &mut config,
        "atlas.state_directory",
        format!("{files}/own-state"),
    );
    let (gateway, [address, operators]) = Process::start(&world, &config).await;
    gateway.leave(operators, 20).await;
    let mut open = Vec::new();
    let mut closed = 0;
    for _ in 0..200 {
        let mut connection = Connection::open(address).await;
        let end = tokio::time::timeout(Duration::from_millis(20), connection.is_closed()).await;
        match end {
            Ok(_) => closed += 1,
            Err(_) => open.push(connection),
        }
    }
    assert!(
        !open.is_empty() && closed > 100,
        "F82: {} open, {closed} closed",
        open.len()
    );
    drop(open);
    let mut attempts = 0;
    while client::exchange(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .status
        != 404
    {
        attempts += 1;
        assert!(attempts < 1_000, "F82: it does not recover");
        tokio::task::yield_now().await;
    }
    let page = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let page = client::exchange(operators, page).await.text();
    let ran_out = "atlas_cert_gateway_connections_refused_total{reason=\"descriptors\"}";
    assert!(page.contains(ran_out), "F82: {page}");
}
