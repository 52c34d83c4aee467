//! The same as a sheet and as a calendar.

use crate::client::Reply;
use crate::world::{PROJECT, World, certs, operator_token};

use super::{at, target};

/// Names that a sheet could take for a formula, or that a calendar has to escape or fold.
const NAMES: [&str; 5] = [
    "=1+1",
    "@SUM(A1)",
    "comma, \"quote\"; and \\ backslash",
    "CN=Müller; O=Größe, und ein sehr langer Name, der gefaltet wird, weil er länger als eine Zeile ist",
    "plain",
];

async fn world() -> World {
    let world = World::new().await;
    for name in NAMES {
        world.atlas.world(|atlas| {
            let mut project = atlas.project(PROJECT);
            project.user(name).certificate_until(at(7));
        });
        let reply = world
            .send("GET", &certs(PROJECT, name), &operator_token(), &[])
            .await;
        assert_eq!(reply.status, 200, "{name}");
    }
    world
}

async fn ask(world: &World, query: &str, accept: &str) -> Reply {
    world.get(&target(query), &[("Accept", accept)]).await
}

#[tokio::test]
async fn the_format_is_the_one_that_is_asked_for_or_accepted() {
    let world = world().await;
    for (query, accept, media_type) in [
        ("", "*/*", "application/json"),
        (
            "",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/json",
        ),
        ("", "text/csv", "text/csv; charset=utf-8; header=present"),
        ("", "text/calendar", "text/calendar; charset=utf-8"),
        (
            "",
            "text/calendar;q=0.5, text/csv",
            "text/csv; charset=utf-8; header=present",
        ),
        (
            "?format=ics",
            "application/json",
            "text/calendar; charset=utf-8",
        ),
        (
            "?format=csv",
            "*/*",
            "text/csv; charset=utf-8; header=present",
        ),
    ] {
        let reply = ask(&world, query, accept).await;
        assert_eq!(reply.status, 200, "{query} {accept}");
        assert_eq!(
            reply.header("content-type"),
            Some(media_type),
            "{query} {accept}"
        );
        assert_eq!(reply.header("vary"), Some("Accept"));
    }
    let reply = ask(&world, "", "image/png").await;
    assert_eq!(reply.status, 406);
}

#[tokio::test]
async fn a_sheet_has_every_name_and_no_formula() {
    let world = world().await;
    let text = ask(&world, "?format=csv", "*/*").await.text();
    assert!(text.starts_with(
        "group_id,username,certificate_id,subject,not_after,seconds_left,answered_at\r\n"
    ));
    assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains('\n'));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), NAMES.len());
    for name in NAMES {
        let cell = if name.starts_with(['=', '@']) {
            format!("'{name}")
        } else {
            name.to_owned()
        };
        let row = rows.iter().find(|row| row[1] == cell);
        let row = row.unwrap_or_else(|| panic!("{name}: {text}"));
        assert_eq!(&row[0], PROJECT);
        assert_eq!(&row[4], "2026-11-28T12:00:00Z");
        assert_eq!(&row[5], "604800");
    }
}

#[tokio::test]
async fn a_calendar_has_an_event_for_each_end_and_lines_of_75_octets() {
    let world = world().await;
    let text = ask(&world, "?format=ics", "*/*").await.text();
    assert!(text.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"));
    assert!(text.ends_with("END:VCALENDAR\r\n"));
    for line in text.split_terminator("\r\n") {
        assert!(line.len() <= 75 && !line.contains(['\r', '\n']), "{line}");
    }
    let unfolded = text.replace("\r\n ", "");
    assert_eq!(unfolded.matches("BEGIN:VEVENT").count(), NAMES.len());
    assert_eq!(unfolded.matches("TRIGGER:-P14D").count(), NAMES.len());
    assert_eq!(
        unfolded.matches("DTSTART:20261128T120000Z").count(),
        NAMES.len()
    );
    for name in NAMES {
        let escaped = name
            .replace('\\', "\\\\")
            .replace(';', "\\;")
            .replace(',', "\\,");
        let summary = format!("SUMMARY:Certificate of {escaped} ends\r\n");
        assert!(unfolded.contains(&summary), "{name}: {unfolded}");
    }
}
