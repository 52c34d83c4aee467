//! `check --online`: whether a credential works, tried on one page of a user that need not exist.

use std::sync::Arc;

use super::Upstream;
use super::credential::Credential;
use super::error::{FetchError, FetchErrorKind, Urgency};
use super::fetch::FetchOptions;
use crate::atlas::{CertQuery, ProjectId};

/// What became of trying a credential.
#[derive(Clone, Debug)]
pub struct OnlineCheck {
    pub(crate) credential: Arc<str>,
    pub(crate) tried: Tried,
    /// What is wrong; `None` if Atlas accepts it.
    pub problem: Option<FetchError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// On no project that the configuration names: that it is known is all that can be told.
    Nothing,
    Project(ProjectId),
    /// On this one, which Atlas does not know.
    UnknownProject(ProjectId),
}

impl Upstream {
    /// Tries every credential: in the projects that it names in full, and in those of `projects` for which it
    /// is used. Where there is none, in one that cannot exist.
    pub async fn check_online(&self, projects: &[ProjectId]) -> Vec<OnlineCheck> {
        let mut checks = Vec::new();
        for credential in self.0.credentials.load_full().iter() {
            let is_its_own = |project: &ProjectId| {
                let used = self.0.credential(project);
                used.is_some_and(|used| Arc::ptr_eq(&used, credential))
            };
            let of_rules = projects.iter().copied();
            let named = credential.named_projects().chain(of_rules);
            let mut projects: Vec<ProjectId> = named.filter(is_its_own).collect();
            projects.sort_unstable();
            projects.dedup();
            if projects.is_empty() {
                checks.push(self.try_out(credential, None).await);
            }
            for project in projects {
                checks.push(self.try_out(credential, Some(project)).await);
            }
        }
        checks
    }

    async fn try_out(&self, credential: &Credential, project: Option<ProjectId>) -> OnlineCheck {
        let unknown = || UNKNOWN_PROJECT.parse().expect("24 digits are a project id");
        let query = CertQuery {
            project: project.unwrap_or_else(unknown),
            username: USERNAME.parse().expect("it is a username"),
        };
        let mut check = OnlineCheck {
            credential: Arc::clone(&credential.name),
            tried: project.map_or(Tried::Nothing, Tried::Project),
            problem: None,
        };
        let options = FetchOptions::from(Urgency::Miss);
        let Err(error) = self.fetch_by(&query, options, credential).await else {
            return check;
        };
        if let FetchErrorKind::Atlas(answer) = &error.reason {
            let code = answer.error_code.as_deref().unwrap_or("");
            // The user does not exist, or is of another kind: Atlas has looked for us.
            let looked = matches!(answer.status.as_u16(), 400 | 404);
            match project {
                Some(project) if looked && code.contains("GROUP") => {
                    check.tried = Tried::UnknownProject(project);
                }
                Some(_) if looked => return check,
                // No token reads a project that does not exist.
                None if looked || answer.says_no_access() => return check,
                Some(_) | None => {}
            }
        }
        check.problem = Some(error);
        check
    }
}

const USERNAME: &str = "atlas-cert-gateway-check";
const UNKNOWN_PROJECT: &str = "000000000000000000000000";
