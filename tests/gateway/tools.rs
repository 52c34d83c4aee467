//! The gateway as programs of others see it: those that `CLIENT_TOOLS` names, which `config/check` sets to
//! what is installed. Without it there is nothing to run.

use std::env;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::authority::Authority;
use crate::world::{PROJECT, World, certs, operator_token, token};

fn run(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said)
}

/// `GET` over clear text and over TLS, each with every HTTP that both sides speak.
fn curl(plain: &World, tls: &World, authority: &Authority) {
    let (path, authorization) = (
        certs(PROJECT, "app1"),
        format!("Authorization: Bearer {}", token()),
    );
    for (scheme, world, version, spoken) in [
        ("http", plain, "--http1.0", "1"),
        ("http", plain, "--http1.1", "1.1"),
        ("http", plain, "--http2-prior-knowledge", "2"),
        // The change of protocol is offered and not taken.
        ("http", plain, "--http2", "1.1"),
        ("https", tls, "--http1.1", "1.1"),
        ("https", tls, "--http2", "2"),
    ] {
        let port = world.address().port();
        let url = format!("{scheme}://gateway.test:{port}{path}");
        let mut command = Command::new("curl");
        command.args(["--resolve", &format!("gateway.test:{port}:127.0.0.1")]);
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--compressed",
        ]);
        command.args([
            version,
            "--cacert",
            &authority.path("ca.pem"),
            "--header",
            &authorization,
        ]);
        command.args(["--write-out", "\n%{http_version}", &url]);
        let (output, said) = run(&mut command);
        assert!(output.status.success(), "curl {version} {scheme}: {said}");
        let (body, version_spoken) = said.rsplit_once('\n').unwrap();
        let list: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(list["totalCount"], 2, "curl {version} {scheme}");
        assert_eq!(version_spoken, spoken, "curl {version} {scheme}");
    }
}

/// The handshake, by its versions.
fn openssl(tls: &World, authority: &Authority) {
    let address = format!("127.0.0.1:{}", tls.address().port());
    for (version, agreed) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false)] {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &address,
            "-alpn",
            "h2,http/1.1",
            version,
        ]);
        command.args(["-CAfile", &authority.path("ca.pem"), "-verify_return_error"]);
        let (output, said) = run(&mut command);
        assert_eq!(output.status.success(), agreed, "openssl {version}: {said}");
        if agreed {
            assert!(
                said.contains("Verify return code: 0 (ok)"),
                "{version}: {said}"
            );
            assert!(said.contains("ALPN protocol: h2"), "{version}: {said}");
        }
    }
}

fn h2load(plain: &World) {
    let mut command = Command::new("h2load");
    let url = format!(
        "http://127.0.0.1:{}{}",
        plain.address().port(),
        certs(PROJECT, "app1")
    );
    let header = format!("--header=authorization: Bearer {}", token());
    command.args([
        "--requests=2000",
        "--clients=10",
        "--max-concurrent-streams=20",
        &header,
        &url,
    ]);
    let (_, said) = run(&mut command);
    assert!(said.contains("2000 2xx"), "{said}");
}

/// The list of three pages by its links, as the standard library of Python asks.
fn python(plain: &World) {
    let program = r#"
import json, sys, urllib.request
url, token = sys.argv[1:]
ids = []
while url:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    page = json.load(urllib.request.urlopen(request))
    ids += [result["_id"] for result in page["results"]]
    url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
assert len(set(ids)) == 1203, len(ids)
"#;
    let url = format!(
        "http://{}{}?itemsPerPage=500",
        plain.address(),
        certs(PROJECT, "many")
    );
    let (output, said) = run(Command::new("python3").args(["-c", program, &url, &token()]));
    assert!(output.status.success(), "python3: {said}");
}

/// `fetch`, with the line by which the document keeps each `_id` whole.
fn node(plain: &World) {
    let (_, recipe) = include_str!("../../docs/clients.md")
        .split_once("const text = ")
        .unwrap();
    let (recipe, _) = recipe.split_once("```").unwrap();
    let program = format!(
        "const [url, token] = process.argv.slice(1);
        (async () => {{
            const response = await fetch(url, {{ headers: {{ authorization: `Bearer ${{token}}` }} }});
            const text = {recipe}
            console.log(list.results.map((result) => result._id).join());
        }})();"
    );
    let url = format!("http://{}{}", plain.address(), certs(PROJECT, "app1"));
    let (output, said) = run(Command::new("node").args(["-e", &program, &url, &token()]));
    assert!(output.status.success(), "node: {said}");
    let serials = plain
        .atlas
        .world(|atlas| atlas.project(PROJECT).user("app1").serials());
    let ids: Vec<String> = serials.iter().map(ToString::to_string).collect();
    assert_eq!(said.trim(), ids.join(","), "node");
}

/// Both clients of Java's library, the newer one with what it offers in clear text.
fn java(plain: &World) {
    let program = plain.files.path().join("Ask.java");
    std::fs::write(
        &program,
        r#"
import java.net.*;
import java.net.http.*;
public class Ask {
    public static void main(String[] arguments) throws Exception {
        var url = new URL(arguments[0]);
        var connection = (HttpURLConnection) url.openConnection();
        connection.setRequestProperty("Authorization", "Bearer " + arguments[1]);
        var first = new String(connection.getInputStream().readAllBytes());
        var request = HttpRequest.newBuilder(url.toURI()).header("Authorization", "Bearer " + arguments[1]);
        var second = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (second.statusCode() != 200 || !first.equals(second.body()) || !first.contains("\"totalCount\":2"))
            throw new Exception(first + second.body());
    }
}
"#,
    )
    .unwrap();
    let url = format!("http://{}{}", plain.address(), certs(PROJECT, "app1"));
    let (output, said) = run(Command::new("java").arg(&program).args([&url, &token()]));
    assert!(output.status.success(), "java: {said}");
}

/// The metrics page, by who reads it.
fn promtool(page: &str, files: &World) {
    let file = files.files.path().join("metrics");
    std::fs::write(&file, page).unwrap();
    let page = std::fs::File::open(file).unwrap();
    let mut command = Command::new("promtool");
    let output = command
        .args(["check", "metrics"])
        .stdin(page)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What expires, as a calendar and as a sheet, read by the Python that `icalendar` belongs to.
async fn icalendar(plain: &World) {
    let name = "CN=M\u{fc}ller; O=Gr\u{f6}\u{df}e, und \\ ein sehr langer Name, der gefaltet wird, weil er l\u{e4}nger ist";
    let end = plain.clock.now().wall.plus(Duration::from_hours(24));
    plain.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user(name).certificate_until(end.into());
    });
    plain.ask(name).await;
    let files = tempfile::tempdir().unwrap();
    for format in ["ics", "csv"] {
        let target = format!("/gateway/v1/groups/{PROJECT}/expirations?format={format}&within=1d");
        let reply = plain.get(&target, &[]).await;
        std::fs::write(files.path().join(format), &reply.body).unwrap();
    }
    std::fs::write(files.path().join("name"), name).unwrap();
    let located = String::from_utf8(
        Command::new("which")
            .arg("icalendar")
            .output()
            .unwrap()
            .stdout,
    );
    let python = std::path::Path::new(located.unwrap().trim()).with_file_name("python3");
    let mut command = Command::new(python);
    let (output, said) = run(command.current_dir(files.path()).args(["-c", READ_BACK]));
    assert!(output.status.success(), "{said}");
}

const READ_BACK: &str = r#"
import csv, icalendar
name = open("name", encoding="utf-8").read()
events = list(icalendar.Calendar.from_ical(open("ics", "rb").read()).walk("VEVENT"))
assert len(events) == 1, events
assert str(events[0]["SUMMARY"]) == f"Certificate of {name} ends", events[0]["SUMMARY"]
assert name in str(events[0]["DESCRIPTION"])
assert events[0].decoded("DTSTART").isoformat() == "2026-11-22T12:00:00+00:00"
assert len(events[0].walk("VALARM")) == 1
rows = list(csv.DictReader(open("csv", newline="", encoding="utf-8")))
assert [row["username"] for row in rows] == [name], rows
assert rows[0]["not_after"] == "2026-11-22T12:00:00Z"
"#;

/// Requests that the `OpenAPI` document allows, and some that it does not; each answer has to be one of its.
fn schemathesis(plain: &World) {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/config/openapi.json");
    let files = tempfile::tempdir().unwrap();
    for (tag, address, token) in [
        ("callers", plain.app.address(), token()),
        ("document", plain.app.address(), token()),
        ("operators", plain.app.admin_address(), operator_token()),
    ] {
        let mut command = Command::new("schemathesis");
        // It keeps what it has found where it is started.
        command.current_dir(files.path());
        command.args(["run", document, "--url", &format!("http://{address}")]);
        command.args(["--include-tag", tag, "--header"]);
        command.arg(format!("Authorization: Bearer {token}"));
        command.args(["--checks", "all", "--mode", "all", "--seed", "1"]);
        command.args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "60",
        ]);
        // What exists at Atlas is not in the document, and what Atlas refuses is no fault of it.
        command.args(["--exclude-checks", "positive_data_acceptance"]);
        let (output, said) = run(&mut command);
        assert!(output.status.success(), "{tag}: {said}");
    }
}

// The gateway answers while a tool is waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "what is installed is no setting of the gateway"
)]
#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_others_are_satisfied() {
    let tools = env::var("CLIENT_TOOLS").unwrap_or_default();
    let authority = Authority::new();
    let (plain, tls) = (World::new().await, authority.world(false).await);
    plain.ask("app1").await;
    for tool in tools.split_whitespace() {
        match tool {
            "curl" => curl(&plain, &tls, &authority),
            "h2load" => h2load(&plain),
            "icalendar" => icalendar(&plain).await,
            "java" => java(&plain),
            "node" => node(&plain),
            "python3" => python(&plain),
            "schemathesis" => schemathesis(&plain),
            "openssl" => openssl(&tls, &authority),
            "promtool" => {
                let page = plain.admin("GET", "/metrics", "", "").await.text();
                promtool(&page, &plain);
            }
            unknown => panic!("nothing is known of the tool {unknown}"),
        }
    }
}
