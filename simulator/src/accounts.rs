//! Who may ask: service accounts and API keys, and the projects each may read.

use std::collections::BTreeSet;

/// An OAuth 2.0 service account.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// `mdb_sa_id_` and 24 hex digits.
    pub client_id: String,
    /// The secrets that are valid now. Atlas allows two, so that one can replace the other.
    pub client_secrets: Vec<String>,
    /// What its tokens may read.
    pub projects: Projects,
}

impl ServiceAccount {
    /// An account with one secret that may read every project.
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secrets: vec![client_secret.into()],
            projects: Projects::All,
        }
    }

    /// The same account, allowed to read only these projects.
    #[must_use]
    pub fn only(mut self, projects: &[&str]) -> Self {
        self.projects = Projects::only(projects);
        self
    }
}

/// A legacy API key, used with HTTP Digest.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The user name of Digest.
    pub public_key: String,
    /// Its password.
    pub private_key: String,
    /// What the key may read.
    pub projects: Projects,
}

impl ApiKey {
    /// A key that may read every project.
    pub fn new(public_key: impl Into<String>, private_key: impl Into<String>) -> Self {
        Self {
            public_key: public_key.into(),
            private_key: private_key.into(),
            projects: Projects::All,
        }
    }

    /// The same key, allowed to read only these projects.
    #[must_use]
    pub fn only(mut self, projects: &[&str]) -> Self {
        self.projects = Projects::only(projects);
        self
    }
}

/// A set of projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projects {
    /// Every project there is.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Projects {
    fn only(projects: &[&str]) -> Self {
        Self::Only(projects.iter().map(|&project| project.to_owned()).collect())
    }

    pub(crate) fn include(&self, project: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(projects) => projects.contains(project),
        }
    }
}
