//! Names of what lies in the engine. Projects are in clear, usernames are not: only a hash that takes the fleet's
//! key. All keys of a function are of one slot of a cluster, which the braces say.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use crate::atlas::{CertQuery, ProjectId};
use crate::system::hex;

/// The names of one fleet.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `acg1:<fleet>:`; fleets of another name, or in front of another Atlas, never meet.
    prefix: String,
    usernames: hmac::Key,
}

/// The names of what is kept of one list.
#[derive(Clone, Debug)]
pub(super) struct ListNames {
    pub(super) entry: String,
    pub(super) lease: String,
    pub(super) purges: String,
    /// What is rung when its fetch has ended.
    pub(super) bell: String,
}

impl Names {
    /// `scope` is what tells this fleet from others.
    pub(super) fn new(scope: &[&str], usernames: hmac::Key) -> Self {
        let hash = digest(&SHA256, scope.join("\0").as_bytes());
        Self {
            prefix: format!("acg1:{}:", hex(hash.as_ref(), 6)),
            usernames,
        }
    }

    pub(super) fn list(&self, query: &CertQuery) -> ListNames {
        let name = hmac::sign(&self.usernames, query.username.as_str().as_bytes());
        let name = hex(name.as_ref(), 16);
        let of_project = self.of_project(&query.project, "");
        ListNames {
            entry: format!("{of_project}e:{name}"),
            lease: format!("{of_project}l:{name}"),
            purges: format!("{of_project}p"),
            bell: format!("{}:{name}", query.project),
        }
    }

    /// Where the failure of a fetch is kept for those who wait for it.
    pub(super) fn failure(&self, project: &ProjectId, lease: &str) -> String {
        self.of_project(project, &format!("r:{lease}"))
    }

    pub(super) fn purges(&self, project: &ProjectId) -> String {
        self.of_project(project, "p")
    }

    pub(super) fn of_project(&self, project: &ProjectId, what: &str) -> String {
        format!("{}{{{project}}}:{what}", self.prefix)
    }

    /// Of a service account.
    pub(super) fn of_account(&self, client_id: &str, what: &str) -> String {
        format!("{}{{{client_id}}}:{what}", self.prefix)
    }

    /// Of a caller's allowance, all of which are of one slot.
    pub(super) fn of_allowance(&self, account: &[u8; 16]) -> String {
        format!(
            "{}{{callers}}:a:{}",
            self.prefix,
            hex(account, account.len())
        )
    }

    /// What stands for a text whose words nobody is to read there.
    pub(super) fn hash(&self, text: &[u8]) -> [u8; 16] {
        let hash = hmac::sign(&self.usernames, text);
        *hash
            .as_ref()
            .first_chunk()
            .expect("a signature has 32 bytes")
    }

    pub(super) fn of_fleet(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }
}
