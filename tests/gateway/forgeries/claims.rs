//! Claims that must not pass, and texts that two readers could read differently.

use serde_json::{Value, json};

use super::super::tokens::{AUDIENCE, ISSUER, Issuer, base64url};
use super::{Forgery, OTHER_ISSUER, add};

pub(super) fn times(issuer: &Issuer, all: &mut Vec<Forgery>) {
    let now = issuer.now;
    let mut claim = |row, reason, name: &str, value: Value| {
        let token = issuer.forge("payments-api", |_, claims| claims[name] = value.clone());
        add(all, row, reason, format!("{name} = {value}"), token);
    };
    for value in [
        json!(null),
        json!("9999999999"),
        json!("never"),
        json!([]),
        json!({}),
        json!(true),
    ] {
        claim("J30", "malformed claim", "exp", value);
    }
    // A number that is exact means what it says; one that is not means nothing.
    for value in [json!(-1), json!(0), json!(1.5), json!(-1.79e9)] {
        claim("J31", "expired", "exp", value);
    }
    claim("J31", "lives too long", "exp", json!(1_u64 << 53));
    for value in [
        json!(1e300),
        json!(-1e300),
        json!(1_u64 << 63),
        json!(u64::MAX),
        json!(18_446_744_073_709_551_616.0),
    ] {
        claim("J31", "malformed claim", "exp", value.clone());
        claim("J31", "malformed claim", "nbf", value);
    }
    claim("J32", "expired", "exp", json!(now - 30));
    claim("J32", "expired", "exp", json!(now - 31));
    // A fraction is never to the bearer's good: an end is rounded down, a beginning up.
    let fraction = |seconds: i64| format!("{}.000001", now + seconds);
    let fraction = |seconds| -> Value { serde_json::from_str(&fraction(seconds)).unwrap() };
    claim("J32", "expired", "exp", fraction(-30));
    claim("J33", "not yet valid", "nbf", fraction(30));
    claim("J34", "not yet valid", "iat", fraction(30));
    claim("J33", "not yet valid", "nbf", json!(now + 31));
    claim(
        "J33",
        "malformed claim",
        "nbf",
        json!((now - 10).to_string()),
    );
    claim("J33", "malformed claim", "nbf", json!(null));
    claim("J34", "not yet valid", "iat", json!(now + 31));
    claim("J34", "malformed claim", "iat", json!("0"));
    claim("J34", "lives too long", "iat", json!(now - 24 * 3_600));
    claim("J34", "lives too long", "exp", json!(now + 24 * 3_600 + 1));
    let token = issuer.forge("payments-api", |_, claims| {
        claims.as_object_mut().unwrap().remove("exp");
    });
    add(all, "J30", "malformed claim", "no exp", token);
    let token = issuer.forge("payments-api", |_, claims| {
        claims.as_object_mut().unwrap().remove("iat");
        claims["exp"] = json!(now + 24 * 3_600 + 31);
    });
    add(all, "J34", "lives too long", "without iat", token);
}

pub(super) fn parties(issuer: &Issuer, all: &mut Vec<Forgery>) {
    let mut claim = |row, reason, name: &str, value: Value| {
        let token = issuer.forge("payments-api", |_, claims| claims[name] = value.clone());
        let what: String = format!("{name} = {value}").chars().take(80).collect();
        add(all, row, reason, what, token);
    };
    for value in [
        json!(null),
        json!(1),
        json!(""),
        json!([]),
        json!({}),
        json!([[AUDIENCE]]),
        json!([AUDIENCE, 1]),
        json!([AUDIENCE, ""]),
    ] {
        claim("J35", "malformed claim", "aud", value);
    }
    claim("J35", "wrong audience", "aud", json!(["other"]));
    claim(
        "J36",
        "several audiences",
        "aud",
        json!(["other", AUDIENCE]),
    );
    for value in [
        AUDIENCE.to_uppercase(),
        format!("{AUDIENCE}/"),
        format!("x{AUDIENCE}"),
        AUDIENCE.trim_start_matches('a').to_owned(),
        format!("{AUDIENCE}\0"),
    ] {
        claim("J37", "wrong audience", "aud", json!(value));
    }
    for value in [
        json!(1),
        json!(null),
        json!([ISSUER, "https://evil"]),
        json!(""),
    ] {
        claim("J38", "malformed claim", "iss", value);
    }
    for value in [
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        "https://evil".to_owned(),
    ] {
        claim("J38", "unknown issuer", "iss", json!(value));
    }
    // The signature of one issuer under the name of the other.
    claim("J38", "unknown key", "iss", json!(OTHER_ISSUER));
    for value in [
        json!(""),
        json!(1),
        json!("a\nb"),
        json!("\u{85}"),
        json!("s".repeat(513)),
    ] {
        claim("J39", "malformed claim", "sub", value);
    }
    claim("J43", "id token", "nonce", json!("n-0S6_WzA2Mj"));
    claim(
        "J43",
        "id token",
        "at_hash",
        json!("77QmUPtjPfzWtF2AnpK9RQ"),
    );
    claim(
        "J44",
        "unknown issuer",
        "iss",
        json!("https://cloud.mongodb.com"),
    );
    claim(
        "J46",
        "malformed claim",
        "scope",
        json!("certs:read\tadmin"),
    );
    claim("J46", "malformed claim", "scope", json!(["certs:read", 1]));
    claim(
        "J46",
        "malformed claim",
        "scope",
        json!({"certs:read": true}),
    );
    for value in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"kid": "rsa-1"}),
        json!({"x5t#S256": "AAAA"}),
        json!({"x5t#S256": 1}),
        json!({}),
        json!(null),
        json!("x5t#S256"),
    ] {
        claim("K5", "unsupported confirmation", "cnf", value);
    }
    claim(
        "K5",
        "not the holder's certificate",
        "cnf",
        json!({"x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}),
    );
    let many: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    claim("J46", "malformed claim", "scope", json!(many.join(" ")));
    for name in ["aud", "iss", "sub"] {
        let token = issuer.forge("payments-api", |_, claims| {
            claims.as_object_mut().unwrap().remove(name);
        });
        add(all, "J35", "malformed claim", format!("no {name}"), token);
    }
    let ten_thousand = issuer.forge("payments-api", |_, claims| {
        claims["scope"] = json!(vec!["s"; 10_000]);
    });
    add(all, "J46", "too long", "10,000 scopes", ten_thousand);
}

/// Signed texts that two readers could read differently.
pub(super) fn texts(issuer: &Issuer, all: &mut Vec<Forgery>) {
    let (header, claims) = (issuer.header().to_string(), issuer.claims("a").to_string());
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let without = |text: &str| text.trim_start_matches('{').to_owned();
    for (what, text) in [
        (
            "alg twice",
            format!("{{\"alg\":\"HS256\",{}", without(&header)),
        ),
        (
            "kid twice",
            format!("{{\"kid\":\"rsa-1\",{}", without(&header)),
        ),
        ("a byte order mark", format!("\u{feff}{header}")),
        ("NaN", format!("{{\"x\":NaN,{}", without(&header))),
        ("depth 200", deep.clone()),
        ("more behind it", format!("{header} {{}}")),
        ("a list", "[]".to_owned()),
        ("nothing", String::new()),
    ] {
        let token = issuer.compact(&text, &claims);
        add(all, "J24", "malformed", what, token);
    }
    let wide: Vec<u8> = header.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let signed = format!("{}.{}", base64url(wide), base64url(&claims));
    let token = format!("{signed}.{}", issuer.key.sign(&signed));
    add(all, "J24", "malformed", "UTF-16", token);
    for (what, text) in [
        (
            "aud twice, ours last",
            format!("{{\"aud\":\"other\",{}", without(&claims)),
        ),
        (
            "aud twice, ours first",
            claims.replace('}', ",\"aud\":\"other\"}"),
        ),
        ("exp twice", format!("{{\"exp\":1,{}", without(&claims))),
        (
            "exp twice, once escaped",
            format!("{{\"\\u0065xp\":1,{}", without(&claims)),
        ),
    ] {
        add(
            all,
            "J40",
            "malformed",
            what,
            issuer.compact(&header, &text),
        );
    }
    for (what, text) in [
        ("a text", "\"x\"".to_owned()),
        ("depth 200", deep),
        ("more behind it", format!("{claims}x")),
        (
            "a number beyond all",
            claims.replace('}', ",\"nbf\":1e400}"),
        ),
    ] {
        add(
            all,
            "J41",
            "malformed",
            what,
            issuer.compact(&header, &text),
        );
    }
    let spaces = format!("{claims}{}", " ".repeat(1 << 20));
    let token = issuer.compact(&header, &spaces);
    add(all, "J41", "too long", "a mebibyte of spaces", token);
    let mut bytes = claims.into_bytes();
    bytes.insert(2, 0xff);
    let signed = format!("{}.{}", base64url(header), base64url(bytes));
    let token = format!("{signed}.{}", issuer.key.sign(&signed));
    add(all, "J41", "malformed", "not UTF-8", token);
}
