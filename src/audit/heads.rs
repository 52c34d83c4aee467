//! Signed heads: checkpoints of the hash chain.
//!
//! The chain alone cannot show that its end was cut off. A head says, over a signature, that the record
//! with this number had this hash; it lies in `heads-….jsonl` beside the file it belongs to, and goes to
//! the second sink and to the log, out of reach of an attacker who cuts the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac, signature};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

use crate::atlas::Timestamp;
use crate::system::{Secret, SecretFileError};

use super::chain::{HexHash, Tip};
use super::directory::private;
use super::listing::Segment;
use super::record::hex;
use super::search::Incomplete;
use super::{listing, reading};

#[derive(Debug)]
pub(super) struct HeadKey {
    signing: Signing,
    id: String,
}

/// Checks heads.
#[derive(Debug)]
pub struct HeadVerifier {
    checking: Checking,
    id: String,
}

/// Why a key file is refused. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum HeadKeyError {
    /// PEM, but no Ed25519 key.
    #[error("the key is no Ed25519 key in PKCS#8; `openssl genpkey -algorithm ed25519` makes one")]
    NotEd25519,
    /// Fewer than 32 characters.
    #[error("the secret is shorter than 32 characters; `openssl rand -hex 32` makes one")]
    Short,
    /// The file itself.
    #[error(transparent)]
    Unreadable(#[from] SecretFileError),
}

#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) signed: BTreeMap<u64, HexHash>,
    /// How many lines are no heads, or not signed with the key that they name.
    pub(super) false_ones: u64,
    pub(super) unknown_keys: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct LastHead {
    /// What it signs, if it is signed with the key that is asked for.
    pub(super) tip: Option<Tip>,
    pub(super) key_id: Option<String>,
}

#[derive(Debug)]
enum Signing {
    Ed25519(Box<Ed25519KeyPair>),
    Hmac(Box<hmac::Key>),
}

#[derive(Debug)]
enum Checking {
    Ed25519(Vec<u8>),
    Hmac(Box<hmac::Key>),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SignedHead<'a> {
    time: &'a str,
    seq: u64,
    hash: &'a str,
    algorithm: &'a str,
    /// The id of the key; heads of earlier versions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    signature: &'a str,
}

impl HeadKey {
    pub(super) fn read(path: &Path) -> Result<Self, HeadKeyError> {
        let secret = Secret::read(path)?;
        let text = secret.expose();
        if text.contains(PEM_MARK) {
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
                .map_err(|_| HeadKeyError::NotEd25519)?;
            let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
                .map_err(|_| HeadKeyError::NotEd25519)?;
            return Ok(Self {
                id: key_id(pair.public_key().as_ref()),
                signing: Signing::Ed25519(Box::new(pair)),
            });
        }
        let key = hmac_key(text)?;
        Ok(Self {
            // Tells secrets from one another, and nothing of them.
            id: key_id(hmac::sign(&key, b"atlas-cert-gateway audit key").as_ref()),
            signing: Signing::Hmac(key),
        })
    }

    /// Names the key in the heads that it signs.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn verifier(&self) -> HeadVerifier {
        HeadVerifier {
            checking: match &self.signing {
                Signing::Ed25519(pair) => Checking::Ed25519(pair.public_key().as_ref().to_vec()),
                Signing::Hmac(key) => Checking::Hmac(key.clone()),
            },
            id: self.id.clone(),
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match &self.signing {
            Signing::Ed25519(_) => ED25519,
            Signing::Hmac(_) => HMAC,
        }
    }

    /// By which algorithm, and the signature in Base64.
    pub(super) fn sign_text(&self, text: &str) -> (&'static str, String) {
        let (algorithm, signature) = match &self.signing {
            Signing::Ed25519(pair) => (ED25519, pair.sign(text.as_bytes()).as_ref().to_vec()),
            Signing::Hmac(key) => (HMAC, hmac::sign(key, text.as_bytes()).as_ref().to_vec()),
        };
        (algorithm, BASE64_STANDARD.encode(signature))
    }

    pub(super) fn sign(&self, tip: Tip, time: Timestamp) -> Vec<u8> {
        let time = time.to_string();
        let hash = str::from_utf8(&tip.hash).expect("digits are ASCII");
        let (algorithm, signature) = self.sign_text(&message(&time, tip.seq, hash));
        let head = SignedHead {
            time: &time,
            seq: tip.seq,
            hash,
            algorithm,
            key: Some(&self.id),
            signature: &signature,
        };
        let mut line = serde_json::to_vec(&head).expect("texts and numbers are JSON");
        line.push(b'\n');
        line
    }
}

/// Takes out of the newest file of heads a last line that was cut off while it was written.
pub(super) fn repair(directory: &Path) -> io::Result<()> {
    let Some(newest) = live(directory)?.pop() else {
        return Ok(());
    };
    let file = private().read(true).write(true).open(newest)?;
    let mut content = Vec::new();
    BufReader::new(&file).read_to_end(&mut content)?;
    let whole = memchr::memrchr(b'\n', &content).map_or(0, |end| end + 1);
    if whole < content.len() {
        let whole = u64::try_from(whole).expect("a file has less than 2^64 bytes");
        file.set_len(whole)?;
    }
    Ok(())
}

/// Those that the gateway writes to, the newest last.
fn live(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut segments = listing::list_heads(directory)?.segments;
    segments.sort_by_key(|segment| (segment.start, segment.first));
    let files = segments.iter().filter_map(Segment::own_file);
    Ok(files.map(|file| file.path.clone()).collect())
}

impl HeadVerifier {
    /// Reads an Ed25519 key in PEM, public or private, or the secret of HMAC-SHA256.
    pub fn read(path: &Path) -> Result<Self, HeadKeyError> {
        let text = match Secret::read(path) {
            Ok(text) => text,
            // A public key may be readable by all.
            Err(SecretFileError::Exposed { .. }) => {
                let text = fs::read_to_string(path).map_err(SecretFileError::Unreadable)?;
                if !text.contains(PUBLIC_MARK) {
                    return Err(HeadKey::read(path).err().unwrap_or(HeadKeyError::Short));
                }
                Secret::new(text)
            }
            Err(error) => return Err(error.into()),
        };
        if text.expose().contains(PUBLIC_MARK) {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(text.expose().as_bytes())
                .map_err(|_| HeadKeyError::NotEd25519)?;
            let key = der
                .strip_prefix(ED25519_INFO)
                .filter(|key| key.len() == 32)
                .ok_or(HeadKeyError::NotEd25519)?;
            return Ok(Self {
                id: key_id(key),
                checking: Checking::Ed25519(key.to_vec()),
            });
        }
        Ok(HeadKey::read(path)?.verifier())
    }

    /// Names the key in the heads that it signs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The last head in `directory`. Reads no more than the newest file that has one, which is of a day at
    /// most, however long the trail is.
    pub(super) fn last(&self, directory: &Path) -> io::Result<LastHead> {
        for path in live(directory)?.iter().rev() {
            let content = fs::read(path)?;
            let mut heads = content.rsplit(|byte| *byte == b'\n').filter_map(parse);
            let Some(newest) = heads.next() else { continue };
            let key_id = newest.key.map(str::to_owned);
            let tip = self
                .check(&newest)
                .or_else(|| heads.find_map(|it| self.check(&it)));
            return Ok(LastHead { tip, key_id });
        }
        Ok(LastHead::default())
    }

    /// Whether this key has signed a text.
    pub(super) fn check_text(&self, text: &str, algorithm: &str, signature: &str) -> Option<()> {
        let signature = BASE64_STANDARD.decode(signature).ok()?;
        match &self.checking {
            Checking::Ed25519(key) if algorithm == ED25519 => {
                UnparsedPublicKey::new(&signature::ED25519, key)
                    .verify(text.as_bytes(), &signature)
                    .ok()
            }
            Checking::Hmac(key) if algorithm == HMAC => {
                hmac::verify(key, text.as_bytes(), &signature).ok()
            }
            Checking::Ed25519(_) | Checking::Hmac(_) => None,
        }
    }

    fn check(&self, head: &SignedHead<'_>) -> Option<Tip> {
        let message = message(head.time, head.seq, head.hash);
        self.check_text(&message, head.algorithm, head.signature)?;
        Some(Tip {
            seq: head.seq,
            hash: head.hash.as_bytes().try_into().ok()?,
        })
    }
}

impl Heads {
    /// Reads every head in `directory` and checks it with the keys; none are read without a key. Files
    /// that cannot be read as a whole are added to `incomplete`.
    pub(super) fn collect(
        directory: &Path,
        keys: &[HeadVerifier],
        incomplete: &mut Vec<Incomplete>,
    ) -> io::Result<Self> {
        let mut heads = Self::default();
        if keys.is_empty() {
            return Ok(heads);
        }
        let listing = listing::list_heads(directory)?;
        for segment in &listing.segments {
            let opened = reading::open_best(directory, segment, None, reading::open);
            let read = opened.and_then(|(_, lines)| heads.add(lines, keys));
            if let Err(error) = read {
                let path = segment.best.path.clone();
                let problem = error.to_string();
                incomplete.push(Incomplete { path, problem });
            }
        }
        Ok(heads)
    }

    fn add(&mut self, mut lines: impl BufRead, keys: &[HeadVerifier]) -> io::Result<()> {
        let mut line = Vec::new();
        // One without its end is being written, or was when the process ended.
        while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            self.add_line(&line, keys);
            line.clear();
        }
        Ok(())
    }

    pub(super) fn add_line(&mut self, line: &[u8], keys: &[HeadVerifier]) {
        let Some(head) = parse(line) else {
            self.false_ones += 1;
            return;
        };
        if let Some(id) = head.key.filter(|id| keys.iter().all(|key| key.id != *id)) {
            self.unknown_keys.insert(id.to_owned());
            return;
        }
        match keys.iter().find_map(|key| key.check(&head)) {
            Some(tip) if *self.signed.entry(tip.seq).or_insert(tip.hash) == tip.hash => (),
            _ => self.false_ones += 1,
        }
    }
}

/// Which record a head is of, and when it was signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadPlace {
    pub(super) time: Timestamp,
    pub(super) seq: u64,
}

/// Where the head on this line stands. Its signature is not looked at.
pub(super) fn place(line: &str) -> Option<HeadPlace> {
    let head = parse(line.as_bytes())?;
    Some(HeadPlace {
        time: Timestamp::parse(head.time)?,
        seq: head.seq,
    })
}

fn parse(line: &[u8]) -> Option<SignedHead<'_>> {
    serde_json::from_slice(line).ok()
}

fn key_id(of: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, of);
    let digits = hex(hash.as_ref().split_at(8).0);
    String::from_utf8(digits).expect("digits are ASCII")
}

pub(super) fn append(segment: &Path, line: &[u8]) -> io::Result<()> {
    let name = segment
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("lookups-"))
        .map_or_else(
            || "heads-0.jsonl".to_owned(),
            |rest| format!("heads-{rest}"),
        );
    let mut file: File = private()
        .create(true)
        .append(true)
        .open(segment.with_file_name(name))?;
    file.write_all(line)?;
    file.sync_data()
}

fn hmac_key(secret: &str) -> Result<Box<hmac::Key>, HeadKeyError> {
    if secret.len() < SHORTEST_SECRET {
        return Err(HeadKeyError::Short);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    Ok(Box::new(key))
}

/// What is signed; nothing else that this key might sign begins like this.
fn message(time: &str, seq: u64, hash: &str) -> String {
    format!("atlas-cert-gateway audit head\n{time}\n{seq}\n{hash}")
}

const HMAC: &str = "hmac-sha256";
const ED25519: &str = "ed25519";
const PEM_MARK: &str = "-----BEGIN ";
const PUBLIC_MARK: &str = "-----BEGIN PUBLIC KEY-----";
const SHORTEST_SECRET: usize = 32;
/// The algorithm identifier before the 32 bytes of an Ed25519 key (RFC 8410, section 4).
const ED25519_INFO: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
