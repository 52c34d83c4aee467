//! The server to compare with: hyper, and nothing behind it.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::load::Protocol;

/// The argument that makes this binary the bare server.
pub(crate) const MODE: &str = "--bare";

/// Starts this binary as the bare server that answers every request with `answer`, a whole HTTP/1.1
/// response as the gateway gave it.
pub(crate) fn command(answer: &Path, protocol: Protocol) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let protocol = match protocol {
        Protocol::Http1 => "1",
        Protocol::Http2 => "2",
    };
    command.arg(MODE).arg(answer).arg(protocol);
    command
}

/// Serves for ever; the address is printed.
pub(crate) fn serve(answer: &str, protocol: &str) {
    let answer = response(&fs::read(answer).unwrap());
    let is_http2 = protocol == "2";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    // Spawned, as the gateway's accept loop is: the thread that blocks here is no worker.
    let served = runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        eprintln!("\"listen\":\"{}\"", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            let service = service_fn(move |_| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer) }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                // The generator hangs up when it is done.
                if is_http2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .pipeline_flush(true)
                        .serve_connection(io, service)
                        .await;
                }
            });
        }
    });
    runtime.block_on(served).unwrap();
}

fn response(raw: &[u8]) -> Response<Full<Bytes>> {
    let end = memchr::memmem::find(raw, b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let body = Bytes::copy_from_slice(&raw[end + 4..]);
    let mut response = Response::new(Full::new(body));
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        // hyper writes these itself, as it does for the gateway.
        if name != "date" && name != "content-length" {
            response.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
    }
    response
}
