//! Listening sockets that the service manager holds.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client;
use crate::client::Connection;
use crate::program::{Program, output, request, serve, world};

/// The program with sockets at descriptor 3 and from there on, as systemd passes them.
pub(super) fn activated(serve: &Command, names: &str, sockets: Vec<OwnedFd>) -> Command {
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    // A shell puts them there and keeps its process id when it becomes the program.
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null
         export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES='{names}'
         exec \"$0\" \"$@\""
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(serve.get_program());
    shell.args(serve.get_args());
    let mut next = || sockets.next().map_or_else(Stdio::null, Stdio::from);
    let (first, second) = (next(), next());
    shell.stdin(first).stdout(second);
    shell
}

fn listener() -> (SocketAddr, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener.into())
}

fn start(files: &Path, names: &str, sockets: Vec<OwnedFd>) -> Program {
    Program::run(&mut activated(&serve(files), names, sockets))
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_came_before_the_process_are_answered_on_the_socket_that_was_kept_for_it() {
    let (_atlas, files) = world().await;
    let (address, socket) = listener();
    let mut early = Connection::open(address).await;
    early.send(&request("close")).await;
    let program = start(files.path(), "atlas-cert-gateway.socket", vec![socket]);
    assert_eq!(program.address, address);
    assert_eq!(early.reply(false).await.status, 200);
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn each_door_gets_the_socket_of_its_name() {
    let (_atlas, files) = world().await;
    let ((public, first), (admin, second)) = (listener(), listener());
    let program = start(files.path(), "admin:public", vec![second, first]);
    assert_eq!((program.address, program.admin), (public, admin));
    let health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(client::exchange(admin, health).await.status, 200);
    let reply = client::exchange(public, &request("close")).await;
    assert_eq!(reply.status, 200);
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_listener_or_one_too_many_is_refused_and_what_is_for_another_process_left_alone()
{
    let (_atlas, files) = world().await;
    let (_, one) = listener();
    let (_, other) = listener();
    let datagrams = UnixDatagram::unbound().unwrap().into();
    let someone = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(someone.local_addr().unwrap()).unwrap();
    for (names, sockets, complaint) in [
        (
            "a:b",
            vec![one, other],
            "more sockets were passed than there are listeners",
        ),
        (
            "a",
            vec![datagrams],
            "socket 0 that was passed cannot be used",
        ),
        ("a", vec![connected.into()], "not a TCP socket that listens"),
    ] {
        let ended = output(&mut activated(&serve(files.path()), names, sockets));
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(complaint), "{said}");
    }
    let mut foreign = serve(files.path());
    foreign.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let program = Program::run(&mut foreign);
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
}
