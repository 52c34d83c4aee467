//! The deny list, for an emergency: what is denied at once, whatever the rules say.
//!
//! A line of its file names what is denied and its value, such as `sub payments-api`; the value goes to the end of
//! the line. Empty lines and those that begin with `#` say nothing. Where a `#` stands behind a blank, what is before
//! it is denied as well as the whole: it is mostly a remark. Lines that cannot be read spoil no other.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::identity::Caller;

/// Who is denied, whatever the rules say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList(HashMap<ListedBy, HashSet<Box<str>>>);

/// By what a caller is on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListedBy {
    /// `sub`.
    Subject,
    /// `client_id`.
    ClientId,
    /// The token's `jti`.
    TokenId,
    /// The `kid` of the key that signed the token.
    KeyId,
}

/// A line that names nothing that can be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    pub(crate) number: usize,
}

impl DenyList {
    /// Reads a list. The lines that cannot be read come with it.
    pub(crate) fn parse(text: &str) -> (Self, Vec<BadLine>) {
        let (mut list, mut bad) = (Self::default(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = line.split_once(char::is_whitespace);
            let entry =
                entry.and_then(|(kind, value)| Some((ListedBy::named(kind)?, value.trim())));
            // Of another form, such as `sub = "payments-api"`, it would deny a caller of that very name.
            match entry.filter(|(_, value)| !value.starts_with(['=', ':', '"', '\''])) {
                Some((kind, value)) => {
                    let names = list.0.entry(kind).or_default();
                    if let Some((before, _)) = value.split_once(" #") {
                        names.insert(Box::from(before.trim_end()));
                    }
                    names.insert(Box::from(value));
                }
                None => bad.push(BadLine { number }),
            }
        }
        (list, bad)
    }

    pub(crate) fn find(&self, caller: &Caller) -> Option<ListedBy> {
        let claims = [
            (ListedBy::Subject, Some(&caller.subject)),
            (ListedBy::ClientId, caller.client_id.as_ref()),
            (ListedBy::TokenId, caller.token_id.as_ref()),
            (ListedBy::KeyId, caller.key_id.as_ref()),
        ];
        let mut claims = claims.into_iter();
        claims.find_map(|(kind, name)| self.0.get(&kind)?.contains(name?).then_some(kind))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }
}

impl ListedBy {
    fn named(word: &str) -> Option<Self> {
        let all = [Self::Subject, Self::ClientId, Self::TokenId, Self::KeyId];
        all.into_iter().find(|kind| kind.word() == word)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Subject => "sub",
            Self::ClientId => "client_id",
            Self::TokenId => "jti",
            Self::KeyId => "kid",
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Subject => "its sub is on the deny list",
            Self::ClientId => "its client_id is on the deny list",
            Self::TokenId => "its jti is on the deny list",
            Self::KeyId => "its kid is on the deny list",
        }
    }

    /// Whether it is the token that is not to be believed any more, rather than its owner who is denied.
    pub(crate) fn is_of_token(self) -> bool {
        matches!(self, Self::TokenId | Self::KeyId)
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {} is none of `sub NAME`, `client_id NAME`, `jti ID` and `kid ID`",
            self.number
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::caller;

    #[test]
    fn each_kind_of_line_denies_what_it_names_and_bad_ones_spoil_nothing() {
        let text = "# of the night\n\nsub  payments api\r\nclient_id c\njti j\nkid\tk\nsubject x\nsub\nsub \n\
                    sub = a\nsub: a\nsub \"a\"\nsub remarked   # of the night\n";
        let (list, bad) = DenyList::parse(text);
        assert_eq!(list.len(), 6);
        let numbers: Vec<usize> = bad.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [7, 8, 9, 10, 11, 12]);
        let listed =
            |subject: &str, client: Option<&str>, token: Option<&str>, key: Option<&str>| {
                let mut asking = caller(subject);
                asking.client_id = client.map(Box::from);
                asking.token_id = token.map(Box::from);
                asking.key_id = key.map(Box::from);
                list.find(&asking)
            };
        for (found, expected) in [
            (
                listed("payments api", None, None, None),
                Some(ListedBy::Subject),
            ),
            (
                listed("remarked", None, None, None),
                Some(ListedBy::Subject),
            ),
            (
                listed("payments", Some("c"), None, None),
                Some(ListedBy::ClientId),
            ),
            (
                listed("a", Some("j"), Some("j"), None),
                Some(ListedBy::TokenId),
            ),
            (listed("a", None, None, Some("k")), Some(ListedBy::KeyId)),
            (listed("c", Some("k"), Some("c"), Some("j")), None),
        ] {
            assert_eq!(found, expected);
        }
        assert_eq!(DenyList::parse("").0.len(), 0);
    }
}
