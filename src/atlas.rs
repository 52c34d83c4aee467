//! Atlas's words, without I/O: identifiers, certificates, pages, errors and instants.
//!
//! Everybody may use this vocabulary; it uses nobody.

pub mod certificate;
pub mod error;
pub mod ids;
pub mod timestamp;

pub use certificate::{Certificate, CertificateList};
pub use error::ApiError;
pub use ids::{CertQuery, InvalidProjectId, InvalidUsername, ProjectId, Username};
pub use timestamp::Timestamp;
