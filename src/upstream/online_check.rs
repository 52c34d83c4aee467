//! Whether a credential works: it goes in and is tried on one page; what Atlas has against it comes
//! out.

use std::sync::Arc;

use super::FetchError;
use super::FetchFailure;
use super::Inner;
use super::Urgency;
use super::credential::Credential;
use crate::atlas::Question;
use crate::telemetry::metrics::upstream::CallCause;

/// What became of trying a credential.
#[derive(Clone, Debug)]
pub struct OnlineCheck {
    /// Its configured name.
    pub credential: Arc<str>,
    /// What is wrong; `None` if Atlas accepts it.
    pub problem: Option<FetchError>,
}

impl Inner {
    pub(super) async fn try_out(&self, credential: &Credential) -> Option<FetchError> {
        let named = credential.named_projects().next();
        let question = Question {
            project: named.or_else(|| NOBODYS_PROJECT.parse().ok())?,
            username: NOBODY.parse().ok()?,
        };
        let error = self
            .list(
                &question,
                (Urgency::Miss, CallCause::Miss),
                true,
                credential,
            )
            .await
            .err()?;
        if let FetchFailure::Atlas(answer) = &error.reason {
            // The user does not exist, or is of another kind: Atlas has looked for us.
            let looked = matches!(answer.status.as_u16(), 400 | 404);
            // No token reads a project that nobody has.
            let expected = named.is_none() && answer.says_no_access();
            if looked || expected {
                return None;
            }
        }
        Some(error)
    }
}

const NOBODY: &str = "atlas-cert-gateway-check";
const NOBODYS_PROJECT: &str = "000000000000000000000000";
