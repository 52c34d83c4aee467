//! The metrics page has as many lines as this program has words, whatever callers and Atlas say (G38).

use std::collections::BTreeSet;

use atlas_cert_gateway::telemetry::metrics::connections::Reason;
use atlas_simulator::{Asked, Fault};
use serde_json::json;

use crate::world::{
    FOREIGN_PROJECT, OTHER_PROJECT, PROJECT, World, certs, operator_token, token_of,
};

/// Names and values of labels, without the values of the series.
async fn series(world: &World) -> BTreeSet<String> {
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

/// Everything that a caller can choose, chosen differently in each round.
async fn storm(world: &World, rounds: std::ops::Range<u16>) {
    for round in rounds {
        let subject =
            token_of(&json!({ "sub": format!("payments-{round}"), "jti": format!("{round}") }));
        let stranger = token_of(&json!({ "sub": format!("stranger-{round}") }));
        let method = format!("METHOD{round}");
        let unknown_project = format!("{round:024x}");
        let name = format!("user-{round}");
        let path = certs(PROJECT, &name);
        let variant = format!(
            "{path}?pageNum={}&itemsPerPage={}&pretty=true",
            round + 1,
            round % 500 + 1
        );
        let headers = [
            ("User-Agent", name.as_str()),
            ("X-Request-Id", name.as_str()),
        ];
        // H34.
        assert_eq!(
            world.send(&method, &path, &subject, &[]).await.status,
            405,
            "H34"
        );
        world.send("GET", &path, &subject, &headers).await;
        world.send("HEAD", &variant, &subject, &headers).await;
        world.send("GET", &format!("/{name}"), &subject, &[]).await;
        world
            .send("GET", &certs(OTHER_PROJECT, &name), &stranger, &[])
            .await;
        world
            .send("GET", &certs(FOREIGN_PROJECT, &name), &subject, &[])
            .await;
        world
            .send(
                "GET",
                &certs(&unknown_project, &name),
                &operator_token(),
                &[],
            )
            .await;
        world.send("GET", &path, &format!("{name}.b.c"), &[]).await;
        world
            .raw(format!("{name} / HTTP/9.{round}\r\n\r\n").as_bytes())
            .await;
        world
            .raw(format!("GET / HTTP/1.1\r\n{name}\r\n\r\n").as_bytes())
            .await;
        world
            .admin(&method, &format!("/{name}"), &operator_token(), &name)
            .await;
        let explained = format!("/cache/explain?groupId={PROJECT}&username={name}");
        world.admin("GET", &explained, &operator_token(), "").await;
    }
}

/// Every status that Atlas can have, one a user.
async fn odd_answers(world: &World, statuses: std::ops::Range<u16>) {
    for status in statuses {
        let fault = Fault::api_error(status, &format!("CODE_{status}"), "odd");
        world.atlas.on(Asked::certificates()).respond(fault);
        let ask = world.ask("app1");
        world.while_time_passes(ask).await;
        world.atlas.clear_script();
    }
}

/// What is shown of a credential, once Atlas has told something about it: a figure that is not known yet
/// is no zero.
const OF_CREDENTIALS: [&str; 4] = [
    "token_expires_in_seconds",
    "upstream_demand_ratio",
    "upstream_gate_closed",
    "upstream_rate_limit_remaining",
];

#[tokio::test]
async fn every_counter_is_on_the_page_as_0_before_it_is_counted() {
    let world = World::new().await;
    let before = series(&world).await;
    storm(&world, 0..2).await;
    odd_answers(&world, 400..430).await;
    let after = series(&world).await;
    let new: Vec<_> = after.difference(&before).collect();
    let is_of_credential = |series: &&String| {
        let mut known = OF_CREDENTIALS.iter();
        known.any(|name| series.starts_with(&format!("atlas_cert_gateway_{name}{{")))
    };
    assert!(new.iter().all(is_of_credential), "{new:?}");
    for reason in Reason::ALL {
        let reason = reason.word();
        let shown = format!("atlas_cert_gateway_connections_refused_total{{reason=\"{reason}\"}}");
        assert!(before.contains(&shown), "{shown}");
    }
}

#[tokio::test]
async fn g38_there_are_fewer_than_2000_series_and_no_caller_makes_another() {
    let world = World::new().await;
    storm(&world, 0..20).await;
    odd_answers(&world, 400..430).await;
    let before = series(&world).await;
    storm(&world, 1_000..1_060).await;
    odd_answers(&world, 430..460).await;
    let after = series(&world).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < 540, "{}", after.len());
    let page = world.admin("GET", "/metrics", "", "").await.text();
    for theirs in ["user-", "METHOD", "payments-", "stranger", "CODE_", PROJECT] {
        assert!(!page.contains(theirs), "{theirs}");
    }
}
