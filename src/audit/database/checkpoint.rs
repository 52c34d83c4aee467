//! Checkpoints: once an hour the ends of all chains, signed, with the hash of the checkpoint before.
//!
//! One goes into the table, into the log and into `checkpoints.jsonl` of the replica that made it, for whoever
//! keeps it where nobody changes it. A chain that is changed afterwards in every place that this program knows
//! still contradicts it.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::path::Path;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::chain::HexHash;
use crate::audit::directory::private;
use crate::audit::heads::{HeadKey, HeadVerifier};
use crate::audit::record::hex;

use super::chain_end::seq_of;
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;

/// A line of the table, whose signature covers the rest of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Checkpoint {
    time: String,
    /// The SHA-256 of the line before; 64 zeros in the first.
    previous: String,
    chains: Vec<MarkedEnd>,
    algorithm: String,
    key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signature: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct MarkedEnd {
    chain: Uuid,
    replica: String,
    seq: u64,
    hash: String,
}

/// What all checkpoints say.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub(super) count: u64,
    /// By chain and record.
    pub(super) marked: BTreeMap<(Uuid, u64), HexHash>,
    /// The time of the first that does not follow the one before it, or is not signed with a key that was given.
    pub(super) broken: Option<String>,
}

/// Makes the checkpoint of this hour, unless another replica has; the line, if it was made.
pub(super) async fn make(
    connection: &mut Connection,
    key: &HeadKey,
    now: Timestamp,
) -> Result<Option<String>, DatabaseError> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let hour = now.seconds() / 3_600;
    let newest = "SELECT id, line FROM audit.checkpoint ORDER BY id DESC LIMIT 1";
    let newest = transaction.query_opt(newest, &[]).await?;
    let mut previous = "0".repeat(64);
    if let Some(row) = newest {
        if row.try_get::<_, i64>(0)? >= hour {
            return Ok(None);
        }
        previous = sha256(row.try_get(1)?);
    }
    let ends = "SELECT name, replica, seq, encode(hash, 'hex') FROM audit.chain ORDER BY id";
    let mut chains = Vec::new();
    for row in transaction.query(ends, &[]).await? {
        chains.push(MarkedEnd {
            chain: row.try_get(0)?,
            replica: row.try_get(1)?,
            seq: seq_of(row.try_get(2)?),
            hash: row.try_get(3)?,
        });
    }
    let mut checkpoint = Checkpoint {
        time: now.to_string(),
        previous,
        chains,
        algorithm: key.algorithm().to_owned(),
        key: key.id().to_owned(),
        signature: String::new(),
    };
    checkpoint.signature = key.sign_text(&checkpoint.signed()).1;
    let line = checkpoint.line();
    let insert = "INSERT INTO audit.checkpoint (id, time, line) VALUES ($1, $2, $3)";
    transaction
        .execute(insert, &[&hour, &Instant(now), &line])
        .await?;
    transaction.commit().await?;
    Ok(Some(line))
}

/// Appends a line to the directory's own file.
pub(super) fn append(directory: &Path, line: &str) -> io::Result<()> {
    let mut options = private();
    let options = options.create(true).append(true);
    let mut file = options.open(directory.join(FILE))?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

impl Checkpoints {
    /// Reads all of them; without keys no signature is checked.
    pub(super) async fn read(
        connection: &Connection,
        keys: &[HeadVerifier],
    ) -> Result<Self, DatabaseError> {
        let mut all = Self::default();
        let mut previous = "0".repeat(64);
        let select = "SELECT line, time FROM audit.checkpoint ORDER BY id";
        for row in connection.query(select, &[]).await? {
            let line: &str = row.try_get(0)?;
            let Instant(time) = row.try_get(1)?;
            let read: Option<Checkpoint> = serde_json::from_str(line).ok();
            let good = read.filter(|it| it.previous == previous && it.is_signed(keys));
            let Some(checkpoint) = good else {
                all.broken.get_or_insert_with(|| time.to_string());
                continue;
            };
            previous = sha256(line);
            all.count += 1;
            for end in checkpoint.chains {
                if let Ok(hash) = end.hash.as_bytes().try_into() {
                    all.marked.insert((end.chain, end.seq), hash);
                }
            }
        }
        Ok(all)
    }
}

impl Checkpoint {
    fn is_signed(&self, keys: &[HeadVerifier]) -> bool {
        let text = self.signed();
        let checks = |key: &HeadVerifier| key.check_text(&text, &self.algorithm, &self.signature);
        keys.is_empty() || keys.iter().any(|key| checks(key).is_some())
    }

    /// What is signed; nothing else that this key signs begins like this.
    fn signed(&self) -> String {
        let unsigned = Self {
            signature: String::new(),
            ..self.clone()
        };
        format!("atlas-cert-gateway audit checkpoint\n{}", unsigned.line())
    }

    fn line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

fn sha256(line: &str) -> String {
    let hash = digest::digest(&digest::SHA256, line.as_bytes());
    String::from_utf8(hex(hash.as_ref())).expect("digits are ASCII")
}

const FILE: &str = "checkpoints.jsonl";
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('atlas-cert-gateway audit checkpoint'))";
