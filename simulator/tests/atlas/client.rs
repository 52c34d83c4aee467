//! A client that does exactly what a test tells it, and a simulator with a small world.

use std::io;
use std::time::{Duration, SystemTime};

use atlas_simulator::{CLIENT_ID, CLIENT_SECRET, ManualClock, Settings, Simulator, World};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const G: &str = "32b6e34b3d91647abb20e7b8";
pub(crate) const ACCEPT: &str = "application/vnd.atlas.2023-01-01+json";

pub(crate) struct Fixture {
    pub(crate) atlas: Simulator,
    pub(crate) clock: ManualClock,
    pub(crate) http: Client,
}

impl Fixture {
    /// `app1` with two certificates, `crowd` with 1,203, `CN=a/b` with one.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000));
        let mut world = World::new(clock.now());
        let mut project = world.project(G);
        project.user("app1").certificates(2);
        project.user("crowd").certificates(1_203);
        project.user("CN=a/b").certificates(1);
        let mut settings = Settings {
            now: clock.reader(),
            ..Settings::with_world(world)
        };
        change(&mut settings);
        let atlas = Simulator::start(settings).await.unwrap();
        Self {
            atlas,
            clock,
            http: client(),
        }
    }

    /// Asks for a token as a service account does.
    pub(crate) async fn mint(&self) -> Response {
        self.mint_as(CLIENT_ID, CLIENT_SECRET).await
    }

    pub(crate) async fn mint_as(&self, id: &str, secret: &str) -> Response {
        let request = self
            .http
            .post(self.url("/api/oauth/token"))
            .basic_auth(id, Some(secret));
        let form = "application/x-www-form-urlencoded";
        let request = request
            .header("content-type", form)
            .body("grant_type=client_credentials");
        request.send().await.unwrap()
    }

    pub(crate) async fn token(&self) -> String {
        let document = json(self.mint().await).await;
        document["access_token"].as_str().unwrap().to_owned()
    }

    /// A request for a path on v2, with the right `Accept` and a new token.
    pub(crate) async fn get(&self, path: &str) -> RequestBuilder {
        let token = self.token().await;
        self.http
            .get(self.url(path))
            .header("accept", ACCEPT)
            .bearer_auth(token)
    }

    /// The certificates of a user, whose name is one segment as it is to be sent.
    pub(crate) async fn certificates(&self, segment: &str) -> Response {
        self.get(&certificates(segment)).await.send().await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.atlas.base_url())
    }
}

pub(crate) fn client() -> Client {
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never());
    client.build().unwrap()
}

pub(crate) fn certificates(segment: &str) -> String {
    format!("/api/atlas/v2/groups/{G}/databaseUsers/{segment}/certs")
}

pub(crate) async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub(crate) async fn error_code(response: Response) -> String {
    json(response).await["errorCode"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Sends exactly this target and returns the whole answer as text.
pub(crate) async fn raw_get(atlas: &Simulator, target: &str, token: &str) -> String {
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: atlas\r\nAccept: {ACCEPT}\r\n\
         Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    raw(atlas, &head).await.unwrap()
}

/// Sends these bytes and reads until the end of the connection.
pub(crate) async fn raw(atlas: &Simulator, head: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(atlas.local_addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
