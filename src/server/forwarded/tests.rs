use std::net::SocketAddr;

use super::*;

/// What is made of header lines behind trusted proxies in `10.0.0.0/8` and `2001:db8::/32`.
fn told(lines: &[(&'static str, &str)]) -> Result<Forwarded, Contradictory> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let trusted = serde_json::from_value(networks.as_slice().into()).unwrap();
    Forwarded::read(&headers, &trusted)
}

/// The same as source, scheme and host, each `-` where no proxy has said it.
fn summary(lines: &[(&'static str, &str)]) -> String {
    let Ok(told) = told(lines) else {
        return "refused".to_owned();
    };
    let source = told.source.map(|node| match node.port {
        Some(port) => SocketAddr::new(node.address, port).to_string(),
        None => node.address.to_string(),
    });
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let scheme = told.scheme.map(str::to_owned);
    format!(
        "{} {} {}",
        or_none(source),
        or_none(scheme),
        or_none(told.host)
    )
}

#[test]
fn the_source_is_the_last_address_that_is_no_trusted_proxys() {
    for (chain, source) in [
        ("192.0.2.7", "192.0.2.7"),
        // What the caller wrote stands before what the proxy added.
        ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("192.0.2.7,10.0.0.3,10.0.0.2", "192.0.2.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.7:4711", "192.0.2.7:4711"),
        ("2001:db9::1, 2001:db8::1", "2001:db9::1"),
        ("[2001:db9::1]:4711", "[2001:db9::1]:4711"),
        ("[2001:db9::1]", "2001:db9::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "-"),
        ("192.0.2.7, unknown", "-"),
        ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.7, ", "-"),
        ("", "-"),
    ] {
        let older = [("x-forwarded-for", chain)];
        assert_eq!(summary(&older), format!("{source} - -"), "{chain:?}");
        if chain.is_empty() || chain.ends_with(", ") {
            continue;
        }
        let quoted = chain
            .split(',')
            .map(|node| format!("for=\"{}\"", node.trim()));
        let standard = quoted.collect::<Vec<String>>().join(", ");
        let standard = [("forwarded", &*standard)];
        assert_eq!(summary(&standard), format!("{source} - -"), "{chain:?}");
    }
}

#[test]
fn lines_of_one_header_are_one_list() {
    for name in ["x-forwarded-for", "forwarded"] {
        let [first, second] = if name == "forwarded" {
            ["for=192.0.2.7", "for=10.0.0.2"]
        } else {
            ["192.0.2.7", "10.0.0.2"]
        };
        let source = summary(&[(name, first), (name, second)]);
        assert_eq!(source, "192.0.2.7 - -", "{name}");
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn scheme_and_host_are_those_of_the_outermost_trusted_proxy() {
    for (lines, expected) in [
        (
            &[("forwarded", "for=192.0.2.7;proto=https;host=certs.internal")][..],
            "192.0.2.7 https certs.internal",
        ),
        (
            &[(
                "forwarded",
                "For=192.0.2.7; Proto=HTTPS; Host=\"certs.internal:8443\";by=_a",
            )],
            "192.0.2.7 https certs.internal:8443",
        ),
        (
            &[(
                "forwarded",
                "host=evil;proto=http, for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b",
            )],
            "192.0.2.7 https a",
        ),
        (
            &[(
                "forwarded",
                "host=evil, for=192.0.2.7, for=10.0.0.2;proto=https;host=b",
            )],
            "192.0.2.7 https b",
        ),
        (&[("forwarded", "proto=https")], "- https -"),
        (
            &[
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "certs.internal"),
            ],
            "192.0.2.7 https certs.internal",
        ),
        // Proxies that add: the last is the word of the only one, or the first two of two.
        (
            &[
                ("x-forwarded-for", "198.51.100.1, 192.0.2.7"),
                ("x-forwarded-proto", "ftp, https"),
                ("x-forwarded-host", "evil, certs.internal"),
            ],
            "192.0.2.7 https certs.internal",
        ),
        (
            &[
                ("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.0.0.2"),
                ("x-forwarded-proto", "ftp, https, http"),
                ("x-forwarded-host", "certs.internal, inner"),
            ],
            "192.0.2.7 https certs.internal",
        ),
        (
            &[("x-forwarded-proto", "https"), ("x-forwarded-host", "")],
            "- https -",
        ),
        (
            &[("x-forwarded-prefix", "/a"), ("x-original-url", "/b")],
            "- - -",
        ),
        (
            &[
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=\"192.0.2.7:4711\";host=certs.internal"),
            ],
            "192.0.2.7:4711 https certs.internal",
        ),
    ] {
        assert_eq!(summary(lines), expected, "{lines:?}");
    }
}

#[test]
fn headers_that_contradict_each_other_or_cannot_be_read_are_refused() {
    for lines in [
        // A proxy that knows only one of them passes on what its caller wrote into the other.
        &[
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=198.51.100.1"),
        ][..],
        &[
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=unknown"),
        ],
        &[
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.1"),
        ],
        &[("forwarded", "for=\"192.0.2.7")],
        &[("forwarded", "for=\"_a, for=192.0.2.7")],
        &[("forwarded", "for")],
        &[("forwarded", "for=192.0.2.7 proto=https")],
        &[("forwarded", "for=192.0.2.7;for=192.0.2.8")],
        &[("forwarded", "for=192.0.2.7;proto=gopher")],
        &[("forwarded", "for=192.0.2.7;host=\"a b\"")],
        &[("x-forwarded-proto", "gopher")],
        &[("x-forwarded-host", "a/b")],
    ] {
        assert_eq!(summary(lines), "refused", "{lines:?}");
    }
}
