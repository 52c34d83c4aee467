//! Configurations that can never work: `check` refuses them as `serve` does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::checked;
use crate::program::{output, serve, world_with};
use crate::upstream::network::Authority;
use crate::world::set;

fn write(path: &Path, content: &str, mode: u32) -> String {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

/// Makes a configuration one that can never work.
type Change = fn(&mut toml::Table, &Path);

/// How it is called, what does it, and what is said.
type Case = (&'static str, Change, &'static str);

const NEVER: [Case; 12] = [
    (
        "a file in the place of the trail",
        |config, files| {
            set(
                config,
                "audit.directory",
                write(&files.join("file"), "", 0o600),
            );
        },
        "audit.directory: ",
    ),
    (
        "a file on the way to the trail",
        |config, files| {
            set(
                config,
                "audit.directory",
                write(&files.join("file"), "", 0o600) + "/below",
            );
        },
        "is no directory; name another place",
    ),
    (
        "a file in the place of the state",
        |config, files| {
            set(
                config,
                "atlas.state_directory",
                write(&files.join("file"), "", 0o600),
            );
        },
        "atlas.state_directory: ",
    ),
    (
        "one address for both",
        |config, _| {
            set(config, "server.listen", "127.0.0.1:8080");
            set(config, "admin.listen", "0.0.0.0:8080");
        },
        "admin.listen (line ",
    ),
    (
        "traces over TLS",
        |config, _| set(config, "telemetry.otlp_endpoint", "https://collector:4317"),
        "is https, which is not spoken here",
    ),
    (
        "traces with a password",
        |config, _| {
            set(
                config,
                "telemetry.otlp_endpoint",
                "http://a:secret-word@b:4317",
            );
        },
        "names a user",
    ),
    (
        "a sink that is no socket",
        |config, files| {
            let file = write(&files.join("file"), "", 0o600);
            set(config, "audit.second.to", format!("unix://{file}"));
        },
        "is no socket",
    ),
    (
        "a sink for datagrams",
        |config, files| {
            let path = files.join("datagrams");
            drop(UnixDatagram::bind(&path).unwrap());
            set(
                config,
                "audit.second.to",
                format!("unix://{}", path.display()),
            );
        },
        "is no socket",
    ),
    (
        "a deny file that is not there",
        |config, files| {
            set(
                config,
                "access.deny_file",
                files.join("nowhere").display().to_string(),
            );
        },
        "access.deny_file: ",
    ),
    (
        "a key that everybody may read",
        |config, files| tls(config, files, (0o644, 0o644)),
        "server.tls.private_key: ",
    ),
    (
        "a certificate that everybody may write to",
        |config, files| tls(config, files, (0o646, 0o600)),
        "everybody may write to it (mode 646); run `chmod o-w` on it",
    ),
    (
        "a certificate file without one",
        |config, files| {
            tls(config, files, (0o644, 0o600));
            write(&files.join("certificate"), "", 0o644);
        },
        "it holds no certificate; it must begin with -----BEGIN CERTIFICATE-----",
    ),
];

#[tokio::test]
async fn what_can_never_work_is_refused_by_check_as_by_serve() {
    for (name, change, expected) in NEVER {
        let (_atlas, files) = world_with(|_| {}).await;
        let file = files.path().join("gateway.toml");
        let mut config: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        change(&mut config, files.path());
        // A socket is one as long as somebody holds it.
        let _datagrams = (name == "a sink for datagrams").then(|| {
            let path = files.path().join("datagrams");
            fs::remove_file(&path).unwrap();
            UnixDatagram::bind(path).unwrap()
        });
        let expected = match name {
            "a sink for datagrams" => "is a socket for datagrams",
            _ => expected,
        };
        fs::write(&file, config.to_string()).unwrap();
        let (code, _, said) = checked(files.path(), &[]);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains("secret-word"), "{name}: {said}");
        let served = output(&mut serve(files.path()));
        let said = String::from_utf8(served.stderr).unwrap();
        assert_eq!(served.status.code(), Some(78), "{name}: {said}");
        assert!(!said.contains("secret-word"), "{name}: {said}");
    }
}

/// Files for TLS with these modes.
fn tls(config: &mut toml::Table, files: &Path, (certificate, key): (u32, u32)) {
    let made = Authority::new().tls("localhost", false);
    let chain = write(
        &files.join("certificate"),
        &made.certificate_chain,
        certificate,
    );
    set(config, "server.tls.certificate", chain);
    let private = write(&files.join("key"), &made.private_key, key);
    set(config, "server.tls.private_key", private);
}
