//! Secrets: text that cannot be printed, and is exposed by one word that can be searched for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fmt, io};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::files::read_limited;

/// A client secret, a private key, an access token or a caller's token.
///
/// `Debug` and `Serialize` show `[redacted]`, there is no `Display`, and the memory is wiped when it is
/// dropped. [`Secret::expose`] is the only way to the text; search for it to find every use.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(SecretString);

/// Why a secret file is refused. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum SecretFileError {
    #[error("the file is empty")]
    Empty,
    #[error("the file can be read by everybody (mode {mode:o}); run `chmod 640` on it")]
    Exposed { mode: u32 },
    #[error("the file is not UTF-8 text")]
    NotText,
    #[error("cannot read the file")]
    Unreadable(#[from] io::Error),
}

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// Reads a secret from a file, without the line end that editors and `echo` leave.
    ///
    /// A file that all users may read is refused.
    pub(crate) fn read(path: &Path) -> Result<Self, SecretFileError> {
        let mode = std::fs::metadata(path)?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(SecretFileError::Exposed { mode });
        }
        let content = read_limited(path, LARGEST_FILE)?;
        let text = String::from_utf8(content).map_err(|_| SecretFileError::NotText)?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.trim().is_empty() {
            return Err(SecretFileError::Empty);
        }
        Ok(Self::new(text.to_owned()))
    }

    /// The text itself. Never hand it to anything that prints, logs or records.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

const REDACTED: &str = "[redacted]";
const LARGEST_FILE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new("mdb_sa_sk_canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    }

    #[test]
    fn a_secret_file_is_read_without_its_line_end_and_refused_when_everybody_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "s3cret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Secret::read(&path).unwrap().expose(), "s3cret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(
            Secret::read(&path),
            Err(SecretFileError::Exposed { mode: 0o604 })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "\n").unwrap();
        assert!(matches!(Secret::read(&path), Err(SecretFileError::Empty)));
    }
}
