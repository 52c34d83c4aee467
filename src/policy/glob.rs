//! Glob patterns of access rules, matched exactly and in linear time.
//!
//! `*` is any run of bytes, also none. Everything else is literal, `?`, `.` and `\` too; there is no escape, and
//! nothing is folded or normalised. In a rule's `usernames`, `{subject}` and `{client_id}` are the caller's own,
//! taken literally: a subject `*` fits the username `*` and no other.

use crate::identity::Caller;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// At least one. What is between two of them may be anything.
    parts: Box<[Box<str>]>,
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        Self {
            parts: pattern.split('*').map(Box::from).collect(),
        }
    }

    /// Whether all of `text` fits.
    ///
    /// The first place where a middle part fits leaves the most for what follows, so no place is tried twice.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (head, middle, tail) = match &*self.parts {
            [head, middle @ .., tail] => (head, middle, tail),
            [only] => return **only == *text,
            [] => unreachable!("to split gives at least one part"),
        };
        let mut rest = text;
        // Empty parts are not compared: that costs more than it looks, and most patterns have one.
        if !head.is_empty() {
            match rest.strip_prefix(&**head) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        if !tail.is_empty() {
            match rest.strip_suffix(&**tail) {
                Some(before) => rest = before,
                None => return false,
            }
        }
        middle.iter().filter(|part| !part.is_empty()).all(|part| {
            let found = rest.split_once(&**part);
            rest = found.map_or("", |(_, after)| after);
            found.is_some()
        })
    }

    pub(super) fn is_everything(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(|part| part.is_empty())
    }

    /// The pattern for one caller: with its own names in the place of the placeholders. `None` if it has no such
    /// name, as most tokens have no client; then nothing fits.
    pub(super) fn filled_for(&self, caller: &Caller) -> Option<Self> {
        let parts = self.parts.iter().map(|part| fill(part, caller));
        Some(Self {
            parts: parts.collect::<Option<_>>()?,
        })
    }
}

pub(super) fn has_placeholders(pattern: &str) -> bool {
    PLACEHOLDERS.iter().any(|name| pattern.contains(name))
}

/// The words in braces in `pattern` that stand for nothing.
pub(super) fn unknown_placeholders(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('{').skip(1).filter_map(|rest| {
        let (word, _) = rest.split_once('}')?;
        let is_letter = |byte| byte == b'_' || u8::is_ascii_alphabetic(&byte);
        let is_word = !word.is_empty() && word.bytes().all(is_letter);
        (is_word && !["subject", "client_id"].contains(&word)).then_some(word)
    })
}

/// Puts the caller's own names into one part. What they hold is not looked into for placeholders again.
fn fill(part: &str, caller: &Caller) -> Option<Box<str>> {
    let [subject, client_id] = PLACEHOLDERS;
    let (mut filled, mut rest) = (String::new(), part);
    while let Some((before, from)) = rest.find('{').map(|at| rest.split_at(at)) {
        filled.push_str(before);
        if let Some(after) = from.strip_prefix(subject) {
            filled.push_str(&caller.subject);
            rest = after;
        } else if let Some(after) = from.strip_prefix(client_id) {
            filled.push_str(caller.client_id.as_deref()?);
            rest = after;
        } else {
            filled.push('{');
            rest = from.strip_prefix('{').expect("a brace was found there");
        }
    }
    filled.push_str(rest);
    Some(filled.into_boxed_str())
}

const PLACEHOLDERS: [&str; 2] = ["{subject}", "{client_id}"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::tests::caller;

    /// What a pattern means, word for word: exponential, and plain to see.
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
            Some((byte, rest)) => text.first() == Some(byte) && fits(rest, &text[1..]),
        }
    }

    #[test]
    fn a_pattern_means_exactly_what_it_says() {
        for (pattern, text, expected) in [
            ("CN=app-*", "CN=app-1", true),
            ("CN=app-*", "CN=app-", true),
            ("CN=app-*", "CN=app-/../x", true),
            ("CN=app-*", "CN=APP-1", false),
            ("CN=app-*", "xCN=app-1", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            (".*", "x", false),
            ("[a]", "a", false),
            ("ab*ba", "aba", false),
            ("*a*a*", "a", false),
            ("*ü*", "Jürgen", true),
            ("*", "*", true),
            ("admin", "*", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_for_them() {
        // Naive backtracking would need more steps than there are atoms.
        let glob = Glob::new(&"*a".repeat(500));
        assert!(!glob.matches(&"a".repeat(499)));
        assert!(glob.matches(&"a".repeat(100_000)));
    }

    #[test]
    fn the_callers_own_names_are_taken_literally() {
        for (pattern, subject, client, text, expected) in [
            ("{subject}", "a", None, "a", true),
            ("{subject}", "a", None, "ab", false),
            ("{subject}", "*", None, "anything", false),
            ("{subject}", "*", None, "*", true),
            ("{subject}", "{client_id}", Some("c"), "c", false),
            ("{subject}", "{client_id}", Some("c"), "{client_id}", true),
            ("CN={subject},*", "a", None, "CN=a,OU=x", true),
            ("CN={subject},*", "a*", None, "CN=ab,OU=x", false),
            ("CN={subject},*", "a,OU=b", None, "CN=a,OU=b,OU=x", true),
            ("{client_id}-*", "a", Some("c"), "c-1", true),
            ("{client_id}-*", "a", None, "-1", false),
            ("*{client_id}*", "a", None, "", false),
            ("*{subject}*{subject}*", "aa", None, "aaa", false),
            ("*{subject}*{subject}*", "aa", None, "xaaaay", true),
            ("{subject}{client_id}", "a", Some("b"), "ab", true),
            ("{subject", "a", None, "{subject", true),
            ("{other}", "a", None, "{other}", true),
            ("{{subject}}", "a", None, "{a}", true),
            ("", "a", None, "", true),
        ] {
            let mut asking = caller(subject);
            asking.client_id = client.map(Box::from);
            let filled = Glob::new(pattern).filled_for(&asking);
            let found = filled.is_some_and(|glob| glob.matches(text));
            assert_eq!(found, expected, "{pattern} {subject} {client:?} {text}");
        }
    }

    #[test]
    fn only_words_that_stand_for_nothing_are_unknown() {
        let unknown = |text| unknown_placeholders(text).collect::<Vec<_>>();
        assert_eq!(unknown("{user}-{subject}-{clientid}"), ["user", "clientid"]);
        assert!(unknown("{subject}{client_id}{}{1}{a b}{open").is_empty());
    }

    proptest! {
        #[test]
        fn a_pattern_and_the_naive_matcher_agree(pattern in "[ab*?]{0,8}", text in "[ab?]{0,10}") {
            prop_assert_eq!(
                Glob::new(&pattern).matches(&text),
                fits(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
