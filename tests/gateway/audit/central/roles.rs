//! Who may do what in the database (AU05).

use tokio_postgres::error::SqlState;

use crate::audit::central::shipped::{central_trail, record_named, until_shipped};
use crate::harness::postgres::Postgres;

#[tokio::test]
async fn au05_a_shipper_removes_nothing_and_an_auditor_adds_nothing() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    record_named(&trail, "one").await;
    until_shipped(&trail, &postgres).await;
    drop(trail);
    for (user, statement) in [
        ("gateway_audit", "DELETE FROM audit.record"),
        ("gateway_audit", "DELETE FROM audit.batch"),
        ("gateway_audit", "TRUNCATE audit.record"),
        ("gateway_audit", "UPDATE audit.record SET subject = 'x'"),
        (
            "gateway_audit",
            "UPDATE audit.chain SET name = gen_random_uuid()",
        ),
        ("gateway_audit", "DELETE FROM audit.chain"),
        ("gateway_audit", "DELETE FROM audit.head"),
        ("gateway_audit", "DELETE FROM audit.gap"),
        ("gateway_audit", "DROP TABLE audit.record_20260810"),
        (
            "gateway_audit",
            "SELECT audit.drop_days_before('2030-01-01')",
        ),
        ("gateway_audit", "CREATE TABLE audit.mine ()"),
        (
            "auditor",
            "INSERT INTO audit.chain (name, replica) VALUES (gen_random_uuid(), 'x')",
        ),
        (
            "auditor",
            "INSERT INTO audit.checkpoint VALUES (1, now(), 'x')",
        ),
        ("auditor", "UPDATE audit.chain SET seq = 1"),
        ("auditor", "DELETE FROM audit.record"),
        ("auditor", "SELECT audit.prepare_day('2030-01-01')"),
    ] {
        let client = postgres.client(user).await;
        let refused = client.batch_execute(statement).await.unwrap_err();
        let code = refused.code().unwrap();
        assert_eq!(
            code,
            &SqlState::INSUFFICIENT_PRIVILEGE,
            "{user}: {statement}"
        );
    }
    for view in ["audit.audit_ocsf", "audit.audit_ecs"] {
        let client = postgres.client("auditor").await;
        let count = format!("SELECT count(*) FROM {view} WHERE event IS NOT NULL");
        let row = client.query_one(&count, &[]).await.unwrap();
        assert!(row.get::<_, i64>(0) == 1, "{view}");
    }
}
