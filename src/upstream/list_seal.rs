//! The keys under which lists lie on the disk between two processes.
//!
//! Each list is sealed with a key that is made of the secret of the credential which serves its project: whoever
//! can read the directory alone cannot read a list, and a rotated secret opens nothing.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf;

use super::Upstream;
use super::credential::Credential;
use crate::atlas::ProjectId;

/// What seals the lists that one credential has fetched.
#[derive(Clone)]
pub(crate) struct ListSeal(Arc<Credential>);

impl Upstream {
    /// Those of all credentials, in their order: that of a project is the first that covers it.
    pub(crate) fn list_seals(&self) -> Vec<ListSeal> {
        let credentials = self.0.credentials.load();
        credentials.iter().cloned().map(ListSeal).collect()
    }
}

impl ListSeal {
    pub(crate) fn covers(&self, project: &ProjectId) -> bool {
        self.0.covers(project)
    }

    /// Which account or key it is.
    pub(crate) fn id(&self) -> &str {
        self.0.id()
    }

    /// The key of the file that begins with `salt`.
    pub(crate) fn key(&self, salt: &[u8]) -> LessSafeKey {
        key(self.id(), self.0.login.secret().expose(), salt)
    }
}

fn key(id: &str, secret: &str, salt: &[u8]) -> LessSafeKey {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, PURPOSE)
        .extract(secret.as_bytes())
        .expand(&[salt, id.as_bytes()], &AES_256_GCM)
        .and_then(|key_material| key_material.fill(&mut key))
        .expect("32 bytes are a key of AES-256, and not too many to derive");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are a key of AES-256"))
}

const PURPOSE: &[u8] = b"atlas-cert-gateway: lists at rest, version 1";
