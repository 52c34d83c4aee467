//! The rules of a set by what they speak of: a caller and a question go in, lists that name every rule that could
//! match come out.

use std::collections::HashMap;

use super::Rule;
use super::by_text::ByText;
use super::names::Projects;
use crate::atlas::{CertQuery, ProjectId};
use crate::identity::Caller;

/// The rules of a set by what they speak of.
#[derive(Debug)]
pub(super) struct Index {
    subjects: ByText,
    usernames: ByText,
    projects: HashMap<ProjectId, Vec<u32>>,
    all_projects: Vec<u32>,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let numbered = || (0..).zip(rules);
        let subjects = numbered().flat_map(|(number, rule)| {
            let patterns = rule.subjects.list.iter();
            patterns.map(move |glob| (number, glob))
        });
        let usernames = numbered().flat_map(|(number, rule)| {
            let patterns = rule.usernames.list.iter();
            patterns.map(move |pattern| (number, pattern.glob()))
        });
        let mut index = Self {
            subjects: ByText::new(subjects),
            usernames: ByText::new(usernames),
            projects: HashMap::new(),
            all_projects: Vec::new(),
        };
        for (number, rule) in (0..).zip(rules) {
            match &rule.projects {
                Projects::All => index.all_projects.push(number),
                Projects::These(ids) => {
                    for id in ids {
                        index.projects.entry(*id).or_default().push(number);
                    }
                }
            }
        }
        index
    }

    /// The lists that together name every rule that could match: the shortest of three ways.
    pub(super) fn for_each_list(
        &self,
        caller: &Caller,
        query: &CertQuery,
        mut visit: impl FnMut(&[u32]),
    ) {
        let of_project = self
            .projects
            .get(&query.project)
            .map_or(&[][..], Vec::as_slice);
        let username = query.username.as_str();
        let by_project = of_project.len() + self.all_projects.len();
        let by_subject = self.subjects.count(&caller.subject);
        let by_username = self.usernames.count(username);
        if by_project <= by_subject && by_project <= by_username {
            visit(of_project);
            visit(&self.all_projects);
        } else if by_subject <= by_username {
            self.subjects.for_each_list(&caller.subject, visit);
        } else {
            self.usernames.for_each_list(username, visit);
        }
    }
}
