//! What can be wrong with the database.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use tokio_postgres::error::SqlState;

use crate::system::{NoTls, SecretFileError};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// `audit verify --database` says more.
    #[error("a record has no line in it; `audit verify --database` names what is damaged")]
    Damaged,
    /// One that was to be compared.
    #[error("a directory that was to be compared with it cannot be read")]
    Directory,
    /// The connection has ended while nothing was asked.
    #[error("it has closed the connection")]
    Gone,
    /// Its tables are those of a later version.
    #[error("its tables are of a later version of this program")]
    Later,
    /// The server does not answer.
    #[error("it did not answer in time")]
    Late,
    /// The user lacks the role.
    #[error(
        "it lets us in, and its user may not add records; have the owner GRANT audit_shipper to it"
    )]
    NotShipper,
    /// The file with the password.
    #[error("the password cannot be read")]
    Password(#[source] SecretFileError),
    /// What the server says, or that it says nothing.
    #[error("{}", summary(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No roots.
    #[error("there is no TLS")]
    Tls(#[source] NoTls),
    /// There are no tables, or older ones.
    #[error("its tables are missing or too old; run `atlas-cert-gateway audit database prepare`")]
    Unprepared,
    /// The configuration was checked before.
    #[error("its address {0}")]
    Url(&'static str),
}

/// In one sentence; what the server says stands in its own error.
fn summary(error: &tokio_postgres::Error) -> &'static str {
    match error.code() {
        None => {
            certificate_summary(error).unwrap_or("it cannot be reached, or the connection broke")
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => "it does not permit this",
        Some(code)
            if *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            "it does not let us in"
        }
        Some(_) => "it refuses this",
    }
}

/// What is wrong with the certificate that the server shows, if it is that.
fn certificate_summary(error: &tokio_postgres::Error) -> Option<&'static str> {
    let handshake = error.source()?.downcast_ref::<io::Error>()?;
    let failed = handshake.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = failed else {
        return None;
    };
    let is_unknown = *why == CertificateError::UnknownIssuer;
    let is_other = *why == CertificateError::NotValidForName
        || matches!(why, CertificateError::NotValidForNameContext { .. });
    Some(match (is_unknown, is_other) {
        (true, _) => {
            "its certificate is of no authority that is trusted here; name the authority's with `ca_certificate`"
        }
        (_, true) => {
            "its certificate is for another name; write into `url` the name that it is for"
        }
        (false, false) => "its certificate is refused",
    })
}
