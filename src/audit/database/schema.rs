//! The tables of the central trail, and how older ones become the present ones.

use tokio_postgres::{Client, GenericClient};

use super::error::DatabaseError;

/// What the last of [`MIGRATIONS`] leads to.
pub(super) const VERSION: i32 = 4;

/// Each leads from the version before it to its own. What was released is never changed.
const MIGRATIONS: [(i32, &str); 4] = [
    (1, include_str!("schema/001-trail.sql")),
    (2, include_str!("schema/002-siem.sql")),
    (3, include_str!("schema/003-inventory.sql")),
    (4, include_str!("schema/004-smaller.sql")),
];

/// All of it, as a script for `psql`, for a database without any of it.
pub fn script() -> String {
    let steps = MIGRATIONS.map(|(version, sql)| format!("{sql}\n{}\n", note(version)));
    format!("BEGIN;\n\n{}\nCOMMIT;\n", steps.concat())
}

/// Brings the tables to this version, as a whole or not at all; says from which version to which.
pub(crate) async fn prepare(client: &mut Client) -> Result<(i32, i32), DatabaseError> {
    let transaction = client.transaction().await?;
    // Two at a time would make the same tables.
    transaction.batch_execute(LOCK).await?;
    let found = version(&transaction).await?.unwrap_or(0);
    if found > VERSION {
        return Err(DatabaseError::Later);
    }
    for (version, sql) in MIGRATIONS.into_iter().filter(|(it, _)| *it > found) {
        transaction.batch_execute(sql).await?;
        transaction.batch_execute(&note(version)).await?;
    }
    transaction.commit().await?;
    Ok((found, VERSION))
}

/// Of which version the tables are; `None` if there are none.
pub(super) async fn version(client: &impl GenericClient) -> Result<Option<i32>, DatabaseError> {
    let known = "SELECT to_regclass('audit.version') IS NOT NULL";
    if !client.query_one(known, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let newest = "SELECT max(version) FROM audit.version";
    Ok(client.query_one(newest, &[]).await?.try_get(0)?)
}

fn note(version: i32) -> String {
    format!("INSERT INTO audit.version (version) VALUES ({version});")
}

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('atlas-cert-gateway audit schema'))";
