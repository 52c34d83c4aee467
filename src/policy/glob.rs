//! Patterns: a text with stars goes in, an exact answer comes out, in linear time.
//!
//! `*` stands for any run of bytes, also none. Everything else stands for itself, `?`, `.` and `\`
//! too; there is no escape, so a star cannot be asked for literally. Nothing is folded or normalised.

/// A pattern, taken apart at its stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// What the text begins with; all of it if there is no star.
    head: Box<str>,
    /// What must come in between, in this order. None of it is empty.
    middle: Box<[Box<str>]>,
    /// What the text ends with; `None` if there is no star.
    tail: Option<Box<str>>,
}

/// What a text must have for a pattern to be worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Anchor<'a> {
    /// This and no more.
    Exact(&'a str),
    /// This somewhere.
    Piece(&'a str),
    /// This at its beginning.
    Prefix(&'a str),
    /// This at its end.
    Suffix(&'a str),
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        let parts: Vec<&str> = pattern.split('*').collect();
        Self::of_parts(&parts)
    }

    /// The pattern of these texts with a star between each two. A star within one of them is a letter.
    pub(super) fn of_parts(parts: &[impl AsRef<str>]) -> Self {
        let mut parts = parts.iter().map(AsRef::as_ref);
        let head = parts.next().unwrap_or_default();
        let tail = parts.next_back();
        Self {
            head: Box::from(head),
            middle: parts
                .filter(|part| !part.is_empty())
                .map(Box::from)
                .collect(),
            tail: tail.map(Box::from),
        }
    }

    /// Whether all of `text` fits.
    ///
    /// The first place where a middle part fits leaves the most room for what follows, so no place is
    /// tried twice.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(tail) = &self.tail else {
            return *self.head == *text;
        };
        let mut rest = text;
        // What is empty is not compared: an empty box's address is one where no memory is, and to look at
        // none of its bytes there costs a processor with AVX-512 more than the rest of the decision.
        if !self.head.is_empty() {
            match rest.strip_prefix(&*self.head) {
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
        for part in &self.middle {
            match rest.split_once(&**part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }

    /// Whether everything fits.
    pub(super) fn is_everything(&self) -> bool {
        self.anchors().next().is_none()
    }

    /// All that is known of every text that fits; nothing, if everything fits.
    pub(super) fn anchors(&self) -> impl Iterator<Item = Anchor<'_>> {
        let (head, tail) = match &self.tail {
            None => (Some(Anchor::Exact(&self.head)), None),
            Some(tail) => (
                (!self.head.is_empty()).then_some(Anchor::Prefix(&self.head)),
                (!tail.is_empty()).then_some(Anchor::Suffix(tail)),
            ),
        };
        let middle = self.middle.iter().map(|part| Anchor::Piece(part));
        head.into_iter().chain(middle).chain(tail)
    }
}

impl<'a> Anchor<'a> {
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Exact(text) | Self::Piece(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn a_pattern_and_the_naive_matcher_agree(pattern in "[ab*?]{0,8}", text in "[ab?]{0,10}") {
            prop_assert_eq!(
                Glob::new(&pattern).matches(&text),
                fits(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn whatever_fits_has_all_the_anchors(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let glob = Glob::new(&pattern);
            prop_assert_eq!(glob.is_everything(), !pattern.is_empty() && !pattern.contains(['a', 'b']));
            prop_assume!(glob.matches(&text));
            for anchor in glob.anchors() {
                let has_it = match anchor {
                    Anchor::Exact(all) => text == all,
                    Anchor::Piece(part) => text.contains(part),
                    Anchor::Prefix(head) => text.starts_with(head),
                    Anchor::Suffix(tail) => text.ends_with(tail),
                };
                prop_assert!(has_it);
            }
        }
    }
}
