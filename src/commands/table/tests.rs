use super::*;

fn columns() -> Vec<TableColumn> {
    let column = |name, holds, rank| TableColumn {
        name,
        holds,
        rank,
        usual: 0,
    };
    vec![
        column("TIME", Holds::Words, 0),
        column("AGE", Holds::Numbers, 2),
        column("CACHE", Holds::Words, 1),
        column("SUBJECT", Holds::Names, 0),
        column("USERNAME", Holds::Names, 0),
    ]
}

fn table(terminal: Option<usize>, rows: &[[&str; 5]]) -> String {
    let mut table = Table::new(columns(), terminal);
    let mut out = Vec::new();
    for row in rows {
        let cells = row.iter().map(|cell| (*cell).to_owned()).collect();
        table.row(&mut out, cells).unwrap();
    }
    table.flush(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const ROWS: [[&str; 5]; 2] = [
    ["02:06:35", "1500", "hit", "ci", "CN=payments-api,OU=apps"],
    ["02:06:36", "7", "collapsed", "日本", "zoë"],
];

#[test]
fn a_table_is_as_wide_as_what_it_shows_where_there_is_room() {
    let shown = "\
TIME       AGE  CACHE      SUBJECT  USERNAME
02:06:35  1500  hit        ci       CN=payments-api,OU=apps
02:06:36     7  collapsed  日本     zoë
";
    assert_eq!(table(None, &ROWS), shown);
    assert_eq!(table(Some(200), &ROWS), shown);
    assert_eq!(table(Some(59), &ROWS), shown);
}

#[test]
fn on_a_narrow_terminal_names_are_shortened_and_columns_left_out() {
    assert_eq!(
        table(Some(50), &ROWS),
        "\
TIME       AGE  CACHE      SUBJECT  USERNAME
02:06:35  1500  hit        ci       CN=paym…U=apps
02:06:36     7  collapsed  日本     zoë
"
    );
    assert_eq!(
        table(Some(34), &ROWS),
        "\
TIME      SUBJECT  USERNAME
02:06:35  ci       CN=paym…OU=apps
02:06:36  日本     zoë
"
    );
    for width in 16..80 {
        let widest = |line: &str| line.width() <= width;
        let shown = table(Some(width), &ROWS);
        assert!(shown.lines().all(widest), "{width}:\n{shown}");
    }
}

#[test]
fn rows_beyond_those_that_are_held_are_written_at_once_and_cut_on_a_terminal_only() {
    for (terminal, cut) in [(None, false), (Some(80), true)] {
        let mut table = Table::new(columns(), terminal);
        let mut out = Vec::new();
        let mut add = |table: &mut Table, name: &str| {
            let cells = ["", "", "", name, ""].map(str::to_owned).to_vec();
            table.row(&mut out, cells).unwrap();
            out.len()
        };
        for _ in 1..HELD {
            assert_eq!(add(&mut table, "ci"), 0);
        }
        let held = add(&mut table, "ci");
        assert!(add(&mut table, "a-longer-subject") > held);
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown.ends_with("a-longer-subject\n"), !cut, "{shown}");
    }
}

#[test]
fn a_name_without_its_middle_takes_no_more_columns_than_it_may() {
    for (name, width, shown) in [
        ("payments", 8, "payments"),
        ("payments", 7, "pay…nts"),
        ("payments", 2, "p…"),
        ("payments", 1, "…"),
        ("日本日本", 7, "日…本"),
        ("abcdefe\u{301}", 4, "ab…e\u{301}"),
    ] {
        let cut = shortened(name, width);
        assert_eq!(cut, shown);
        assert!(cut.width() <= width);
    }
}
