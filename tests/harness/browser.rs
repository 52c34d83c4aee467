//! Chromium, driven by a few calls of `WebDriver`, with a profile of its own; it ends with its value.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::files::Files;
use super::servers::{CHROMEDRIVER, axe_core};
use super::world::every;

pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: Files,
}

impl Browser {
    /// Starts one; `None` where there is none to start.
    pub(crate) async fn start() -> Option<Self> {
        let program = CHROMEDRIVER.wanted()?;
        let profile = Files::new();
        // It takes a port for IPv4, and ends where another program has the same one for IPv6.
        let begun = (0..ATTEMPTS).find_map(|_| Self::begin(&program, &profile));
        let (driver, port) = begun.expect("ChromeDriver can be started");
        let mut browser = Self {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            profile,
        };
        let capabilities = browser.capabilities();
        let begun = browser.call("POST", "/session", &capabilities).await;
        let begun = begun.unwrap();
        let session = begun["sessionId"].as_str().unwrap();
        session.clone_into(&mut browser.session);
        Some(browser)
    }

    /// Starts the driver; on which port, if it did not end at once.
    fn begin(program: &Path, profile: &Files) -> Option<(Child, u16)> {
        let mut command = Command::new(program);
        command.arg("--port=0").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        // Whatever it leaves goes with the profile.
        command
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path());
        // The browser is in it, too.
        command.process_group(0);
        let mut driver = command.spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let Some(port) = port else {
            driver.wait().unwrap();
            return None;
        };
        // What else it says is read by nobody, and it must not wait for that.
        std::thread::spawn(move || lines.count());
        Some((driver, port))
    }

    fn capabilities(&self) -> Value {
        let profile = self.profile.path().join("profile");
        json!({"capabilities": {"alwaysMatch": {
            "timeouts": {"script": null},
            "goog:chromeOptions": {"args": [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                format!("--user-data-dir={}", profile.display()),
            ]},
        }}})
    }

    pub(crate) async fn open(&self, url: &str) {
        self.tell("POST", "url", &json!({ "url": url })).await;
    }

    /// What a script comes to: the body of a function.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let script = json!({ "script": script, "args": [] });
        self.tell("POST", "execute/sync", &script).await
    }

    /// What can be read on the page.
    pub(crate) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }

    /// Clicks on what leads to another page, and waits until that is there.
    pub(crate) async fn follow(&self, selector: &str) {
        self.run("window.isLeft = true").await;
        let element = self.element(selector).await;
        let command = format!("element/{element}/click");
        self.tell("POST", &command, &json!({})).await;
        let script = "return !window.isLeft && document.readyState === 'complete'";
        let script = json!({ "script": script, "args": [] });
        let path = format!("/session/{}/execute/sync", self.session);
        let mut glances = every(Duration::from_millis(5));
        loop {
            let is_there = self.call("POST", &path, &script).await;
            if is_there == Ok(json!(true)) {
                return;
            }
            // Between two pages no script of ours is run; and on them none of others.
            let alert = |error: &Value| error["error"] == "unexpected alert open";
            assert!(!is_there.is_err_and(|error| alert(&error)));
            glances.tick().await;
        }
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        let command = format!("element/{element}/value");
        self.tell("POST", &command, &json!({ "text": text })).await;
    }

    /// Makes the window so wide, and its owner one who likes it dark or does not.
    pub(crate) async fn look(&self, width: u32, dark: bool) {
        let size = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
            .await;
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        let media = json!({ "features": [feature] });
        self.devtools("Emulation.setEmulatedMedia", &media).await;
    }

    /// Keeps a picture of the whole page, in `SCREENSHOTS` or among cargo's own files.
    pub(crate) async fn keep_picture(&self, name: &str) {
        let whole = json!({"captureBeyondViewport": true});
        let picture = self.devtools("Page.captureScreenshot", &whole).await;
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let directory = env::var_os("SCREENSHOTS").map_or_else(
            || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("status-page"),
            PathBuf::from,
        );
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{name}.png")), picture).unwrap();
    }

    /// The rules of accessibility that the page breaks, and how many it keeps; `None` without the rules.
    pub(crate) async fn accessibility(&self) -> Option<(Vec<String>, u64)> {
        let rules = fs::read_to_string(axe_core()?).unwrap();
        let script = format!("{rules}\n{JUDGE}");
        let script = json!({ "script": script, "args": [] });
        let judged = self.tell("POST", "execute/async", &script).await;
        let broken = judged["broken"]
            .as_array()
            .unwrap_or_else(|| panic!("{judged}"));
        let broken = broken.iter().map(ToString::to_string).collect();
        Some((broken, judged["kept"].as_u64().unwrap()))
    }

    async fn element(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.tell("POST", "element", &wanted).await;
        let mut ids = found.as_object().unwrap().values();
        ids.next().unwrap().as_str().unwrap().to_owned()
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let command = json!({"cmd": command, "params": parameters});
        self.tell("POST", "goog/cdp/execute", &command).await
    }

    async fn tell(&self, method: &str, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        self.call(method, &path, body).await.unwrap()
    }

    /// What the driver answers; what it says of an error, otherwise.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .body(body.to_string())
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        connection.abort();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        let value = answer["value"].take();
        if head.status == 200 {
            Ok(value)
        } else {
            Err(value)
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With the browser and all that it has begun, so that nobody goes on writing into the profile.
        kill_process_group(Pid::from_child(&self.driver), Signal::KILL).unwrap();
        self.driver.wait().unwrap();
    }
}

const JUDGE: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document).then(
        (result) => done({
            kept: result.passes.length,
            broken: result.violations.map((rule) => ({ id: rule.id, nodes: rule.nodes.map((node) => node.html) })),
        }),
        (problem) => done(String(problem)),
    );";

const ATTEMPTS: usize = 10;
