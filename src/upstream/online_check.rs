//! Whether a credential works: it goes in and is tried on one page; what Atlas has against it comes
//! out.

use std::sync::Arc;

use super::credential::Credential;
use super::{FetchError, FetchErrorKind, Inner, Urgency};
use crate::atlas::{CertQuery, ProjectId};
use crate::telemetry::metrics::upstream::CallCause;

/// What became of trying a credential.
#[derive(Clone, Debug)]
pub struct OnlineCheck {
    /// Its configured name.
    pub credential: Arc<str>,
    /// On what it was tried.
    pub tried: Tried,
    /// What is wrong; `None` if Atlas accepts it.
    pub problem: Option<FetchError>,
}

/// On what a credential was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// On no project that anybody names: that it is known is all that can be told.
    Nothing,
    /// On this project.
    Project(ProjectId),
    /// On this one, which Atlas does not know.
    UnknownProject(ProjectId),
}

impl Inner {
    pub(super) async fn try_out(
        &self,
        credential: &Credential,
        project: Option<ProjectId>,
    ) -> Option<OnlineCheck> {
        let query = CertQuery {
            project: project.or_else(|| NOBODYS_PROJECT.parse().ok())?,
            username: NOBODY.parse().ok()?,
        };
        let mut check = OnlineCheck {
            credential: Arc::clone(&credential.name),
            tried: project.map_or(Tried::Nothing, Tried::Project),
            problem: None,
        };
        let reason = (Urgency::Miss, CallCause::Miss);
        let Err(error) = self.list(&query, reason, true, credential).await else {
            return Some(check);
        };
        if let FetchErrorKind::Atlas(answer) = &error.reason {
            let code = answer.error_code.as_deref().unwrap_or_default();
            // The user does not exist, or is of another kind: Atlas has looked for us.
            let looked = matches!(answer.status.as_u16(), 400 | 404);
            match project {
                Some(project) if looked && code.contains("GROUP") => {
                    check.tried = Tried::UnknownProject(project);
                }
                Some(_) if looked => return Some(check),
                // No token reads a project that nobody has.
                None if looked || answer.says_no_access() => return Some(check),
                Some(_) | None => {}
            }
        }
        check.problem = Some(error);
        Some(check)
    }
}

const NOBODY: &str = "atlas-cert-gateway-check";
const NOBODYS_PROJECT: &str = "000000000000000000000000";
