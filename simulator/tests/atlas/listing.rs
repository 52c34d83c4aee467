//! The list of certificates: paths, versions, pages, links, errors.

use std::time::Duration;

use atlas_simulator::X509Type;
use serde_json::{Value, json};

use crate::client::{ACCEPT, Fixture, G, certificates, error_code, json, raw_get};

#[tokio::test]
async fn a_list_has_the_members_headers_and_self_link_that_were_recorded() {
    let fixture = Fixture::start().await;
    let response = fixture.certificates("app1").await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        header("content-type"),
        "application/vnd.atlas.2023-01-01+json;charset=utf-8"
    );
    assert_eq!(header("ratelimit-limit"), "1200");
    assert_eq!(header("ratelimit-remaining"), "1199");
    assert_eq!(header("server"), "mdbws");
    let java = "ApiAtlasV2DatabaseUsersResource::getValidCertsByUsername";
    assert_eq!(header("x-java-method"), java);
    let text = response.text().await.unwrap();
    assert!(text.starts_with(r#"{"links":[{"href":"#), "{text}");
    assert!(text.contains(r#""results":[{"_id":"#), "{text}");
    assert!(text.ends_with(r#","totalCount":2}"#), "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    let path = certificates("app1");
    let href = format!("https://cloud.mongodb.com{path}?pageNum=1&itemsPerPage=100");
    assert_eq!(list["links"], json!([{"href": href, "rel": "self"}]));
    let certificate = list["results"][0].as_object().unwrap();
    let members: Vec<&str> = certificate.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["_id", "createdAt", "groupId", "notAfter", "subject"]
    );
    assert_eq!(
        (&certificate["groupId"], &certificate["subject"]),
        (&json!(G), &json!("CN=app1"))
    );
    assert!(certificate["_id"].as_i64().unwrap() > 1 << 53);
}

#[tokio::test]
async fn three_pages_of_500_hold_1203_certificates_oldest_first() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let path = certificates("crowd");
    let mut serials = Vec::new();
    for (page, size, links) in [
        (1, 500, "sn"),
        (2, 500, "spn"),
        (3, 203, "sp"),
        (4, 0, "sp"),
    ] {
        let query = format!("includeCount=true&itemsPerPage=500&pageNum={page}");
        let request = fixture.http.get(fixture.url(&format!("{path}?{query}")));
        let request = request.bearer_auth(&token).header("accept", ACCEPT);
        let list = json(request.send().await.unwrap()).await;
        let results = list["results"].as_array().unwrap();
        assert_eq!((results.len(), &list["totalCount"]), (size, &json!(1203)));
        serials.extend(results.iter().map(|result| result["_id"].as_i64().unwrap()));
        let base = format!("https://cloud.mongodb.com{path}?includeCount=true");
        let expected: Vec<Value> = links
            .chars()
            .map(|link| match link {
                's' => json!({"href": format!("{base}&pageNum={page}&itemsPerPage=500"), "rel": "self"}),
                'p' => json!({"href": format!("{base}&itemsPerPage=500&pageNum={}", page - 1), "rel": "previous"}),
                _ => json!({"href": format!("{base}&itemsPerPage=500&pageNum={}", page + 1), "rel": "next"}),
            })
            .collect();
        assert_eq!(list["links"], json!(expected));
    }
    let stated = fixture
        .atlas
        .world(|world| world.project(G).user("crowd").serials());
    assert_eq!(serials, stated);
}

#[tokio::test]
async fn both_forms_of_the_api_show_the_same_list() {
    let fixture = Fixture::start().await;
    let v2 = json(fixture.certificates("app1").await).await;
    let path = certificates("app1").replace("v2", "v1.0");
    let token = fixture.token().await;
    let response = fixture
        .http
        .get(fixture.url(&path))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(json(response).await["results"], v2["results"]);
}

#[tokio::test]
async fn v2_answers_only_the_version_that_the_endpoint_has() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (accept, status) in [
        (None, 406),
        (Some("application/json"), 406),
        (Some("*/*"), 406),
        (Some("application/vnd.atlas.2025-03-12+json"), 406),
        (
            Some("text/html, application/vnd.atlas.2023-01-01+json"),
            200,
        ),
        (Some(ACCEPT), 200),
    ] {
        let mut request = fixture
            .http
            .get(fixture.url(&certificates("app1")))
            .bearer_auth(&token);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{accept:?}");
        if status == 406 {
            assert_eq!(response.headers()["x-error-code"], "INVALID_VERSION_DATE");
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }
}

#[tokio::test]
async fn a_name_in_any_but_the_strict_encoding_is_another_user() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (segment, status) in [
        ("CN%3Da%2Fb", 200),
        ("CN=a%2Fb", 404),
        ("CN%3da%2fb", 404),
        ("%43N%3Da%2Fb", 404),
        ("CN%253Da%252Fb", 404),
        ("nobody", 404),
        ("APP1", 404),
    ] {
        // Sent by hand: a client library would rewrite some of these.
        let answer = raw_get(&fixture.atlas, &certificates(segment), &token).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{segment}: {answer}"
        );
        if status == 404 {
            assert!(answer.contains("USERNAME_NOT_FOUND"), "{segment}: {answer}");
        }
    }
}

#[tokio::test]
async fn every_other_path_is_unknown_in_atlass_words() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for path in [
        format!("/api/atlas/v2/groups/{G}/databaseUsers/CN%3Da/b/certs"),
        format!("/api/atlas/v2/groups/{G}/databaseUsers/app1/certs/"),
        format!("/api/atlas/v2/groups/{G}/databaseUsers/../databaseUsers/app1/certs"),
        format!("/api/atlas/v2//groups/{G}/databaseUsers/app1/certs"),
    ] {
        let answer = raw_get(&fixture.atlas, &path, &token).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let detail = format!(
            r#"{{"detail":"Cannot find resource {path}.","error":404,"errorCode":"RESOURCE_NOT_FOUND","parameters":["{path}"],"reason":"Not Found"}}"#
        );
        assert!(answer.ends_with(&detail), "{answer}");
    }
}

#[tokio::test]
async fn paging_parameters_out_of_bounds_are_refused_by_name() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (query, parameter) in [
        ("pageNum=0", "pageNum"),
        ("pageNum=x", "pageNum"),
        ("itemsPerPage=0", "itemsPerPage"),
        ("itemsPerPage=501", "itemsPerPage"),
        ("includeCount=yes", "includeCount"),
        ("pageNum=1&pageNum=2", "pageNum"),
    ] {
        let path = format!("{}?{query}", certificates("app1"));
        let request = fixture.http.get(fixture.url(&path)).bearer_auth(&token);
        let response = request.header("accept", ACCEPT).send().await.unwrap();
        assert_eq!(response.status(), 400, "{query}");
        let error = json(response).await;
        assert_eq!(error["errorCode"], "INVALID_QUERY_PARAMETER");
        assert_eq!(error["parameters"], json!([parameter]));
    }
}

#[tokio::test]
async fn count_envelope_and_pretty_do_what_atlas_documents() {
    let fixture = Fixture::start().await;
    let ask = async |query: &str| {
        let path = format!("{}?{query}", certificates("app1"));
        fixture
            .get(&path)
            .await
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    assert!(!ask("includeCount=false").await.contains("totalCount"));
    assert!(
        ask("envelope=true")
            .await
            .contains(r#","status":200,"totalCount":2}"#)
    );
    assert!(
        ask("pretty=true")
            .await
            .ends_with("\n  \"totalCount\" : 2\n}")
    );
}

#[tokio::test]
async fn a_certificate_leaves_the_list_at_its_not_after() {
    let fixture = Fixture::start().await;
    let end = fixture.clock.now() + Duration::from_mins(1);
    let serial = fixture
        .atlas
        .world(|world| world.project(G).user("brief").certificate_until(end));
    let list = json(fixture.certificates("brief").await).await;
    assert_eq!(list["results"][0]["_id"], json!(serial));
    fixture.clock.set(end);
    let list = json(fixture.certificates("brief").await).await;
    assert_eq!(
        (&list["results"], &list["totalCount"]),
        (&json!([]), &json!(0))
    );
}

#[tokio::test]
async fn created_at_is_one_hour_before_the_certificate_was_made() {
    let fixture = Fixture::start().await;
    let end = fixture.clock.now() + Duration::from_hours(24);
    fixture
        .atlas
        .world(|world| world.project(G).user("fresh").certificate_until(end));
    let list = json(fixture.certificates("fresh").await).await;
    // The clock of the fixture shows 2026-11-18T11:06:40Z.
    assert_eq!(list["results"][0]["createdAt"], "2026-11-18T10:06:40Z");
    assert_eq!(list["results"][0]["notAfter"], "2026-11-19T11:06:40Z");
}

#[tokio::test]
async fn projects_and_users_that_are_not_there_have_their_own_errors() {
    let fixture = Fixture::start().await;
    fixture.atlas.world(|world| {
        world.project(G).user("legacy").x509(X509Type::Customer);
        world.project(G).user("gone").certificates(1);
        world.project(G).remove_user("gone");
    });
    let path = |project: &str, user: &str| {
        format!("/api/atlas/v2/groups/{project}/databaseUsers/{user}/certs")
    };
    for (path, status, code) in [
        (
            path("111111111111111111111111", "app1"),
            404,
            "GROUP_NOT_FOUND",
        ),
        (
            path("32B6E34B3D91647ABB20E7B8", "app1"),
            404,
            "INVALID_GROUP_ID",
        ),
        (path("short", "app1"), 404, "INVALID_GROUP_ID"),
        (path(G, "legacy"), 400, "USER_NOT_MANAGED_X509"),
        (path(G, "gone"), 404, "USERNAME_NOT_FOUND"),
    ] {
        let response = fixture.get(&path).await.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(error_code(response).await, code);
    }
    // Certificates are bound to the name: a later user of the same name shows them again.
    fixture.atlas.world(|world| {
        world.project(G).user("gone");
    });
    assert_eq!(
        json(fixture.certificates("gone").await).await["totalCount"],
        1
    );
}

#[tokio::test]
async fn the_users_of_a_project_are_listed_with_their_kind() {
    let fixture = Fixture::start().await;
    let path = format!("/api/atlas/v2/groups/{G}/databaseUsers");
    let list = json(fixture.get(&path).await.send().await.unwrap()).await;
    assert_eq!(list["totalCount"], 3);
    let names: Vec<&Value> = list["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["username"])
        .collect();
    assert_eq!(names, ["CN=a/b", "app1", "crowd"]);
    assert_eq!(list["results"][0]["x509Type"], "MANAGED");
    assert_eq!(fixture.atlas.bucket_remaining(G), 1200);
}

#[tokio::test]
async fn the_limits_can_be_looked_up_by_who_has_a_credential() {
    let fixture = Fixture::start().await;
    let path = "/api/atlas/v2/rateLimits";
    let list = json(fixture.get(path).await.send().await.unwrap()).await;
    assert_eq!(list["results"][1]["endpointSetName"], "X509 Authentication");
    assert_eq!(list["results"][1]["capacity"]["value"], 1200);
    assert_eq!(list["results"][1]["refillRate"]["value"], 500);
    let response = fixture.http.get(fixture.url(path)).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn other_methods_are_refused() {
    let fixture = Fixture::start().await;
    let delete = fixture.http.delete(fixture.url(&certificates("app1")));
    assert_eq!(delete.send().await.unwrap().status(), 405);
    let get = fixture.http.get(fixture.url("/api/oauth/token"));
    assert_eq!(get.send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    let fixture = Fixture::start().await;
    let path = format!("{}?itemsPerPage=1&pageNum=2", certificates("app1"));
    let list = json(fixture.get(&path).await.send().await.unwrap()).await;
    let links = list["links"].as_array().unwrap();
    let kinds: Vec<&Value> = links.iter().map(|link| &link["rel"]).collect();
    assert_eq!(kinds, ["self", "previous"]);
}
