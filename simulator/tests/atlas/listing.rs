//! The list of certificates: paths, versions, pages, links, errors.

use serde_json::Value;

use crate::client::Fixture;
use crate::client::G;
use crate::client::certificates;
use crate::client::json;

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
    let list = json(response).await;
    assert_eq!(list["totalCount"], 2);
    let link = &list["links"][0];
    let expected = format!(
        "https://cloud.mongodb.com{}?pageNum=1&itemsPerPage=100",
        certificates("app1")
    );
    assert_eq!(
        (&link["href"], &link["rel"]),
        (&Value::from(expected), &Value::from("self"))
    );
    let certificate = list["results"][0].as_object().unwrap();
    let members: Vec<&str> = certificate.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["_id", "createdAt", "groupId", "notAfter", "subject"]
    );
    assert_eq!(certificate["groupId"], G);
    assert_eq!(certificate["subject"], "CN=app1");
    assert!(certificate["_id"].as_i64().unwrap() > 1 << 53);
}
