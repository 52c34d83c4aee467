//! `lookup` and `expirations`: a running gateway, asked by people.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Program, command, output, token_now, world_with};
use crate::world::{PROJECT, write_private};

struct Asked {
    program: Program,
    files: TempDir,
}

impl Asked {
    fn run(&self, words: &[&str]) -> Output {
        let url = format!("http://{}", self.program.address);
        let file = self.files.path().join("token");
        write_private(&file, &format!("{}\n", token_now()));
        let mut command = command();
        command
            .arg(words[0])
            .args(["--url", &url, "--group", PROJECT]);
        output(command.arg("--token-file").arg(file).args(&words[1..]))
    }

    fn said(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{words:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_when_certificates_end_and_cron_is_told_by_the_exit_code() {
    let (atlas, files) = world_with(|_| {}).await;
    let soon = atlas_cert_gateway::system::Clock::system()
        .now()
        .wall
        .plus(Duration::from_hours(50));
    atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user("=soon").certificate_until(soon.into());
    });
    let asked = Asked {
        program: Program::start(files.path()),
        files,
    };
    let table = asked.said(&["lookup", "--username", "=soon"], 0);
    assert!(table.starts_with("ID "), "{table}");
    assert!(
        table.contains("CN==soon") && table.contains("  2\n"),
        "{table}"
    );
    assert!(
        table.contains("FROM atlas-cert-gateway; fwd=miss; stored"),
        "{table}"
    );
    let json = asked.said(&["lookup", "--username", "=soon", "--format", "json"], 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["totalCount"], 1);
    let csv = asked.said(&["lookup", "--username", "app1", "--format", "csv"], 0);
    assert!(
        csv.starts_with("id,subject,created,ends,days_left\r\n"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 3);
    let table = asked.said(&["expirations", "--within", "7d"], 3);
    assert!(
        table.contains("=soon") && table.contains("1 of 2 users"),
        "{table}"
    );
    let csv = asked.said(&["expirations", "--within", "7d", "--format", "csv"], 3);
    assert!(csv.contains("'=soon"), "{csv}");
    let calendar = asked.said(&["expirations", "--format", "ics"], 3);
    assert!(calendar.starts_with("BEGIN:VCALENDAR"), "{calendar}");
    asked.said(&["expirations", "--within", "1d"], 0);
    // What goes wrong is said with what to do, and never with the token.
    for (words, wanted) in [
        (
            &["lookup", "--username", "nobody"][..],
            "404 Not Found USERNAME_NOT_FOUND",
        ),
        (
            &[
                "lookup",
                "--username",
                "x",
                "--group",
                "000000000000000000000001",
            ],
            "error: the argument",
        ),
        (&["expirations", "--within", "x"], "INVALID_QUERY_PARAMETER"),
    ] {
        let output = asked.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        assert!(said.contains(wanted), "{words:?}: {said}");
        assert!(
            !said.contains(token_now().split('.').next().unwrap()),
            "{said}"
        );
    }
    let mut clear = command();
    clear.args([
        "lookup",
        "--url",
        "http://certs.example",
        "--group",
        PROJECT,
        "--username",
        "x",
    ]);
    let output = output(
        clear
            .arg("--token-file")
            .arg(asked.files.path().join("token")),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in clear"));
}
