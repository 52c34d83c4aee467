//! One connection to the engine: opened within a time, with the functions that it needs, and lost as a whole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, Value,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{Config, EngineAddress};
use super::functions::{LIBRARY, VERSION};
use super::reply_limit::{BoundedStream, Heard};
use crate::system::{Clock, NoTls, Secret, SecretFileError, may_wait};

/// A connection that works. Dropped, it is closed.
pub(super) struct Connection {
    client: MultiplexedConnection,
    heard: Heard,
    /// Cancelled when it is closed, by us or by the engine.
    pub(super) closed: CancellationToken,
    _driver: DropGuard,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot reach it")]
    Unreachable(#[source] io::Error),
    #[error("cannot speak TLS with it")]
    Tls(#[source] NoTls),
    #[error("its name is no name of a server")]
    Name,
    #[error("cannot read the password")]
    Password(#[source] SecretFileError),
    // Its source says the same again.
    #[error("it refuses us: {0}")]
    Refused(RedisError),
    #[error(
        "it lacks the functions, and we may not load them: run `atlas-cert-gateway fleet functions | redis-cli -x FUNCTION LOAD REPLACE`"
    )]
    NoFunctions(#[source] RedisError),
    #[error("it did not answer in time")]
    Late,
}

/// Nothing has come for too long.
#[derive(Debug)]
pub(super) struct Silent;

/// What is called for each message of the channel.
pub(super) type OnBell = Arc<dyn Fn(&[u8]) + Send + Sync>;

impl Connection {
    pub(super) async fn open(
        config: &Config,
        clock: &Clock,
        channel: &str,
        on_bell: OnBell,
    ) -> Result<Self, ConnectError> {
        let opened = clock
            .timeout(LONGEST_OPENING, Box::pin(connect(config, on_bell)))
            .await;
        let connection = opened.map_err(|_| ConnectError::Late)??;
        let prepared = connection.prepare(channel);
        let prepared = clock.timeout(LONGEST_OPENING, prepared).await;
        prepared.map_err(|_| ConnectError::Late)??;
        Ok(connection)
    }

    /// The same, but nothing is made sure of: for who only wants to look.
    pub(super) async fn open_to_look(config: &Config, clock: &Clock) -> Result<Self, ConnectError> {
        let opened = Box::pin(connect(config, Arc::new(|_| {})));
        let opened = clock.timeout(LONGEST_OPENING, opened).await;
        opened.map_err(|_| ConnectError::Late)?
    }

    /// Makes sure of the functions, and listens to the channel.
    async fn prepare(&self, channel: &str) -> Result<(), ConnectError> {
        let version = self.version().await.map_err(ConnectError::Refused)?;
        if version.is_none_or(|version| version < VERSION) {
            let mut load = redis::cmd("FUNCTION");
            load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
            self.send(&load).await.map_err(ConnectError::NoFunctions)?;
        }
        let mut client = self.client.clone();
        client
            .subscribe(channel)
            .await
            .map_err(ConnectError::Refused)
    }

    /// Of the functions that are there, if they are.
    pub(super) async fn version(&self) -> Result<Option<i64>, RedisError> {
        let mut version = redis::cmd("FCALL");
        version.arg("acg1_version").arg(0);
        match self.send(&version).await {
            Ok(Value::Int(version)) => Ok(Some(version)),
            Ok(_) => Ok(None),
            Err(error) => {
                let said = error.to_string().to_lowercase();
                let is_missing = said.contains("function not found");
                if is_missing { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Sends a command, and waits for its reply however long that takes.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let reply = self.client.clone().send_packed_command(command).await?;
        reply.extract_error()
    }

    /// The same, but not while nothing comes at all for as long as `silence`: an engine that answers others is
    /// slow, and one that answers nobody is gone.
    pub(super) async fn call(
        &self,
        command: &Cmd,
        silence: Duration,
        clock: &Clock,
    ) -> Result<Result<Value, RedisError>, Silent> {
        let mut reply = std::pin::pin!(self.send(command));
        let (mut heard, mut quiet) = (self.heard.bytes(), 0);
        // In parts: a busy machine, whose timers are late, reads what has come between any two of them.
        let part = (silence / MOST_PARTS).max(SHORTEST_PART);
        let parts_of = |span: Duration| span.as_nanos().div_ceil(part.as_nanos());
        for _ in 0..parts_of(LONGEST_REPLY.max(silence)) {
            if let Ok(reply) = clock.timeout(part, &mut reply).await {
                return Ok(reply);
            }
            let now = self.heard.bytes();
            quiet = if now == heard { quiet + 1 } else { 0 };
            heard = now;
            if quiet >= parts_of(silence) {
                break;
            }
        }
        Err(Silent)
    }
}

async fn connect(config: &Config, on_bell: OnBell) -> Result<Connection, ConnectError> {
    let from = config.clone();
    // They change, and are read from the disk.
    let read = may_wait(move || {
        let password = from.password_file.as_deref().map(Secret::read).transpose();
        let password = password
            .map_err(ConnectError::Password)?
            .or_else(|| from.password.clone());
        let tls = from.trust().tls().map_err(ConnectError::Tls)?;
        Ok::<_, ConnectError>((tls, password))
    });
    let (mut tls, password) = read.await?;
    let address = config.url.read().expect("the configuration was checked");
    match address {
        EngineAddress::Socket(path) => {
            let stream = UnixStream::connect(path).await;
            let stream = stream.map_err(ConnectError::Unreachable)?;
            greet(config, password, stream, on_bell).await
        }
        EngineAddress::Plain { host, port } => {
            let stream = tcp(&host, port).await.map_err(ConnectError::Unreachable)?;
            greet(config, password, stream, on_bell).await
        }
        EngineAddress::Tls { host, port } => {
            let stream = tcp(&host, port).await.map_err(ConnectError::Unreachable)?;
            tls.alpn_protocols.clear();
            let name = ServerName::try_from(host).map_err(|_| ConnectError::Name)?;
            let stream = TlsConnector::from(Arc::new(tls))
                .connect(name, stream)
                .await;
            let stream = stream.map_err(ConnectError::Unreachable)?;
            greet(config, password, stream, on_bell).await
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn greet<S>(
    config: &Config,
    password: Option<Secret>,
    stream: S,
    on_bell: OnBell,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut user = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    if let Some(password) = password {
        user = user.set_password(password.expose());
        if let Some(username) = &config.username {
            user = user.set_username(username);
        }
    }
    let ring = move |push: PushInfo| -> Result<(), ()> {
        if let (PushKind::Message, Some(Value::BulkString(message))) = (push.kind, push.data.get(1))
        {
            on_bell(message);
        }
        Ok(())
    };
    let settings = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(MOST_WAITING)
        .set_push_sender(ring);
    let heard = Heard::default();
    let stream = BoundedStream::new(stream, heard.clone());
    let (client, driver) = MultiplexedConnection::new_with_config(&user, stream, settings)
        .await
        .map_err(ConnectError::Refused)?;
    let (closed, stop) = (CancellationToken::new(), CancellationToken::new());
    let (until, ended) = (stop.clone(), closed.clone());
    tokio::spawn(async move {
        let ended = ended.drop_guard();
        until.run_until_cancelled(driver).await;
        drop(ended);
    });
    Ok(Connection {
        client,
        heard,
        closed,
        _driver: stop.drop_guard(),
    })
}

/// Of a connection and of its preparation.
const LONGEST_OPENING: Duration = Duration::from_secs(1);
/// However lively the engine is otherwise; as long as a silence that is longer.
const LONGEST_REPLY: Duration = Duration::from_millis(500);
/// Of a silence.
const MOST_PARTS: u32 = 20;
const SHORTEST_PART: Duration = Duration::from_millis(5);
/// How many commands may wait to be sent.
const MOST_WAITING: usize = 1_024;
