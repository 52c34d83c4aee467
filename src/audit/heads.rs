//! Signed heads: where the chain ends goes in, a line that proves it comes out.
//!
//! The chain alone cannot show that its end was cut off. A head says, over a signature, that the record
//! with this number had this hash; it lies in `heads-….jsonl` beside the file it belongs to, and goes to
//! the second sink and to the log, where whoever cuts the journal cannot reach it.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::hmac;
use aws_lc_rs::signature;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde::Serialize;

use crate::atlas::Timestamp;
use crate::secret::Secret;
use crate::secret::SecretFileError;

use super::chain::HexHash;
use super::chain::Tip;
use super::directory::private;

/// Signs heads.
#[derive(Debug)]
pub(super) struct HeadKey(Signing);

/// Checks heads.
#[derive(Debug)]
pub struct HeadVerifier(Checking);

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

/// The heads of a directory.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// What was signed, by number.
    pub(super) signed: BTreeMap<u64, HexHash>,
    /// How many lines are no heads, or not signed with this key.
    pub(super) false_ones: u64,
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
struct Head<'a> {
    time: &'a str,
    seq: u64,
    hash: &'a str,
    algorithm: &'a str,
    signature: &'a str,
}

impl HeadKey {
    /// Reads an Ed25519 private key in PEM, or a secret for HMAC-SHA256.
    pub(super) fn read(path: &Path) -> Result<Self, HeadKeyError> {
        let secret = Secret::read(path)?;
        let text = secret.expose();
        if text.contains(PEM_MARK) {
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
                .map_err(|_| HeadKeyError::NotEd25519)?;
            let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
                .map_err(|_| HeadKeyError::NotEd25519)?;
            return Ok(Self(Signing::Ed25519(Box::new(pair))));
        }
        Ok(Self(Signing::Hmac(hmac_key(text)?)))
    }

    /// The same key, for checking.
    pub(super) fn verifier(&self) -> HeadVerifier {
        HeadVerifier(match &self.0 {
            Signing::Ed25519(pair) => Checking::Ed25519(pair.public_key().as_ref().to_vec()),
            Signing::Hmac(key) => Checking::Hmac(key.clone()),
        })
    }

    /// The signed line.
    pub(super) fn sign(&self, tip: Tip, time: Timestamp) -> Vec<u8> {
        let time = time.to_string();
        let hash = str::from_utf8(&tip.hash).unwrap_or_default();
        let message = message(&time, tip.seq, hash);
        let (algorithm, signature) = match &self.0 {
            Signing::Ed25519(pair) => (ED25519, pair.sign(message.as_bytes()).as_ref().to_vec()),
            Signing::Hmac(key) => (HMAC, hmac::sign(key, message.as_bytes()).as_ref().to_vec()),
        };
        let head = Head {
            time: &time,
            seq: tip.seq,
            hash,
            algorithm,
            signature: &BASE64_STANDARD.encode(signature),
        };
        // A struct of texts and numbers always serialises.
        let mut line = serde_json::to_vec(&head).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Takes out of the newest file of heads a last line that was cut off while it was written.
pub(super) fn mend(directory: &Path) -> io::Result<()> {
    let Some(newest) = live(directory)?.pop() else {
        return Ok(());
    };
    let file = private().read(true).write(true).open(newest)?;
    let mut content = Vec::new();
    BufReader::new(&file).read_to_end(&mut content)?;
    let whole = memchr::memrchr(b'\n', &content).map_or(0, |end| end + 1);
    if whole < content.len() {
        file.set_len(u64::try_from(whole).unwrap_or_default())?;
    }
    Ok(())
}

/// Those that were never packed, the newest last: each has the time in its name at which it was begun.
fn live(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = files(directory)?;
    files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    Ok(files)
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_heads = name
            .to_str()
            .is_some_and(|name| name.starts_with("heads-") && name.contains(".jsonl"));
        if is_heads && entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

impl HeadVerifier {
    /// Reads an Ed25519 key in PEM, public or private, or the secret of HMAC-SHA256.
    pub fn read(path: &Path) -> Result<Self, HeadKeyError> {
        let text = match Secret::read(path) {
            Ok(text) => text,
            // A public key may be read by everybody.
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
            return Ok(Self(Checking::Ed25519(key.to_vec())));
        }
        Ok(HeadKey::read(path)?.verifier())
    }

    /// The last head in `directory`. Reads no more than it takes to find it, which is one file of a day,
    /// however long the trail is.
    pub(super) fn last(&self, directory: &Path) -> io::Result<Option<Tip>> {
        for path in live(directory)?.iter().rev() {
            let content = fs::read(path)?;
            let mut heads = content.rsplit(|byte| *byte == b'\n');
            if let Some((seq, hash)) = heads.find_map(|line| self.check(line)) {
                return Ok(Some(Tip { seq, hash }));
            }
        }
        Ok(None)
    }

    /// Reads every head in `directory`.
    pub(super) fn collect(&self, directory: &Path) -> io::Result<Heads> {
        let mut heads = Heads::default();
        for path in files(directory)? {
            let file = private().read(true).open(path)?;
            for line in BufReader::new(file).split(b'\n') {
                match self.check(&line?) {
                    Some((seq, hash)) if *heads.signed.entry(seq).or_insert(hash) == hash => (),
                    _ => heads.false_ones += 1,
                }
            }
        }
        Ok(heads)
    }

    fn check(&self, line: &[u8]) -> Option<(u64, HexHash)> {
        let head: Head<'_> = serde_json::from_slice(line).ok()?;
        let message = message(head.time, head.seq, head.hash);
        let signature = BASE64_STANDARD.decode(head.signature).ok()?;
        match &self.0 {
            Checking::Ed25519(key) if head.algorithm == ED25519 => {
                UnparsedPublicKey::new(&signature::ED25519, key)
                    .verify(message.as_bytes(), &signature)
                    .ok()?;
            }
            Checking::Hmac(key) if head.algorithm == HMAC => {
                hmac::verify(key, message.as_bytes(), &signature).ok()?;
            }
            Checking::Ed25519(_) | Checking::Hmac(_) => return None,
        }
        Some((head.seq, head.hash.as_bytes().try_into().ok()?))
    }
}

/// Appends a head to the file that stands beside `segment`.
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
