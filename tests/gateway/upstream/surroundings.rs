//! What surrounds the program: its files, its proxy and its environment.

use std::process::Command;

use atlas_cert_gateway::upstream::{BuildOptions, Config, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::upstream::world::World;

#[tokio::test]
async fn mistakes_in_files_are_found_at_the_start_each_with_its_place() {
    let world = World::new().await;
    let mut config = world.config.clone();
    config.ca_certificate = Some("/nowhere/ca.pem".into());
    let account = config.credentials[0].service_account.as_mut().unwrap();
    account.client_secret = None;
    account.client_secret_file = Some("/nowhere/secret".into());
    let places = |config: &Config| {
        let options = BuildOptions::default();
        let (clock, metrics) = (world.clock.clone(), world.metrics.clone());
        let built = Upstream::build(config, clock, metrics, options);
        let config_errors = built.err().unwrap();
        config_errors
            .into_iter()
            .map(|config_error| config_error.place)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        places(&config),
        [
            "atlas.ca_certificate",
            "atlas.credentials[0].service_account.client_secret_file"
        ]
    );
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let world = World::with(
        |_| (),
        |config| config.proxy = Some(format!("http://{address}")),
    )
    .await;
    let expected = format!(
        "POST {}/api/oauth/token HTTP/1.1\r\n",
        world.atlas.base_url()
    );
    let (result, ()) = tokio::join!(world.ask(), async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = vec![0; expected.len()];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(String::from_utf8(head).unwrap(), expected);
        drop(stream);
    });
    assert!(result.is_err());
    assert_eq!(world.atlas.all_calls(), 0);
}

#[test]
fn u06_proxies_in_the_environment_are_not_used() {
    let nowhere = "http://127.0.0.1:1";
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "upstream::network::over_tls_http_2_is_spoken_and_an_own_root_is_trusted",
    ]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        again.env(name, nowhere).env(name.to_lowercase(), nowhere);
    }
    let output = again.env("NO_PROXY", "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
