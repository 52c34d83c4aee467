//! The socket: going down and up, HTTP/2, TLS, the end.

use std::io::ErrorKind;

use atlas_simulator::{Asked, Ending, Fault, Tls};
use http::Version;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use tokio::net::TcpSocket;

use crate::client::{Fixture, certificates};

#[tokio::test]
async fn a_host_that_is_down_comes_back_on_the_same_port() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let address = fixture.atlas.local_addr();
    let ask = async || {
        let request = fixture.http.get(fixture.url("/")).bearer_auth(&token);
        request
            .send()
            .await
            .map(|response| response.status().as_u16())
    };
    assert_eq!(ask().await.unwrap(), 404);
    fixture.atlas.stop_accepting().await.unwrap();
    assert!(ask().await.is_err());
    assert!(ask().await.unwrap_err().is_connect());
    fixture.atlas.resume().await.unwrap();
    assert_eq!(ask().await.unwrap(), 404);
    assert_eq!(fixture.atlas.local_addr(), address);
    assert_eq!(fixture.atlas.connections_accepted(), 2);
}

#[tokio::test]
async fn the_port_of_a_host_that_is_down_is_kept_for_it() {
    let fixture = Fixture::start().await;
    fixture.atlas.stop_accepting().await.unwrap();
    let other = TcpSocket::new_v4().unwrap();
    let refused = other.bind(fixture.atlas.local_addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_client_that_is_told_to_go_away_comes_back_on_a_new_connection() {
    let fixture = Fixture::start().await;
    let ask = || fixture.http.get(fixture.url("/")).send();
    let rule = fixture.atlas.on(Asked::anything()).nth(2);
    rule.respond(Fault::go_away());
    for connections in [1, 1, 2] {
        let response = ask().await.unwrap();
        assert!(!response.text().await.unwrap().is_empty());
        assert_eq!(fixture.atlas.connections_accepted(), connections);
    }
}

#[tokio::test]
async fn a_dropped_simulator_ends_its_connections_also_those_it_holds() {
    let Fixture {
        atlas,
        http,
        clock: _,
    } = Fixture::start().await;
    let gate = atlas.on(Asked::anything()).hold();
    let held = tokio::spawn(http.get(atlas.base_url()).send());
    gate.arrived(1).await;
    drop(atlas);
    assert!(held.await.unwrap().is_err());
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_spoken_and_its_streams_can_break() {
    let mut fixture = Fixture::start().await;
    let builder = Client::builder().no_proxy().redirect(Policy::none());
    fixture.http = builder
        .http2_prior_knowledge()
        .retry(reqwest::retry::never())
        .build()
        .unwrap();
    let response = fixture.certificates("app1").await;
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    let on = || fixture.atlas.on(Asked::certificates()).once();
    let request = fixture.get(&certificates("app1")).await;
    let ask = || request.try_clone().unwrap().send();
    on().respond(Fault::reset_stream(7));
    assert!(ask().await.is_err());
    on().respond(Fault::cut_after_body(10, Ending::Fin));
    assert!(ask().await.unwrap().bytes().await.is_err());
    on().respond(Fault::go_away());
    assert_eq!(ask().await.unwrap().status(), 200);
    on().respond(Fault::cut_before_head(Ending::Reset));
    assert!(ask().await.is_err());
    assert_eq!(ask().await.unwrap().status(), 200);
}

#[tokio::test]
async fn tls_is_spoken_with_the_certificate_that_a_test_gives() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let tls = Tls {
        certificate_chain: pem.clone(),
        private_key: made.signing_key.serialize_pem(),
    };
    let mut fixture = Fixture::start_with(|settings| settings.tls = Some(tls)).await;
    let refused = fixture.http.get(fixture.url("/")).send().await.unwrap_err();
    assert!(refused.is_connect());
    let roots = [Certificate::from_pem(pem.as_bytes()).unwrap()];
    fixture.http = Client::builder()
        .no_proxy()
        .tls_certs_only(roots)
        .build()
        .unwrap();
    let response = fixture.certificates("app1").await;
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (Version::HTTP_2, 200)
    );
}
