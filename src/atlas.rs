//! Atlas's words, without I/O: identifiers, certificates, pages, errors and instants.
//!
//! Every module may use this vocabulary; it uses none of them.

pub mod certificate;
pub mod error;
pub mod ids;
pub mod timestamp;

pub use certificate::{Certificate, CertificateList};
pub use error::ApiError;
pub use ids::{CertQuery, InvalidProjectId, InvalidUsername, ProjectId, Username};
pub use timestamp::Timestamp;
