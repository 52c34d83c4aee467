//! What a gateway shows of itself: its records and its metrics.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{World, whole_lines};

impl World {
    /// How many connections were refused for a reason.
    pub(crate) async fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
            .await
    }

    /// A metric's value, by its name behind the prefix and with its labels; 0 if there is none.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let name = format!("atlas_cert_gateway_{name} ");
        let page = self.admin("GET", "/metrics", "", "").await.text();
        page.lines()
            .find_map(|line| line.strip_prefix(&name))
            .map_or(0, |count| count.parse().unwrap())
    }

    /// Every record of the audit trail, oldest first.
    pub(crate) fn records(&self) -> Vec<Value> {
        let lines = self.lines();
        let records = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        records.collect()
    }

    /// The same as they were written.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.files.path().join("audit"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            })
            .collect();
        files.sort();
        let lines = files.iter().flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let lines = whole_lines(&text).lines();
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        lines.collect()
    }

    /// The records of lookups, oldest first.
    pub(crate) fn lookups(&self) -> Vec<Value> {
        self.records()
            .into_iter()
            .filter(|record| record["kind"] == "lookup")
            .collect()
    }
}
