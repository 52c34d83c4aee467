//! Patterns of usernames: a [`Glob`] in which `{subject}` and `{client_id}` stand for the caller's own.
//!
//! What stands in a token's claim is taken literally: a subject `*` fits the username `*` and no other. A
//! caller whose token names no client fits no pattern with `{client_id}`.

use super::glob::Glob;
use crate::identity::Caller;

/// A pattern as it stands in a rule's `usernames`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The pattern itself, or one that fits more: a star for each placeholder.
    glob: Glob,
    /// What the pattern is made of, if there is a placeholder in it.
    template: Option<Box<[Piece]>>,
}

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Placeholder(Placeholder),
    Star,
}

/// What is put into a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    ClientId,
    Subject,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let pieces = pieces(text);
        let is_template = pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Placeholder(_)));
        if !is_template {
            return Self {
                glob: Glob::new(text),
                template: None,
            };
        }
        let widened: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => &**text,
                Piece::Placeholder(_) | Piece::Star => "*",
            })
            .collect();
        Self {
            glob: Glob::new(&widened),
            template: Some(pieces.into_boxed_slice()),
        }
    }

    /// Whether all of `text` fits what the pattern means for `caller`.
    pub(super) fn matches(&self, text: &str, caller: &Caller) -> bool {
        self.glob.matches(text)
            && self
                .template
                .as_ref()
                .is_none_or(|pieces| matches_template(pieces, text, caller))
    }

    /// Whether everything fits, whoever asks.
    pub(super) fn is_everything(&self) -> bool {
        self.template.is_none() && self.glob.is_everything()
    }

    /// A pattern that every text fits that fits this one.
    pub(super) fn glob(&self) -> &Glob {
        &self.glob
    }
}

/// The words in braces in `text` that stand for nothing.
pub(super) fn unknown_placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (word, _) = rest.split_once('}')?;
        let is_word = !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphabetic());
        (is_word && Placeholder::named(word).is_none()).then_some(word)
    })
}

impl Placeholder {
    fn named(word: &str) -> Option<Self> {
        match word {
            "client_id" => Some(Self::ClientId),
            "subject" => Some(Self::Subject),
            _ => None,
        }
    }

    fn of(self, caller: &Caller) -> Option<&str> {
        match self {
            Self::ClientId => caller.client_id.as_deref(),
            Self::Subject => Some(&caller.subject),
        }
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let placeholder = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .and_then(|(word, after)| Some((Piece::Placeholder(Placeholder::named(word)?), after)));
        let special = match letter {
            '*' => rest.strip_prefix('*').map(|after| (Piece::Star, after)),
            _ => placeholder,
        };
        if let Some((piece, after)) = special {
            push_literal(&mut pieces, &mut literal);
            pieces.push(piece);
            rest = after;
        } else {
            literal.push(letter);
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    push_literal(&mut pieces, &mut literal);
    pieces
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into_boxed_str()));
    }
}

/// As [`Glob::matches`], with the caller's own text in the place of each placeholder.
fn matches_template(pieces: &[Piece], text: &str, caller: &Caller) -> bool {
    let mut parts = pieces.split(|piece| *piece == Piece::Star);
    let filled = |part: &[Piece]| -> Option<String> {
        part.iter()
            .map(|piece| match piece {
                Piece::Literal(literal) => Some(&**literal),
                Piece::Placeholder(placeholder) => placeholder.of(caller),
                // Parts are what stands between stars.
                Piece::Star => None,
            })
            .collect()
    };
    let filled: Option<Vec<String>> = parts.by_ref().map(filled).collect();
    filled.is_some_and(|parts| Glob::of_parts(&parts).matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::caller;

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
            let found = Pattern::new(pattern).matches(text, &asking);
            assert_eq!(found, expected, "{pattern} {subject} {client:?} {text}");
        }
    }

    #[test]
    fn only_words_that_stand_for_nothing_are_unknown() {
        let unknown = |text| unknown_placeholders(text).collect::<Vec<_>>();
        assert_eq!(unknown("{user}-{subject}-{clientid}"), ["user", "clientid"]);
        assert!(unknown("{subject}{client_id}{}{1}{a b}{open").is_empty());
    }
}
