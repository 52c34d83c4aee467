//! What a client of HTTP/2 that is strict about its answers gets.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::connect;
use crate::world::{PROJECT, World, certs, token};

/// Sends one request with so many header lines besides.
async fn exchange(
    world: &World,
    method: &str,
    target: &str,
    besides: usize,
) -> (u16, HeaderMap, Bytes) {
    let stream = TokioIo::new(connect(world).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://gateway.test{target}"))
        .header("authorization", format!("Bearer {}", token()));
    for number in 0..besides {
        request = request.header(format!("x-{number}"), "x");
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    // To be given content in an answer to HEAD is an error to this client.
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, body)
}

#[tokio::test]
async fn c18_over_http_2_too_head_is_get_without_the_body() {
    let world = World::new().await;
    world.ask("app1").await;
    for (username, status) in [("app1", 200), ("secret-keeper", 403), ("nobody", 404)] {
        let target = certs(PROJECT, username);
        let (got, head, nothing) = exchange(&world, "HEAD", &target, 0).await;
        assert_eq!((got, nothing.len()), (status, 0), "{username}");
        let (got, get, body) = exchange(&world, "GET", &target, 0).await;
        assert_eq!(got, status, "{username}");
        assert_eq!(get["content-length"], body.len().to_string(), "{username}");
        for name in ["content-length", "content-type", "cache-control"] {
            assert_eq!(head[name], get[name], "{username} {name}");
        }
        assert_eq!(head.get("etag"), get.get("etag"), "{username}");
    }
    assert_eq!(world.lookups().len(), 7);
}

#[tokio::test]
async fn h18_over_http_2_too_there_are_no_more_than_64_header_lines() {
    let world = World::new().await;
    let target = certs(PROJECT, "app1");
    let (status, _, _) = exchange(&world, "GET", &target, 63).await;
    assert_eq!(status, 200);
    let (status, _, body) = exchange(&world, "GET", &target, 64).await;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &document["errorCode"]),
        (431, &"HEADERS_TOO_LARGE".into())
    );
    assert_eq!(world.refused("too_many").await, 1);
}
