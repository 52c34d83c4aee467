//! What `check --online` asks of the database.

use crate::system::Clock;

use super::config::DatabaseConfig;
use super::connection::Connection;
use super::error::DatabaseError;

/// Connects as the shipper would; says to what, or what keeps records from being shipped.
pub(crate) async fn check(
    database: &DatabaseConfig,
    clock: &Clock,
) -> Result<String, DatabaseError> {
    let mut connection = Connection::open(database, clock).await?;
    let row =
        connection.in_time(async |it| Ok::<_, DatabaseError>(it.query_one(MAY_SHIP, &[]).await?));
    let row = row.await?;
    if !row.try_get::<_, bool>(2)? {
        return Err(DatabaseError::NotShipper);
    }
    let (version, user): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("PostgreSQL {version} takes records of {user}"))
}

const MAY_SHIP: &str = "SELECT current_setting('server_version'), current_user::text, \
     has_table_privilege('audit.record', 'INSERT') AND has_table_privilege('audit.batch', 'INSERT') \
     AND has_column_privilege('audit.chain', 'seq', 'UPDATE')";
