//! H40: the cases of the suite `Http11Probe`, each with what this gateway answers, and behind each a plain
//! request, which is answered exactly if the connection goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cases::{Answer, Case, Verdict, Words, cases};
use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, token};

#[tokio::test]
async fn each_case_of_http11probe_is_answered_as_its_row_says() {
    let world = World::new().await;
    let etag = world.ask("app1").await.header("etag").unwrap().to_owned();
    let words = Words {
        path: certs(PROJECT, "app1"),
        token: token(),
        etag: etag.trim_matches('"').to_owned(),
    };
    let mut wrong = Vec::new();
    for case in cases() {
        if let Err(how) = hold(&world, &case, &words).await {
            wrong.push(format!("{}: {how}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[test]
fn the_table_has_every_case_of_the_suite_once() {
    let names: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    let of = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!(of("COMP-") + of("RFC"), 76);
    assert_eq!((of("SMUG-"), of("MAL-"), of("NORM-")), (87, 26, 5));
    assert_eq!((of("COOK-"), of("CAP-")), (12, 9));
    // Whoever changes one of these has looked at it.
    let is = |verdict: Verdict| {
        cases()
            .iter()
            .filter(|case| case.verdict == verdict)
            .count()
    };
    let counts = [Verdict::Pass, Verdict::Warn, Verdict::Ours].map(is);
    assert_eq!(counts, [175, 9, 31]);
    assert_eq!((names.len(), cases().len()), (215, 215));
}

/// Sends a case, with a plain request behind it, and compares what comes back.
async fn hold(world: &World, case: &Case, words: &Words) -> Result<(), String> {
    let mut sent = case.bytes(words);
    let is_head = sent.starts_with(b"HEAD ");
    let comes_late = case.answers[0] == Answer::InTime;
    if !comes_late {
        sent.extend(words.bytes("{get}"));
    }
    let mut connection = Connection::open(world.address()).await;
    connection.send(&sent).await;
    for answer in &case.answers {
        match *answer {
            Answer::InTime => {}
            Answer::Gone => {
                let end = world.while_time_passes(connection.is_closed());
                return is_the_end(within(end).await?);
            }
            Answer::Status(status) => {
                let reply = within(connection.reply(is_head)).await?;
                check(&reply, status, false, words)?;
            }
            Answer::Last(status) => {
                let reply = connection.reply(is_head);
                let reply = if comes_late {
                    within(world.while_time_passes(reply)).await?
                } else {
                    within(reply).await?
                };
                check(&reply, status, true, words)?;
                return is_the_end(within(connection.is_closed()).await?);
            }
        }
    }
    let reply = within(connection.reply(false)).await?;
    check(&reply, 200, false, words).map_err(|how| format!("what follows it: {how}"))
}

/// What holds for every answer, whatever it answers.
fn check(reply: &Reply, status: u16, is_last: bool, words: &Words) -> Result<(), String> {
    let text = String::from_utf8_lossy(&reply.body);
    let header = |name: &str| reply.header(name).unwrap_or_default();
    let allow = if status == 405 { "GET, HEAD" } else { "" };
    let date = header("date");
    let written =
        httpdate::parse_http_date(date).map_or_else(|_| String::new(), httpdate::fmt_http_date);
    for (holds, what) in [
        (reply.status == status, "the status"),
        (
            (header("connection") == "close") == is_last,
            "the connection's end",
        ),
        (header("allow") == allow, "Allow"),
        (!date.is_empty() && written == date, "Date, in its one form"),
        (
            text.is_empty() || header("content-type").starts_with("application/"),
            "Content-Type",
        ),
        (
            status != 304 || header("etag").contains(&words.etag),
            "ETag",
        ),
        (!text.contains(&words.token), "nothing is echoed"),
    ] {
        if !holds {
            return Err(format!("{what}, not {status}: {reply:?}"));
        }
    }
    Ok(())
}

fn is_the_end(is_closed: bool) -> Result<(), String> {
    let more = || "something follows it".to_owned();
    is_closed.then_some(()).ok_or_else(more)
}

/// A row that gets no answer is to be named, not waited for.
async fn within<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let patience = Duration::from_secs(10);
    let done = tokio::time::timeout(patience, work).await;
    done.map_err(|_| "no answer".to_owned())
}
