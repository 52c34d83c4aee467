//! A question as the memory keeps it: in one piece, so that a small list does not cost three
//! allocations for its name.

use std::hash::{Hash, Hasher};

use equivalent::Equivalent;

use super::index::IndexKey;
use crate::atlas::{CertQuery, ProjectId};

/// Says of a project and a user whether a purge leaves theirs as it is.
pub(super) type Stays<'s> = dyn Fn(&str, &str) -> bool + 's;

/// A key of the memory. Equal keys are equal questions and the reverse (C13).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) project: ProjectId,
    pub(super) name: Name,
}

/// A username, in place where it is short, as nearly all are.
#[derive(Debug)]
pub(super) enum Name {
    Long(Box<str>),
    Short { length: u8, bytes: [u8; SHORT] },
}

impl Key {
    pub(super) fn of(query: &CertQuery) -> Self {
        Self {
            project: query.project,
            name: Name::of(query.username.as_str()),
        }
    }

    /// The same key as the index has it.
    pub(super) fn stored(&self) -> IndexedKey<'_> {
        IndexedKey {
            project: self.project,
            name: self.name.bytes(),
        }
    }
}

impl Name {
    fn of(name: &str) -> Self {
        let mut bytes = [0; SHORT];
        let length = u8::try_from(name.len()).ok();
        match (length, bytes.get_mut(..name.len())) {
            (Some(length), Some(place)) => {
                place.copy_from_slice(name.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    /// How many bytes stand elsewhere.
    pub(super) fn long(&self) -> usize {
        match self {
            Self::Long(name) => name.len(),
            Self::Short { .. } => 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Long(name) => name.as_bytes(),
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Name {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.project, self.name.bytes(), state);
    }
}

impl Equivalent<Key> for QueryKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0.project == key.project && self.0.username.as_str().as_bytes() == key.name.bytes()
    }
}

/// A question that is looked for; hashes like its [`Key`].
#[derive(Clone, Copy)]
pub(super) struct QueryKey<'q>(pub(super) &'q CertQuery);

impl Hash for QueryKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.0.project, self.0.username.as_str().as_bytes(), state);
    }
}

/// A key as the index has it; hashes like its [`Key`].
#[derive(Clone, Copy)]
pub(super) struct IndexedKey<'k> {
    project: ProjectId,
    name: &'k [u8],
}

impl<'k> IndexedKey<'k> {
    pub(super) fn of(query: &'k CertQuery) -> Self {
        Self {
            project: query.project,
            name: query.username.as_str().as_bytes(),
        }
    }

    /// Reads what [`IndexedKey::index_key`] has written; `None` for anything else.
    pub(super) fn read(key: &'k [u8]) -> Option<Self> {
        let (digits, name) = key.split_at_checked(DIGITS)?;
        Some(Self {
            project: str::from_utf8(digits).ok()?.parse().ok()?,
            name,
        })
    }

    /// Whether the key is one of which `stays` says so.
    pub(super) fn is_of(&self, stays: &Stays<'_>) -> bool {
        str::from_utf8(self.name).is_ok_and(|name| stays(self.project.as_str(), name))
    }

    pub(super) fn index_key(&self) -> IndexKey {
        [self.project.digits(), self.name].concat().into()
    }
}

impl Hash for IndexedKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.project, self.name, state);
    }
}

impl Equivalent<Key> for IndexedKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.project == key.project && self.name == key.name.bytes()
    }
}

fn hash<H: Hasher>(project: &ProjectId, name: &[u8], state: &mut H) {
    project.hash(state);
    name.hash(state);
}

/// Of a project.
const DIGITS: usize = 24;
/// So that a key is 72 bytes, and its place in the memory 88.
const SHORT: usize = 46;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_found_by_its_question_and_by_no_other(
            one in "[a-b]{1,3}[é]{0,30}", other in "[a-b]{1,3}[é]{0,30}", same_project: bool,
        ) {
            let query = |name: &str, project: &str| CertQuery {
                project: project.parse().unwrap(),
                username: name.parse().unwrap(),
            };
            let first = "32b6e34b3d91647abb20e7b8";
            let second = if same_project { first } else { "32b6e34b3d91647abb20e7b9" };
            let (one, other) = (query(&one, first), query(&other, second));
            let (key, hasher) = (Key::of(&one), RandomState::new());
            let index_key = key.stored().index_key();
            let stored = IndexedKey::read(&index_key).unwrap();
            prop_assert!(stored.equivalent(&key));
            prop_assert_eq!(hasher.hash_one(&key), hasher.hash_one(stored));
            prop_assert_eq!(stored.equivalent(&Key::of(&other)), one == other);
            prop_assert_eq!(IndexedKey::of(&one).index_key(), index_key.clone());
            prop_assert_eq!(hasher.hash_one(&key), hasher.hash_one(QueryKey(&one)));
            prop_assert_eq!(QueryKey(&other).equivalent(&key), one == other);
            prop_assert_eq!(Key::of(&other) == key, one == other);
        }
    }

    #[test]
    fn a_key_is_no_larger_than_it_says() {
        assert_eq!(size_of::<Key>(), 72);
    }
}
