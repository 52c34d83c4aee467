//! Encrypted token cache: the access token that outlives the process, in a file, or is shared with other replicas.
//!
//! A process that is killed leaves its token behind, alive for up to an hour. The next one takes it up, so that
//! a restart costs no token (G25). Who can read the state directory alone cannot use it: the key is made of
//! the client secret, and a rotated secret decrypts nothing.

use std::io::Write;
use std::path::Path;
use std::{fmt, fs, io};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use tracing::warn;

use crate::atlas::Timestamp;
use crate::system::{Secret, private_files, random_bytes};

pub(super) fn write(
    path: &Path,
    account: &str,
    secret: &Secret,
    token: &Secret,
    expires: Timestamp,
) -> io::Result<()> {
    let encrypted = seal(account, secret, token, expires)?;
    let (mut file, beside) = private_files::beside(path)?;
    file.write_all(&encrypted)?;
    fs::rename(&beside, path)
}

/// The token in the file and when it expires; `None` if there is none that this secret opens.
pub(super) fn read(path: &Path, account: &str, secret: &Secret) -> Option<(Secret, Timestamp)> {
    let content = match private_files::read(path, LARGEST) {
        Ok(content) => content?,
        Err(why) => return unfit(path, &why),
    };
    if content.is_cut {
        return unfit(path, &"it is too large");
    }
    open(account, secret, &content.bytes)
}

/// A token that only the same secret of the same account opens.
pub(super) fn seal(
    account: &str,
    secret: &Secret,
    token: &Secret,
    expires: Timestamp,
) -> io::Result<Vec<u8>> {
    let key = key(account, secret);
    let mut text = format!("{} {}", expires.seconds(), token.expose()).into_bytes();
    let nonce = random_bytes::<NONCE_LEN>()?;
    let aad = Aad::from(account.as_bytes());
    let encrypted =
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text);
    encrypted.expect("a token is not too long to encrypt");
    Ok([&nonce, &*text].concat())
}

/// The token and when it expires; `None` if this secret does not open it.
pub(super) fn open(account: &str, secret: &Secret, sealed: &[u8]) -> Option<(Secret, Timestamp)> {
    let (nonce, encrypted) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut encrypted = encrypted.to_vec();
    let key = key(account, secret);
    let text = key
        .open_in_place(nonce, Aad::from(account.as_bytes()), &mut encrypted)
        .ok()?;
    let (expires, token) = str::from_utf8(text).ok()?.split_once(' ')?;
    let expires = Timestamp::from_seconds(expires.parse().ok()?);
    Some((Secret::new(token.to_owned()), expires))
}

/// A file that cannot be believed is put out of the way of the next one, and a token minted instead.
fn unfit<T>(path: &Path, why: &dyn fmt::Display) -> Option<T> {
    let aside = match private_files::set_aside(path) {
        Ok(aside) => aside.display().to_string(),
        Err(error) => error.to_string(),
    };
    let (file, why) = (path.display(), why.to_string());
    warn!(%file, aside, "the token of the last process is not taken up: {why}");
    None
}

pub(super) fn remove(path: &Path) {
    // What cannot be removed is refused by Atlas when it is used.
    let _ = fs::remove_file(path);
}

fn key(account: &str, secret: &Secret) -> LessSafeKey {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, PURPOSE)
        .extract(secret.expose().as_bytes())
        .expand(&[account.as_bytes()], &AES_256_GCM)
        .and_then(|key_material| key_material.fill(&mut key))
        .expect("32 bytes are a key of AES-256, and not too many to derive");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are a key of AES-256"))
}

const PURPOSE: &[u8] = b"atlas-cert-gateway: access token at rest, version 1";
const LARGEST: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_same_secret_of_the_same_account_opens_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let expires = Timestamp::from_seconds(1_800_000_000);
        write(&path, "id", &secret("s"), &secret("canary"), expires).unwrap();
        let (token, until) = read(&path, "id", &secret("s")).unwrap();
        assert_eq!((token.expose(), until), ("canary", expires));
        assert!(read(&path, "id", &secret("t")).is_none());
        assert!(read(&path, "other", &secret("s")).is_none());
        let content = fs::read(&path).unwrap();
        write(&path, "id", &secret("s"), &secret("canary"), expires).unwrap();
        let again = fs::read(&path).unwrap();
        // Not a byte of the two is the same but by chance: the nonce is another.
        assert_ne!(content[..NONCE_LEN], again[..NONCE_LEN]);
        assert_ne!(content[NONCE_LEN..], again[NONCE_LEN..]);
        assert!(!String::from_utf8_lossy(&content).contains("canary"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for at in 0..content.len() {
            fs::write(&path, &content[..at]).unwrap();
            assert!(read(&path, "id", &secret("s")).is_none());
        }
        remove(&path);
        assert!(read(&path, "id", &secret("s")).is_none());
    }
}
