//! `POST /session`: the status page's names for who pastes an operator's token, and nothing else.

use std::fmt::Write;
use std::time::Duration;

use atlas_cert_gateway::config::Config;
use serde_json::{Value, json};

use crate::client::{Reply, exchange};
use crate::world::{
    HMAC_SECRET, PROJECT, World, certs, operator_token, set, set_rule, token, token_of,
    write_private,
};

type Headers<'h> = &'h [(&'h str, &'h str)];

const OWN: Headers<'_> = &[
    ("Origin", "http://localhost"),
    ("Sec-Fetch-Site", "same-origin"),
];
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

async fn send(world: &World, line: &str, headers: &[Headers<'_>], body: &str) -> Reply {
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers.iter().copied().flatten() {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    exchange(world.app.admin_address(), request.as_bytes()).await
}

async fn paste(world: &World, token: &str) -> Reply {
    let form = format!("token={token}");
    send(world, "POST /session", &[OWN, &[FORM]], &form).await
}

/// The cookie of a session that was begun.
async fn sign_in(world: &World, token: &str) -> String {
    let reply = paste(world, token).await;
    assert_eq!(reply.status, 303, "{}", reply.text());
    let cookie = reply.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn shows_names(world: &World, cookie: &str) -> bool {
    let reply = send(world, "GET /", &[&[("Cookie", cookie)]], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().contains(PROJECT)
}

/// The records of what operators did.
fn actions(world: &World, action: &str) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["action"] == action);
    records
}

#[tokio::test]
async fn a_pasted_token_opens_the_page_and_nothing_else() {
    let world = World::new().await;
    world.ask("app1").await;
    let reply = paste(&world, &operator_token()).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/")));
    let cookie = reply.header("set-cookie").unwrap();
    let (cookie, flags) = cookie.split_once("; ").unwrap();
    assert_eq!(flags, "HttpOnly; SameSite=Strict; Path=/");
    let (_, id) = cookie.split_once('=').unwrap();
    assert!(id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit()));
    assert_ne!(sign_in(&world, &operator_token()).await, cookie);
    let own = [("Origin", "https://localhost"), FORM];
    let form = format!("token={}", operator_token());
    let over_tls = send(&world, "POST /session", &[&own], &form).await;
    let over_tls = over_tls.header("set-cookie").unwrap().to_owned();
    assert!(over_tls.ends_with("; Secure"), "{over_tls}");

    let page = send(&world, "GET /", &[&[("Cookie", cookie)]], "")
        .await
        .text();
    assert!(page.contains(PROJECT) && page.contains("Names are shown to operator"));
    assert!(page.contains("action=\"/session/end\""), "{page}");
    assert!(!page.contains(&operator_token()) && !page.contains(id));
    // Beside another program's cookies, and those of another gateway on this host.
    let others = format!("a=b; atlas-cert-gateway-session=0123; {cookie}; c");
    assert!(shows_names(&world, &others).await);

    let key = format!("groupId={PROJECT}&username=app1");
    let purge = json!({"groupId": PROJECT, "username": "app1"}).to_string();
    for line in [
        "POST /cache/purge".to_owned(),
        format!("GET /cache/explain?{key}"),
        format!("GET /access/explain?{key}"),
        "GET /audit/lookups".to_owned(),
        "GET /budgets".to_owned(),
        "GET /usage".to_owned(),
    ] {
        let reply = send(&world, &line, &[OWN, &[("Cookie", cookie)]], &purge).await;
        assert_eq!(reply.status, 401, "{line}");
    }
    assert_eq!(world.ask("app1").await.header("age"), Some("0"));
    assert_eq!(
        world.ask("app1").await.header("x-upstream-calls"),
        Some("0")
    );
    let path = certs(PROJECT, "app1");
    let shown = [("Cookie", cookie)];
    let stranger = world.send("GET", &path, "", &shown).await;
    assert_eq!(stranger.status, 401);

    let begun = &actions(&world, "session")[0];
    assert_eq!(
        [
            &begun["kind"],
            &begun["outcome"],
            &begun["status"],
            &begun["subject"],
            &begun["rule"]
        ],
        [
            &json!("admin"),
            &json!("answered"),
            &json!(303),
            &json!("operator"),
            &json!("operators")
        ]
    );
    let views = actions(&world, "status");
    let views = views.iter().filter(|view| view["outcome"] == "answered");
    assert_eq!(
        views.filter(|view| view["subject"] == "operator").count(),
        2
    );
    assert!(!world.lines().concat().contains(id));
}

#[tokio::test]
async fn a_form_of_another_page_neither_begins_nor_ends_a_session() {
    let world = World::new().await;
    world.ask("app1").await;
    let cookie = sign_in(&world, &operator_token()).await;
    let begun = actions(&world, "session").len();
    let form = format!("token={}", operator_token());
    let own = ("Origin", "http://localhost");
    for foreign in [
        &[][..],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "null"), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "http://evil.example")],
        &[("Origin", "http://localhost:1")],
        &[("Origin", "http://localhost.evil.example")],
        &[("Origin", "ftp://localhost")],
        &[own, own],
        &[own, ("Sec-Fetch-Site", "cross-site")],
        &[own, ("Sec-Fetch-Site", "same-site")],
        &[own, ("Sec-Fetch-Site", "none")],
    ] {
        for line in ["POST /session", "POST /session/end"] {
            let headers = [foreign, &[FORM, ("Cookie", &*cookie)]];
            let reply = send(&world, line, &headers, &form).await;
            assert_eq!(reply.status, 403, "{line} {foreign:?}");
            assert_eq!(reply.header("set-cookie"), None, "{line} {foreign:?}");
        }
    }
    assert!(shows_names(&world, &cookie).await);
    assert_eq!(actions(&world, "session").len(), begun);
    // To an address in a network a browser does not say more than the origin.
    let reply = send(&world, "POST /session", &[&[own, FORM]], &form).await;
    assert_eq!(reply.status, 303);
    for (line, status) in [("GET /session", 405), ("GET /session/end", 405)] {
        assert_eq!(
            send(&world, line, &[OWN], "").await.status,
            status,
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_is_no_operators_token_begins_no_session() {
    let world = World::new().await;
    world.ask("app1").await;
    for (token, status, said) in [
        (
            "no.such.token".to_owned(),
            401,
            "This token was not accepted",
        ),
        (token(), 403, "no rule with admin = true"),
    ] {
        let reply = paste(&world, &token).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("set-cookie"), None);
        assert!(reply.header("content-security-policy").is_some());
        let text = reply.text();
        assert!(
            text.contains(said) && text.contains("name=\"token\""),
            "{text}"
        );
        assert!(!text.contains(PROJECT) && !text.contains(&token), "{text}");
    }
    let refused = actions(&world, "session");
    let outcomes: Vec<_> = refused.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["unauthenticated", "denied"]);
    let token = operator_token();
    for (kind, form, status) in [
        (FORM, format!("token={}", "a".repeat(16 << 10)), 413),
        (FORM, String::new(), 400),
        (FORM, format!("other={token}"), 400),
        (FORM, format!("token={token}&more=1"), 400),
        (
            ("Content-Type", "text/plain"),
            format!("token={token}"),
            400,
        ),
        (FORM, format!("token=+{token}%0A"), 303),
    ] {
        let reply = send(&world, "POST /session", &[OWN, &[kind]], &form).await;
        assert_eq!(reply.status, status, "{form}");
    }
}

#[tokio::test]
async fn a_session_ends_after_half_an_hour_and_with_its_token() {
    let world = World::new().await;
    world.ask("app1").await;
    let now = world.clock.now().wall.seconds();
    let short = token_of(&json!({"sub": "operator", "exp": now + 600}));
    let (short, usual) = (
        sign_in(&world, &short).await,
        sign_in(&world, &operator_token()).await,
    );
    let minute = Duration::from_mins(1);
    // A token's end has thirty seconds of leeway; a project is shown for five minutes after the last call.
    for (passed, with_short, with_usual) in [(9, true, true), (2, false, true), (18, false, true)] {
        world.advance(passed * minute);
        world.get(&certs(PROJECT, "app1"), &[]).await;
        assert_eq!(shows_names(&world, &short).await, with_short, "{passed}");
        assert_eq!(shows_names(&world, &usual).await, with_usual, "{passed}");
    }
    world.advance(minute);
    assert!(!shows_names(&world, &usual).await);
}

#[tokio::test]
async fn a_session_ends_with_its_rule_its_key_or_a_click() {
    let mut config = toml::Table::new();
    let world = World::with(|plan| config = plan.config.clone()).await;
    set(&mut config, "atlas.base_url", world.atlas.base_url());
    let reload = async |admin: bool, deny_file: Option<&str>| {
        let mut config = config.clone();
        config["access"]["rules"][2]["admin"] = admin.into();
        if let Some(deny_file) = deny_file {
            set(&mut config, "access.deny_file", deny_file);
        }
        let config = Config::parse(&config.to_string(), []).unwrap();
        world.app.reload(&config).await.unwrap();
    };
    world.ask("app1").await;
    let mut cookie = sign_in(&world, &operator_token()).await;
    assert!(shows_names(&world, &cookie).await);
    reload(false, None).await;
    assert!(!shows_names(&world, &cookie).await);
    reload(true, None).await;
    assert!(!shows_names(&world, &cookie).await, "it has ended");

    cookie = sign_in(&world, &operator_token()).await;
    let secret = world.files.path().join("hmac");
    write_private(&secret, &HMAC_SECRET.to_uppercase());
    reload(true, None).await;
    assert!(!shows_names(&world, &cookie).await);
    write_private(&secret, HMAC_SECRET);
    reload(true, None).await;

    cookie = sign_in(&world, &operator_token()).await;
    let denied = world.files.path().join("deny");
    write_private(&denied, "sub operator\n");
    reload(true, denied.to_str()).await;
    assert!(!shows_names(&world, &cookie).await);
    write_private(&denied, "");
    reload(true, None).await;

    cookie = sign_in(&world, &operator_token()).await;
    assert!(shows_names(&world, &cookie).await);
    let reply = send(
        &world,
        "POST /session/end",
        &[OWN, &[("Cookie", &cookie)]],
        "",
    )
    .await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/")));
    let gone = reply.header("set-cookie").unwrap();
    assert!(gone.ends_with("; Max-Age=0"), "{gone}");
    assert!(!shows_names(&world, &cookie).await);
    let ended = actions(&world, "session_end");
    assert_eq!((ended.len(), &ended[0]["subject"]), (1, &json!("operator")));
}

#[tokio::test]
async fn a_subject_has_five_sessions_and_all_have_a_hundred() {
    let world = World::with(|plan| set_rule(plan, 2, "subjects", vec!["operator*"])).await;
    world.ask("app1").await;
    let of = |number: usize| token_of(&json!({"sub": format!("operator-{number}")}));
    let mut cookies = Vec::new();
    for session in 0..6 {
        cookies.push(sign_in(&world, &of(0)).await);
        assert!(shows_names(&world, &cookies[session]).await);
    }
    assert!(!shows_names(&world, &cookies[0]).await);
    for subject in 1..20 {
        for _ in 0..5 {
            cookies.push(sign_in(&world, &of(subject)).await);
        }
    }
    assert!(shows_names(&world, &cookies[1]).await);
    cookies.push(sign_in(&world, &of(20)).await);
    assert!(!shows_names(&world, &cookies[1]).await);
    for cookie in &cookies[2..] {
        assert!(shows_names(&world, cookie).await);
    }
}

#[tokio::test]
async fn the_form_explains_a_list_and_that_is_on_record() {
    let name = "CN=a b+c,O=\u{fc} & <i>";
    let world = World::with(|plan| {
        plan.atlas.world.project(PROJECT).user(name).certificates(3);
    })
    .await;
    world.ask(name).await;
    let cookie = sign_in(&world, &operator_token()).await;
    let ask = async |name: &str| {
        let line = format!("GET /?groupId={PROJECT}&username={name}");
        send(&world, &line, &[&[("Cookie", &cookie)]], "").await
    };
    // As a browser writes it.
    let page = ask("CN%3Da+b%2Bc%2CO%3D%C3%BC+%26+%3Ci%3E").await.text();
    for part in [
        "CN=a b+c,O=\u{fc} &#38; &#60;i&#62;",
        "<dt>list.certificates</dt><dd>3</dd>",
        "<dt>state</dt><dd>fresh</dd>",
        "<dt>budget.capacity</dt>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let explained = &actions(&world, "explain")[0];
    assert_eq!(
        [
            &explained["group_id"],
            &explained["username"],
            &explained["subject"]
        ],
        [&json!(PROJECT), &json!(name), &json!("operator")]
    );
    let page = ask("secret-keeper").await.text();
    assert!(page.contains("Your rules do not let you"), "{page}");
    assert_eq!(actions(&world, "explain")[1]["outcome"], "denied");
    assert_eq!(ask("").await.status, 400);
    // For strangers it is the page and nothing more.
    let line = format!("GET /?groupId={PROJECT}&username=app1");
    let stranger = send(&world, &line, &[], "").await;
    assert_eq!(stranger.status, 200);
    assert!(!stranger.text().contains(PROJECT));
    assert_eq!(actions(&world, "explain").len(), 2);
}

#[tokio::test]
async fn the_page_names_who_spends_most_and_that_no_longer_than_an_hour() {
    let world = World::with(|plan| set_rule(plan, 0, "subjects", vec!["*"])).await;
    for number in 0..12 {
        let caller = token_of(&json!({"sub": format!("caller-{number:02}")}));
        let forced = if number == 11 { "many" } else { "app1" };
        world
            .send("GET", &certs(PROJECT, forced), &caller, &[])
            .await;
    }
    let cookie = sign_in(&world, &operator_token()).await;
    let page = async || {
        send(&world, "GET /", &[&[("Cookie", &cookie)]], "")
            .await
            .text()
    };
    let text = page().await;
    let rows: Vec<_> = text
        .split("class=\"name\">caller-")
        .skip(1)
        .map(|row| row.get(..2).unwrap())
        .collect();
    assert_eq!((rows.len(), &rows[..2]), (10, &["11", "00"][..]), "{text}");
    world.advance(Duration::from_mins(29));
    assert!(page().await.contains("caller-11"));
    world.advance(Duration::from_mins(32));
    let reply = world.admin("GET", "/", &operator_token(), "").await;
    let text = reply.text();
    assert!(!text.contains("caller-11") && text.contains("Nobody has asked in the last hour."));
}
