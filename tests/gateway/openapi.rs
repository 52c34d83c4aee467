//! The `OpenAPI` document says what the two listeners do, and is there for everybody.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::Connection;
use crate::world::{PROJECT, World, operator_token, set};

const DOCUMENT: &str = include_str!("../../config/openapi.json");
const GUIDE: &str = include_str!("../../docs/operating.md");
const ADMIN: &str = include_str!("../../src/server/admin.rs");

#[tokio::test]
async fn both_listeners_show_the_document_without_a_token_or_a_record() {
    let world = World::new().await;
    for address in [world.app.address(), world.app.admin_address()] {
        for (method, is_head) in [("GET", false), ("HEAD", true)] {
            let mut connection = Connection::open(address).await;
            let request = format!("{method} /openapi.json HTTP/1.1\r\nHost: {address}\r\n\r\n");
            connection.send(request.as_bytes()).await;
            let reply = connection.reply(is_head).await;
            assert_eq!(reply.status, 200, "{method}");
            let caching = reply.header("cache-control");
            assert_eq!(caching, Some("public, max-age=3600"), "{method}");
            assert_eq!(reply.header("content-type"), Some("application/json"));
            assert_eq!(reply.text(), if is_head { "" } else { DOCUMENT });
        }
    }
    assert_eq!(world.lookups(), Vec::<Value>::new());
    let reply = world.send("POST", "/openapi.json", "", &[]).await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn the_document_has_the_codes_and_statuses_of_the_table_of_errors() {
    let document = document();
    let examples =
        &document["components"]["schemas"]["ApiError"]["properties"]["errorCode"]["examples"];
    let codes: BTreeSet<_> = texts(examples).collect();
    let (_, errors) = GUIDE.split_once("| status | `errorCode` |").unwrap();
    let (errors, _) = errors.split_once("\n\n").unwrap();
    let rows: Vec<Vec<_>> = errors
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split(" | ").collect())
        .collect();
    let rows: Vec<_> = rows.iter().filter(|row| row.len() == 4).collect();
    let told: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row[1].split('`').nth(1))
        .collect();
    assert_eq!(codes, told);
    let mut statuses: BTreeSet<_> = rows
        .iter()
        .map(|row| row[0].trim_matches(['|', ' ']))
        .collect();
    statuses.extend(["200", "303", "304"]);
    let documented: BTreeSet<_> = operations(&document)
        .flat_map(|(_, _, operation)| operation["responses"].as_object().unwrap().keys())
        .map(String::as_str)
        .collect();
    assert_eq!(documented, statuses);
}

#[test]
fn the_document_has_the_operators_paths_and_no_other() {
    let document = document();
    let documented: BTreeSet<_> = operations(&document)
        .filter(|(_, _, operation)| operation["tags"][0] == "operators")
        .map(|(path, _, _)| path)
        .collect();
    let routed: BTreeSet<_> = ADMIN
        .split('"')
        .filter(|text| text.starts_with('/') && !text.contains(char::is_whitespace))
        .collect();
    assert_eq!(documented, routed);
}

#[tokio::test]
async fn each_path_takes_the_parameters_of_the_document_within_their_bounds() {
    let world = World::with(|plan| {
        plan.atlas.world.project(PROJECT).user("ci");
        set(&mut plan.config, "audit.refusals_per_minute", 1_000);
    })
    .await;
    let document = document();
    let mut tried = 0;
    for (path, method, operation) in operations(&document) {
        let path = path
            .replace("{groupId}", PROJECT)
            .replace("{username}", "ci");
        let is_of_operators = operation["tags"][0] == "operators";
        let ask = async |query: String| {
            let target = format!("{path}?{query}");
            let token = operator_token();
            let reply = if is_of_operators {
                world
                    .admin(&method.to_uppercase(), &target, &token, "")
                    .await
            } else {
                world.send("GET", &target, &token, &[]).await
            };
            (reply.status, target, reply.text())
        };
        let mut needed = String::new();
        let parameters = operation["parameters"].as_array();
        let parameters: Vec<_> = parameters
            .into_iter()
            .flatten()
            .map(|parameter| referred(&document, parameter))
            .collect();
        for (name, value) in [("groupId", PROJECT), ("username", "ci")] {
            if parameters
                .iter()
                .any(|it| it["name"] == name && it["required"] == true && it["in"] == "query")
            {
                needed.extend([name, "=", value, "&"]);
            }
        }
        for parameter in parameters.iter().filter(|it| it["in"] == "query") {
            let (good, bad) = values(referred(&document, &parameter["schema"]));
            let name = parameter["name"].as_str().unwrap();
            for value in good {
                let (status, target, text) = ask(format!("{needed}{name}={value}")).await;
                // Whether it can be had depends on the configuration.
                let is_taken = ![400, 404].contains(&status) || text.contains("[audit.database]");
                assert!(is_taken, "{target}: {status}: {text}");
                tried += 1;
            }
            for value in bad {
                let (status, target, _) = ask(format!("{needed}{name}={value}")).await;
                assert_eq!(status, 400, "{target}");
            }
        }
        if method == "get" {
            let (status, target, text) = ask(needed).await;
            assert_eq!(status, 200, "{target}: {text}");
        }
    }
    assert!(tried > 40, "{tried}");
}

/// Values that a parameter of this schema takes, and values that it does not.
fn values(schema: &Value) -> (Vec<String>, Vec<String>) {
    if let (Some(least), Some(most)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        let text = |numbers: [i64; 2]| numbers.iter().map(ToString::to_string).collect();
        return (text([least, most]), text([least - 1, most + 1]));
    }
    let nonsense = vec!["nonsense".to_owned()];
    if schema["enum"].is_array() {
        return (
            texts(&schema["enum"]).map(str::to_owned).collect(),
            nonsense,
        );
    }
    if schema["type"] == "boolean" {
        return (vec!["true".to_owned(), "false".to_owned()], nonsense);
    }
    // Of a pattern the default is an example. What is free text has no bounds.
    let usual = schema["default"].as_str().map(str::to_owned);
    let bad = usual.is_some().then_some(nonsense);
    (usual.into_iter().collect(), bad.unwrap_or_default())
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// What a reference leads to, or what stands there.
fn referred<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    document.pointer(reference.trim_start_matches('#')).unwrap()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
}

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}
