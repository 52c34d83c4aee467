//! What a record holds, and that there is one whatever becomes of a question.

use std::sync::Arc;

use atlas_cert_gateway::audit::CacheUse;
use atlas_cert_gateway::audit::Closing;
use atlas_cert_gateway::audit::Outcome;
use uuid::Uuid;

use crate::trail::Trail;
use crate::trail::caller;
use crate::trail::question;

#[tokio::test]
async fn a_record_has_the_members_of_the_contract_in_their_order() {
    let trail = Trail::new();
    let mut entry = trail.entry();
    entry.identified(&caller("payments-api"));
    entry.asked(&question("CN=payments"));
    entry.permitted(&Arc::from("payments reads its own users"));
    let closing = Closing {
        cache: CacheUse::Stale,
        fill_id: Some(Uuid::nil()),
        ..trail.closing()
    };
    entry.close(closing).await.unwrap();
    let file = trail.files().remove(0);
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().nth(1).unwrap();
    let names: Vec<&str> = line
        .split(",\"")
        .map(|member| member.split('"').find(|name| name.len() > 1).unwrap())
        .collect();
    assert_eq!(
        names.join(" "),
        "time seq kind replica request_id outcome status error_code subject issuer client_id token_id \
         rule peer group_id username cache stale fill_id age_ms certificates upstream_calls duration_us \
         previous hash"
    );
    let record = &trail.lookups()[0];
    assert_eq!(record["time"], "2026-08-10T02:06:35.000000Z");
    assert_eq!(record["seq"], 2);
    assert_eq!(record["peer"], "192.0.2.7:50123");
    assert_eq!(record["username"], "CN=payments");
    assert_eq!(record["age_ms"], 1_500);
    assert_eq!(record["stale"], true);
    assert_eq!(record["fill_id"], "00000000-0000-0000-0000-000000000000");
    assert!(record["error_code"].is_null());
    assert_eq!(trail.verify().fault, None);
}

#[tokio::test]
async fn a_question_that_is_dropped_was_abandoned() {
    let trail = Trail::new();
    let mut entry = trail.entry();
    entry.identified(&caller("payments-api"));
    drop(entry);
    trail.until(|| !trail.lookups().is_empty()).await;
    let record = &trail.lookups()[0];
    assert_eq!(record["outcome"], "abandoned");
    assert_eq!(record["subject"], "payments-api");
    assert!(record["status"].is_null());
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_the_record_is_written_has_exactly_one() {
    let trail = Trail::new();
    let entry = trail.entry();
    let closing = trail.closing();
    let mut waiting = Box::pin(entry.close(closing));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    trail.record("another").await.unwrap();
    trail.until(|| trail.lookups().len() == 2).await;
    assert_eq!(trail.lookups()[0]["outcome"], Outcome::Answered.word());
    assert_eq!(trail.verify().fault, None);
}
