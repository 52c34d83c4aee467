use super::*;

fn report(by: GroupBy) -> UsageReport {
    let line = |kind: &str, outcome: &str, members: &str| {
        format!(
            "{{\"time\":\"2026-08-10T02:06:35.000000Z\",\"seq\":7,\"kind\":\"{kind}\",\"outcome\":\"{outcome}\"\
             {members},\"duration_us\":5}}"
        )
    };
    let who = ",\"subject\":\"=M\\u00fcller\\u001b\",\"issuer\":\"https://idp\"";
    let calls = |calls: u8| format!("{who},\"certificates\":501,\"upstream_calls\":{calls}");
    let mut usage = usage::Usage::new(by);
    for line in [
        line("lookup", "answered", &calls(2)),
        line("lookup", "answered", &calls(0)),
        line("lookup", "unauthenticated", ",\"upstream_calls\":0"),
        line("fetch", "answered", &calls(2)),
    ] {
        usage.add(&line);
    }
    let rows = usage.rows();
    let total = UsageCounts::total(&rows);
    UsageReport { by, rows, total }
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_report_says_the_same_in_every_format() {
    let report = report(GroupBy::Subject);
    let table = written(|out| report.write_table(out, Some(90)));
    assert_eq!(
        table,
        "\
SUBJECT        LOOKUPS  ANSWERED  DENIED  FAILED  WOULD HAVE COST  SPENT  SAVED  SHARE
=Müller\\u{1b}        2         2       0       0                4      2      2  50.0%
-                    1         0       0       1                0      0      0      -
TOTAL                3         2       0       1                4      2      2  50.0%
"
    );
    let sheet = written(|out| report.write_csv(out));
    let time = "2026-08-10T02:06:35.000000Z";
    assert_eq!(
        sheet,
        format!(
            "subject,issuer,lookups,answered,denied,failed,would_have_cost,spent,saved,share,first,last\r\n\
             '=Müller\u{1b},https://idp,2,2,0,0,4,2,2,0.500,{time},{time}\r\n\
             ,,1,0,0,1,0,0,0,,{time},{time}\r\n"
        )
    );
    let json = written(|out| report.write_json(out));
    assert!(json.is_ascii());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"][0]["subject"], "=Müller\u{1b}");
    assert_eq!(json["rows"][0]["share"], 0.5);
    assert_eq!(json["rows"][1]["subject"], Value::Null);
    assert_eq!(json["total"]["lookups"], 3);
}

#[test]
fn the_help_names_every_column() {
    let names = NUMBERS.iter().filter(|name| **name != "last");
    for name in names {
        let begins = |line: &str| line.starts_with(name);
        assert!(HELP.lines().any(begins), "{name}");
    }
    let report = report(GroupBy::Day);
    let json = written(|out| report.write_json(out));
    let json: Value = serde_json::from_str(&json).unwrap();
    let total = json["total"].as_object().unwrap();
    assert!(NUMBERS.iter().all(|name| total.contains_key(*name)));
    assert_eq!(total.len(), NUMBERS.len());
}
