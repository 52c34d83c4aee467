//! What we write down: a question goes in when it arrives, and its answer may leave once [`Entry::close`]
//! has returned.
//!
//! One record per question, however it ended (G15). An [`Entry`] that is dropped without being closed
//! was abandoned, and its record says so. When records cannot be written, [`Entry::close`] fails, and
//! there is no answer (G16).
//!
//! # Reading order
//!
//! [`record`] is what a line holds, [`chain`] what ties the lines together, [`journal`] who writes them
//! and when, [`writer`] the file. [`directory`] names the files and [`repair`] mends the last one;
//! [`verify`] and [`search`] read them back.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::atlas::Question;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::identity::Caller;
use crate::telemetry::metrics::audit::AuditMetrics;

pub use config::Config;
pub use config::Require;
pub use config::Sync;

use self::journal::Journal;
use self::record::Body;
use self::record::room;

mod chain;
mod commit;
mod config;
mod directory;
mod health;
mod journal;
mod keeper;
mod reading;
mod record;
mod repair;
pub mod verify;
mod writer;

/// The audit trail of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

/// One question that is being answered.
///
/// Unclosed when it is dropped, it was abandoned: the caller hung up, or the task that answered died.
#[derive(Debug)]
pub struct Entry {
    audit: Audit,
    arrival: Arrival,
    caller: Option<Arc<Caller>>,
    asked: Asked,
    rule: Option<Arc<str>>,
    closed: bool,
}

/// How a question came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Ours; also in the answer and in every log line.
    pub request_id: Uuid,
    /// Who is connected; never what a header claims.
    pub peer: SocketAddr,
    /// When its head was read.
    pub at: Moment,
    /// The `X-Request-Id` that the caller sent, whatever it is.
    pub caller_request_id: Option<Box<[u8]>>,
}

/// How a question ended.
#[derive(Clone, Debug)]
pub struct Closing<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// The answer's HTTP status.
    pub status: u16,
    /// The code in the answer's error document.
    pub error_code: Option<&'a str>,
    /// What was wrong with the token or which rule was missing, which the caller does not learn.
    pub reason: Option<&'static str>,
    /// Where the bytes came from.
    pub cache: CacheUse,
    /// The fetch that brought them from Atlas.
    pub fill_id: Option<Uuid>,
    /// How long ago Atlas answered with them.
    pub age: Option<Duration>,
    /// How many certificates are in the answer.
    pub certificates: Option<u64>,
    /// How many calls to Atlas this question cost.
    pub upstream_calls: u32,
    /// When the answer was ready.
    pub now: Moment,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller left, or the task that answered died.
    Abandoned,
    /// With certificates, or with Atlas's word that there is nothing.
    Answered,
    /// No rule grants it.
    Denied,
    /// We or Atlas could not answer.
    Failed,
    /// The question itself was wrong, or one too many.
    Rejected,
    /// No token, or none that is accepted.
    Unauthenticated,
}

/// What the cache had to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Waited for a fetch that another question had begun.
    Collapsed,
    /// From memory, within its time.
    Hit,
    /// Fetched for this question.
    Miss,
    /// From memory: Atlas had said that there is nothing.
    Negative,
    /// The cache was not asked.
    None,
    /// From memory, past its time, because Atlas fails.
    Stale,
}

/// One fetch from Atlas, whoever waited for it.
#[derive(Clone, Debug)]
pub struct FetchRecord<'a> {
    /// Named by the answers that it filled.
    pub fill_id: Uuid,
    /// What was asked for.
    pub question: &'a Question,
    /// `answered` if there is a list, else `failed`.
    pub outcome: Outcome,
    /// The credential's configured name.
    pub credential: &'a str,
    /// Atlas's last status.
    pub status: Option<u16>,
    /// Atlas's error code, or ours.
    pub error_code: Option<&'a str>,
    /// Pages in the list.
    pub pages: u32,
    /// Calls to Atlas, retries included.
    pub upstream_calls: u32,
    /// How many certificates are in the list.
    pub certificates: Option<u64>,
    /// From the first call to the last answer.
    pub duration: Duration,
    /// When it ended.
    pub now: Moment,
}

/// Something that an operator did.
#[derive(Clone, Debug)]
pub struct AdminRecord<'a> {
    /// What was done.
    pub action: AdminAction,
    /// What became of it.
    pub outcome: Outcome,
    /// Who did it, where a token says so.
    pub caller: Option<&'a Caller>,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// The request's id.
    pub request_id: Option<Uuid>,
    /// The answer's status.
    pub status: Option<u16>,
    /// The rule that granted it.
    pub rule: Option<&'a str>,
    /// The project that it was about.
    pub group_id: Option<&'a str>,
    /// The database user that it was about.
    pub username: Option<&'a str>,
    /// How many entries it touched.
    pub entries: Option<u64>,
    /// When.
    pub now: Moment,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// Asked what is known of a key.
    Explain,
    /// Removed entries from the cache, or marked them stale.
    Purge,
    /// Had configuration, rules, keys or certificates read again.
    Reload,
    /// Read the audit trail.
    Search,
}

/// Why there is no record, and therefore no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// It has waited for a second.
    #[error("the audit record was not written in time")]
    TooLate,
    /// The journal cannot be written.
    #[error("the audit record could not be written")]
    Unwritable,
}

/// Why there is no audit trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another process has it.
    #[error("the audit directory {} is used by another process", .directory.display())]
    InUse {
        /// Which.
        directory: PathBuf,
    },
    /// It cannot be made, read or written.
    #[error("the audit directory {} cannot be used", .directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
struct Inner {
    journal: Arc<Journal>,
    replica: Box<str>,
    clock: Clock,
    keeper: tokio::task::AbortHandle,
}

#[derive(Debug)]
enum Asked {
    Nothing,
    Path(Box<[u8]>),
    Question(Question),
}

impl Audit {
    /// Takes the directory, mends what a crash left, continues the chain and writes a first record, so
    /// that a directory that cannot be written is found out now. To be called inside a tokio runtime.
    pub fn open(
        config: &Config,
        replica: &str,
        clock: Clock,
        metrics: AuditMetrics,
    ) -> Result<Self, AuditError> {
        let inner = keeper::open(config, replica, clock, metrics)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Opens the record of a question.
    pub fn entry(&self, arrival: Arrival) -> Entry {
        Entry {
            audit: self.clone(),
            arrival,
            caller: None,
            asked: Asked::Nothing,
            rule: None,
            closed: false,
        }
    }

    /// Why no record can be written at present; `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        self.0.journal.health().reason()
    }

    /// Whether records can be written at present.
    pub fn is_writable(&self) -> bool {
        self.0.journal.health().is_writable()
    }

    /// Records a fetch. Nobody waits for it: the answers that it fills have records of their own.
    pub fn record_fetch(&self, fetch: &FetchRecord<'_>) {
        Body::compose(
            fetch.now.wall,
            "fetch",
            |body| {
                body.text("replica", &self.0.replica, room::SHORT);
                fetch.write(body);
            },
            |body| self.0.journal.leave(body, fetch.now),
        );
    }

    /// Records what an operator did; as with a question, what is not recorded is not done.
    pub async fn record_admin(&self, admin: &AdminRecord<'_>) -> Result<(), Unrecorded> {
        let ticket = Body::compose(
            admin.now.wall,
            "admin",
            |body| {
                body.text("replica", &self.0.replica, room::SHORT);
                admin.write(body);
            },
            |body| self.0.journal.submit(body, admin.now),
        )?;
        ticket.recorded().await
    }

    /// Begins a new file, as SIGHUP asks for after the present one was renamed.
    pub fn reopen(&self) {
        self.0.journal.order(|orders| orders.reopen = true);
    }

    /// Writes what is queued, brings it to the disk, and gives the directory up. What comes after is
    /// refused.
    pub async fn close(self) {
        keeper::close(&self.0).await;
    }
}

impl Entry {
    /// The caller's token was verified.
    pub fn identified(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// What was asked.
    pub fn asked(&mut self, question: &Question) {
        self.asked = Asked::Question(question.clone());
    }

    /// What was asked, where it is no question: the path as it arrived.
    pub fn asked_nonsense(&mut self, path: &[u8]) {
        let kept = path.get(..LONGEST_PATH).unwrap_or(path);
        self.asked = Asked::Path(Box::from(kept));
    }

    /// Which rule granted it.
    pub fn permitted(&mut self, rule: &Arc<str>) {
        self.rule = Some(Arc::clone(rule));
    }

    /// Writes the record; the answer may leave when this returns.
    ///
    /// Dropped while it waits, the record is written all the same. After an error nothing may leave but
    /// a refusal.
    pub async fn close(mut self, closing: Closing<'_>) -> Result<(), Unrecorded> {
        self.closed = true;
        let ticket = Body::compose(
            closing.now.wall,
            "lookup",
            |body| self.write(body, &closing),
            |body| self.audit.0.journal.submit(body, closing.now),
        );
        drop(self);
        ticket?.recorded().await
    }

    fn write(&self, body: &mut Body<'_>, closing: &Closing<'_>) {
        body.text("replica", &self.audit.0.replica, room::SHORT);
        body.id_or_null("request_id", Some(&self.arrival.request_id));
        if let Some(id) = &self.arrival.caller_request_id {
            body.bytes("caller_request_id", id, room::SHORT);
        }
        body.word("outcome", closing.outcome.word());
        body.number_or_null(
            "status",
            (closing.status > 0).then(|| closing.status.into()),
        );
        body.text_or_null("error_code", closing.error_code, room::SHORT);
        if let Some(reason) = closing.reason {
            body.word("reason", reason);
        }
        write_caller(body, self.caller.as_deref());
        body.text_or_null("rule", self.rule.as_deref(), room::NAME);
        body.peer("peer", &self.arrival.peer);
        match &self.asked {
            Asked::Question(question) => write_question(body, question),
            Asked::Nothing | Asked::Path(_) => {
                body.null("group_id");
                body.null("username");
            }
        }
        if let Asked::Path(path) = &self.asked {
            body.bytes("path", path, room::PATH);
        }
        body.word("cache", closing.cache.word());
        if closing.cache == CacheUse::Stale {
            body.truth("stale");
        }
        body.id_or_null("fill_id", closing.fill_id.as_ref());
        body.number_or_null("age_ms", closing.age.map(millis));
        body.number_or_null("certificates", closing.certificates);
        body.number("upstream_calls", closing.upstream_calls.into());
        let duration = closing.now.elapsed.saturating_sub(self.arrival.at.elapsed);
        body.number("duration_us", micros(duration));
    }
}

impl Closing<'_> {
    /// The end of a question that nobody answered; also what other ends are made from.
    pub fn abandoned(now: Moment) -> Self {
        Self {
            outcome: Outcome::Abandoned,
            status: 0,
            error_code: None,
            reason: None,
            cache: CacheUse::None,
            fill_id: None,
            age: None,
            certificates: None,
            upstream_calls: 0,
            now,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let closing = Closing::abandoned(self.audit.0.clock.now());
        Body::compose(
            closing.now.wall,
            "lookup",
            |body| self.write(body, &closing),
            |body| self.audit.0.journal.leave(body, closing.now),
        );
    }
}

impl FetchRecord<'_> {
    fn write(&self, body: &mut Body<'_>) {
        body.word("outcome", self.outcome.word());
        body.number_or_null("status", self.status.map(u64::from));
        body.text_or_null("error_code", self.error_code, room::SHORT);
        body.text("credential", self.credential, room::NAME);
        write_question(body, self.question);
        body.id_or_null("fill_id", Some(&self.fill_id));
        body.number_or_null("certificates", self.certificates);
        body.number("pages", self.pages.into());
        body.number("upstream_calls", self.upstream_calls.into());
        body.number("duration_us", micros(self.duration));
    }
}

impl AdminRecord<'_> {
    fn write(&self, body: &mut Body<'_>) {
        body.id_or_null("request_id", self.request_id.as_ref());
        body.word("action", self.action.word());
        body.word("outcome", self.outcome.word());
        body.number_or_null("status", self.status.map(u64::from));
        write_caller(body, self.caller);
        body.text_or_null("rule", self.rule, room::NAME);
        match &self.peer {
            Some(peer) => body.peer("peer", peer),
            None => body.null("peer"),
        }
        body.text_or_null("group_id", self.group_id, room::SHORT);
        body.text_or_null("username", self.username, room::USERNAME);
        body.number_or_null("entries", self.entries);
    }
}

impl Outcome {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl CacheUse {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Collapsed => "collapsed",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Negative => "negative",
            Self::None => "none",
            Self::Stale => "stale",
        }
    }
}

impl AdminAction {
    /// As the record has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Explain => "explain",
            Self::Purge => "purge",
            Self::Reload => "reload",
            Self::Search => "search",
        }
    }
}

fn write_caller(body: &mut Body<'_>, caller: Option<&Caller>) {
    body.text_or_null("subject", caller.map(|it| &*it.subject), room::SUBJECT);
    body.text_or_null("issuer", caller.map(|it| &*it.issuer), room::ISSUER);
    let client_id = caller.and_then(|it| it.client_id.as_deref());
    body.text_or_null("client_id", client_id, room::NAME);
    let token_id = caller.and_then(|it| it.token_id.as_deref());
    body.text_or_null("token_id", token_id, room::NAME);
}

fn write_question(body: &mut Body<'_>, question: &Question) {
    body.text("group_id", question.project.as_str(), room::SHORT);
    body.text("username", question.username.as_str(), room::USERNAME);
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// More of a path than its room in the record can show is not kept.
const LONGEST_PATH: usize = 1_100;
