//! Sealing what is put into the engine, so that whoever can read or write there can neither read nor forge it.
//!
//! AES-256-GCM-SIV, because random nonces of plain GCM want a new key every 2^32 messages, and replicas do not count
//! together. What a sealed text is about is authenticated with it: a list that is put under another key opens as
//! nothing.

use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};

use crate::settings::ConfigError;
use crate::system::Secret;

/// The fleet's keys: the first seals, all open.
#[derive(Debug)]
pub(crate) struct Keys(Vec<FleetKey>);

#[derive(Debug)]
struct FleetKey {
    /// Names the key in what it has sealed.
    id: [u8; ID],
    sealing: LessSafeKey,
    names: hmac::Key,
}

/// It was not sealed by a key of ours, or is about something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

impl Keys {
    /// Reads the files; says all that is wrong with them.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Vec<ConfigError>> {
        let (mut keys, mut config_errors) = (Vec::new(), Vec::new());
        for (at, file) in files.iter().enumerate() {
            let read =
                Secret::read(file).map_err(|error| crate::telemetry::Chain(&error).to_string());
            match read {
                Ok(secret) if secret.expose().len() >= SHORTEST => {
                    keys.push(FleetKey::new(&secret));
                }
                Ok(_) => {
                    let message =
                        format!("{}: has less than {SHORTEST} characters", file.display());
                    config_errors.push(ConfigError::at(format!("fleet.key_files[{at}]"), message));
                }
                Err(why) => {
                    let message = format!("{}: {why}", file.display());
                    config_errors.push(ConfigError::at(format!("fleet.key_files[{at}]"), message));
                }
            }
        }
        if config_errors.is_empty() {
            Ok(Self(keys))
        } else {
            Err(config_errors)
        }
    }

    /// What hashes the names of this fleet.
    pub(super) fn names(&self) -> hmac::Key {
        self.newest().names.clone()
    }

    /// Seals `plain`, which is about `about`.
    pub(crate) fn seal(&self, about: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
        let key = self.newest();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system gives random bytes");
        let sealed = key.sealing.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about),
            &mut plain,
        );
        sealed.expect("what is shared is not too long to seal");
        let mut text = Vec::with_capacity(1 + ID + NONCE_LEN + plain.len());
        text.push(VERSION);
        text.extend_from_slice(&key.id);
        text.extend_from_slice(&nonce);
        text.extend_from_slice(&plain);
        text
    }

    /// What was sealed about `about`.
    pub(crate) fn open(&self, about: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotOurs> {
        let (version, rest) = sealed.split_first().ok_or(NotOurs)?;
        let (id, rest) = rest.split_at_checked(ID).ok_or(NotOurs)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(NotOurs)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or(NotOurs)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOurs)?;
        if *version != VERSION {
            return Err(NotOurs);
        }
        let mut text = text.to_vec();
        let opened = key
            .sealing
            .open_in_place(nonce, Aad::from(about), &mut text);
        let length = opened.map_err(|_| NotOurs)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn newest(&self) -> &FleetKey {
        self.0
            .first()
            .expect("a configuration without key files is refused")
    }
}

impl FleetKey {
    fn new(secret: &Secret) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, PURPOSE);
        let extracted = salt.extract(secret.expose().as_bytes());
        let derive = |purpose: &[u8]| {
            let mut key = [0; 32];
            extracted
                .expand(&[purpose], &AES_256_GCM_SIV)
                .and_then(|key_material| key_material.fill(&mut key))
                .expect("32 bytes are a key of AES-256, and not too many to derive");
            key
        };
        let sealing = UnboundKey::new(&AES_256_GCM_SIV, &derive(b"entry 1"));
        let [a, b, c, d, ..] = derive(b"key id 1");
        Self {
            id: [a, b, c, d],
            sealing: LessSafeKey::new(sealing.expect("32 bytes are a key of AES-256")),
            names: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"names 1")),
        }
    }
}

const PURPOSE: &[u8] = b"atlas-cert-gateway fleet";
const VERSION: u8 = 1;
const ID: usize = 4;
const SHORTEST: usize = 32;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keys(secrets: &[&str]) -> Result<Keys, Vec<ConfigError>> {
        let place = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = secrets
            .iter()
            .enumerate()
            .map(|(at, secret)| {
                let file = place.path().join(at.to_string());
                fs::write(&file, secret).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                file
            })
            .collect();
        Keys::read(&files)
    }

    const OLD: &str = "an old secret of thirty-two bytes";
    const NEW: &str = "a new secret of thirty-two bytes.";

    #[test]
    fn only_the_whole_text_opens_under_what_it_is_about() {
        let keys = keys(&[NEW]).unwrap();
        let sealed = keys.seal(b"about", b"canary".to_vec());
        assert_eq!(keys.open(b"about", &sealed).unwrap(), b"canary");
        assert_eq!(keys.open(b"other", &sealed), Err(NotOurs));
        for at in 0..sealed.len() {
            assert_eq!(keys.open(b"about", &sealed[..at]), Err(NotOurs));
            for bit in 0..8 {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(keys.open(b"about", &flipped), Err(NotOurs), "{at} {bit}");
            }
        }
        assert_ne!(keys.seal(b"about", b"canary".to_vec()), sealed);
    }

    #[test]
    fn a_key_is_rotated_by_two_files() {
        let (before, after) = (keys(&[OLD, NEW]).unwrap(), keys(&[NEW, OLD]).unwrap());
        let sealed = before.seal(b"about", b"text".to_vec());
        assert_eq!(after.open(b"about", &sealed).unwrap(), b"text");
        let alone = keys(&[NEW]).unwrap();
        assert_eq!(alone.open(b"about", &sealed), Err(NotOurs));
        let sealed = after.seal(b"about", b"text".to_vec());
        assert_eq!(alone.open(b"about", &sealed).unwrap(), b"text");
    }

    #[test]
    fn a_short_key_is_refused() {
        let wrong = keys(&[NEW, "short"]).unwrap_err();
        assert_eq!(wrong[0].place, "fleet.key_files[1]");
        assert!(!format!("{wrong:?}").contains("short"), "{wrong:?}");
    }
}
