//! A connection to the database: opened and used within a time, ended with its value, and sure of the schema.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::Client;

use crate::system::{Clock, Secret, may_wait};

use super::config::DatabaseConfig;
use super::error::DatabaseError;
use super::schema;
use super::tls::Tls;

/// Derefs to the client. Dropping it closes the socket at once, whatever the server does.
pub struct Connection {
    client: Client,
    driver: AbortHandle,
    clock: Clock,
}

impl Connection {
    /// Connects, and checks that the tables are there.
    pub async fn open(config: &DatabaseConfig, clock: &Clock) -> Result<Self, DatabaseError> {
        let mut connection = Self::open_unprepared(config, clock).await?;
        connection
            .in_time(async |it| it.check_schema().await)
            .await?;
        Ok(connection)
    }

    /// The same, whatever tables there are.
    pub(crate) async fn open_unprepared(
        config: &DatabaseConfig,
        clock: &Clock,
    ) -> Result<Self, DatabaseError> {
        let opened = clock.timeout(LONGEST_OPENING, connect(config, clock)).await;
        opened.map_err(|_| DatabaseError::Late)?
    }

    /// Does what a server that hangs must not hold up: one transaction, or a few short questions.
    pub(super) async fn in_time<T, E: From<DatabaseError>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let clock = self.clock.clone();
        let done = clock.timeout(LONGEST_WORK, work(self)).await;
        done.unwrap_or_else(|_| Err(DatabaseError::Late.into()))
    }

    async fn check_schema(&self) -> Result<(), DatabaseError> {
        let version = schema::version(&self.client).await?;
        match version {
            Some(schema::VERSION) => Ok(()),
            Some(version) if version > schema::VERSION => Err(DatabaseError::Later),
            Some(_) | None => Err(DatabaseError::Unprepared),
        }
    }
}

async fn connect(config: &DatabaseConfig, clock: &Clock) -> Result<Connection, DatabaseError> {
    let mut options = config.url.read().map_err(DatabaseError::Url)?;
    options
        .application_name("atlas-cert-gateway")
        .connect_timeout(LONGEST_CONNECTING)
        .tcp_user_timeout(LONGEST_SILENCE)
        .keepalives_idle(LONGEST_SILENCE)
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    let from = config.clone();
    // They change, and are read from the disk.
    let read = may_wait(move || {
        let tls = Tls::new(from.trust()).map_err(DatabaseError::Tls)?;
        let password = from.password_file.as_deref().map(Secret::read).transpose();
        let password = password.map_err(DatabaseError::Password)?.or(from.password);
        Ok::<_, DatabaseError>((tls, password))
    });
    let (tls, password) = read.await?;
    if let Some(password) = password {
        options.password(password.expose());
    }
    let (client, driver) = options.connect(tls).await?;
    let driver = tokio::spawn(async move {
        // Each request is told of it, too.
        let _ = driver.await;
    });
    let connection = Connection {
        client,
        driver: driver.abort_handle(),
        clock: clock.clone(),
    };
    connection.client.batch_execute(SESSION).await?;
    Ok(connection)
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// `audit` first, so that no other schema can put a table of the same name before ours.
const SESSION: &str = "SET search_path = audit, pg_catalog; SET timezone = 'UTC'; \
                       SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; \
                       SET client_min_messages = warning";
const LONGEST_OPENING: Duration = Duration::from_secs(10);
/// The database's client has no limit of its own for COPY.
const LONGEST_WORK: Duration = Duration::from_secs(30);
const LONGEST_CONNECTING: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
